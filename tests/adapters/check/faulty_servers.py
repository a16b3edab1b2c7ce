"""Faulty servers for the checks to find: one accepts everything, one refuses almost everything, one is scripted."""

import re
import ssl
from collections.abc import Mapping

import trustme

from tests.adapters.peers import Peer, Serve
from tests.playbook import offer

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
trustme.CA().issue_cert("127.0.0.1").configure_cert(CONTEXT)

_ANY_LINE_END = re.compile(rb"\r?\n|\r(?!\n)")
_ANY_END = re.compile(rb"[\r\n]+ ?\.[ .\r\n\0]+|\0|[\x0b\x0c]\.|\xc2\x85\.|\xe2\x80\xa8\.|(?<=t)\.\r\n")

_OFFERED = (
    "SIZE 70000",
    "PIPELINING",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "STARTTLS",
    "AUTH PLAIN LOGIN",
    "ENHANCEDSTATUSCODES",
)


def accept_everything(peer: Peer, *, hides_auth: bool = False) -> None:
    """Accept every line as a command, and take every dot for the end of a message."""
    offered = [keyword for keyword in _OFFERED if not (hides_auth and keyword.startswith("AUTH"))]
    hello = "".join(f"250-{text}\n" for text in ("<hello>", *offered, "HELP", "=")) + "250 HELP\n"
    replies = {
        **dict.fromkeys(("EHLO", "LHLO", "HELO"), hello),
        "VRFY": "500 what\n550 what again\n",
        "AUTH": "535 no\n" if hides_auth else "235 come in\n",
    }
    whole = {"AUTH PLAIN": "334 \n", "VRFY": "250 yes\n", "QUIT": "221 bye\n250 still here\n"}
    peer.send(b"220 <hello>\n")
    mistakes = 0
    while True:
        line = peer.until(_ANY_LINE_END, 8192).decode("latin-1").upper()
        mistakes += line.startswith("XSMT")
        if line.startswith("DATA"):
            peer.send(b"354 go\n")
            accept_body(peer)
        elif line.startswith("STARTTLS"):
            peer.send(b"220 go\n")
            peer.start_tls(CONTEXT)
        elif line.startswith("XSMT"):
            peer.send(b"421 enough\n" if mistakes > 3 else b"250-fine\n251 " + b"x" * 600 + b"\n")
        else:
            peer.send((whole.get(line) or replies.get(line[:4]) or "250 fine\n").encode())


def accept_body(peer: Peer) -> None:
    body = peer.until(_ANY_END)
    if max(map(len, body.split(b"\r\n"))) > 16_000:
        peer.input = b"NOOP\r\n"
    peer.send(b"250 taken\n" if b"\r\n\r\n" in body else b"554 no header\n554 really\n")


def refuse_almost_everything(peer: Peer) -> None:
    """Accept only the commands that begin a message, in their usual form, and refuse all others."""
    peer.send(b"220 s.example\r\n")
    greeted = False
    used: set[bytes] = set()
    while True:
        line = peer.until(re.compile(rb"\r\n"))
        if line.split()[:1] in ([b"EHLO"], [b"LHLO"]) and b"[" not in line and not greeted:
            greeted = True
            peer.send(offer(*_OFFERED[:-1], "HELP"))
        elif (
            re.fullmatch(rb"MAIL FROM:<a@c\.example>( BODY=[A-Z0-9]+)?|RCPT TO:<b@s\.example>", line)
            and line not in used
        ):
            used.add(line)
            peer.send(b"250 very well\r\n")
        elif line == b"DATA":
            peer.send(b"354 if it must be\r\n")
            peer.until(re.compile(rb"\r\n\.\r\n|^\.\r\n"))
            peer.send(b"554 no\r\n")
        elif line == b"STARTTLS":
            peer.send(b"220 go\r\n")
            peer.start_tls(CONTEXT)
            greeted = False
        elif line.startswith(b"BDAT"):
            peer.send(b"554 no\r\n")
            peer.until(re.compile(rb"$"))
        elif line == b"QUIT":
            peer.send(b"221 gladly\r\n")
            return
        else:
            peer.send(b"500 no\r\n")


_HARMLESS = {"NOOP": b"250 fine\r\n", "VRFY": b"252 perhaps\r\n", "XSMT": b"500 what\r\n"}


def object_to_variants(peer: Peer) -> None:
    """Accept every command and message in its plain form, and refuse each variant of this form."""
    peer.send(b"220 s.example\r\n")
    recipients = messages = 0
    is_lmtp = is_confused = False
    while True:
        line = peer.until(re.compile(rb"\r\n")).decode("latin-1")
        verb = line[:4].upper()
        if verb in ("EHLO", "LHLO"):
            is_lmtp = verb == "LHLO"
            peer.send(offer(*_OFFERED))
        elif verb == "MAIL":
            recipients = 0
            peer.send(b"250 fine\r\n" if len(line) < 60 else b"501 5.1.7 too long\r\n")
        elif verb in _HARMLESS:
            is_confused = True
            peer.send(_HARMLESS[verb])
        elif verb == "RCPT" and is_confused:
            peer.send(b"503 MAIL first\r\n")
        elif verb == "RCPT" and line.endswith(">"):
            recipients += 1
            peer.send(b"250 fine\r\n" if is_lmtp or recipients == 1 else b"452 4.5.3 too many recipients\r\n")
        elif verb == "DATA":
            peer.send(b"354 go\r\n")
            body = peer.until(re.compile(rb"^\.\r\n|\r\n\.\r\n"))
            messages += 1
            is_plain = not body or b"check: control" in body or (b"check: seq-two-messages" in body and messages == 1)
            peer.send(b"250 taken\r\n" * (3 if is_lmtp else 1) if is_plain else b"500 5.6.0 what\r\n")
        else:
            peer.send(b"221 bye\r\n" if verb == "QUIT" else b"500 no\r\n")


def scripted(replies: Mapping[str, str]) -> Serve:
    """Return a server that answers by the first word of each line; the empty word stands for the greeting.

    A word missing from `replies` gets 250, and an empty reply closes the connection.
    """

    def serve(peer: Peer) -> None:
        reply = replies.get("", "220 s.example\r\n")
        while reply:
            peer.send(reply.encode())
            line = peer.until(re.compile(rb"\r\n"))
            verb = line.decode("latin-1").partition(" ")[0].upper()
            reply = replies.get(verb, "221 bye\r\n" if verb == "QUIT" else "250 s.example\r\n")

    return serve
