"""Faulty servers for the checks to find: one accepts everything, one refuses almost everything, one is scripted."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import trustme

from smtpcore_adapters import Address

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
trustme.CA().issue_cert("127.0.0.1").configure_cert(CONTEXT)

Serve = Callable[["Peer"], None]


class Peer:
    """The server's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.input = b""

    def send(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def until(self, end: re.Pattern[bytes], most: int = 1_000_000) -> bytes:
        """Return the octets before the first match of `end`, at most `most`. Raises `EOFError`."""
        while not (match := end.search(self.input)) and len(self.input) < most:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self.input += data

        cut, rest = (match.start(), match.end()) if match and match.start() < most else (most, most)
        taken, self.input = self.input[:cut], self.input[rest:]
        return taken

    def start_tls(self) -> None:
        self.socket = CONTEXT.wrap_socket(self.socket, server_side=True)


@contextmanager
def serving(serve: Serve) -> Iterator[Address]:
    """Call `serve` for each client, in a new thread."""
    connections: list[socket.socket] = []

    def session_for(connection: socket.socket) -> None:
        peer = Peer(connection)
        with suppress(OSError, EOFError):
            serve(peer)
        peer.socket.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=session_for, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield Address(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


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
    peer.send("220 <hello>\n")
    mistakes = 0
    while True:
        line = peer.until(_ANY_LINE_END, 8192).decode("latin-1").upper()
        mistakes += line.startswith("XSMT")
        if line.startswith("DATA"):
            peer.send("354 go\n")
            accept_body(peer)
        elif line.startswith("STARTTLS"):
            peer.send("220 go\n")
            peer.start_tls()
        elif line.startswith("XSMT"):
            peer.send("421 enough\n" if mistakes > 3 else "250-fine\n251 " + "x" * 600 + "\n")
        else:
            peer.send(whole.get(line) or replies.get(line[:4]) or "250 fine\n")


def accept_body(peer: Peer) -> None:
    body = peer.until(_ANY_END)
    if max(map(len, body.split(b"\r\n"))) > 16_000:
        peer.input = b"NOOP\r\n"
    peer.send("250 taken\n" if b"\r\n\r\n" in body else "554 no header\n554 really\n")


def refuse_almost_everything(peer: Peer) -> None:
    """Accept only the commands that begin a message, in their usual form, and refuse all others."""
    peer.send("220 s.example\r\n")
    greeted = False
    used: set[bytes] = set()
    while True:
        line = peer.until(re.compile(rb"\r\n"))
        if line.split()[:1] in ([b"EHLO"], [b"LHLO"]) and b"[" not in line and not greeted:
            greeted = True
            peer.send("".join(f"250-{text}\r\n" for text in ("s.example", *_OFFERED[:-1])) + "250 HELP\r\n")
        elif (
            re.fullmatch(rb"MAIL FROM:<a@c\.example>( BODY=[A-Z0-9]+)?|RCPT TO:<b@s\.example>", line)
            and line not in used
        ):
            used.add(line)
            peer.send("250 very well\r\n")
        elif line == b"DATA":
            peer.send("354 if it must be\r\n")
            peer.until(re.compile(rb"\r\n\.\r\n|^\.\r\n"))
            peer.send("554 no\r\n")
        elif line == b"STARTTLS":
            peer.send("220 go\r\n")
            peer.start_tls()
            greeted = False
        elif line.startswith(b"BDAT"):
            peer.send("554 no\r\n")
            peer.until(re.compile(rb"$"))
        elif line == b"QUIT":
            peer.send("221 gladly\r\n")
            return
        else:
            peer.send("500 no\r\n")


def scripted(replies: Mapping[str, str]) -> Serve:
    """Return a server that answers by the first word of each line; the empty word stands for the greeting.

    A word missing from `replies` gets 250, and an empty reply closes the connection.
    """

    def serve(peer: Peer) -> None:
        reply = replies.get("", "220 s.example\r\n")
        while reply:
            peer.send(reply)
            line = peer.until(re.compile(rb"\r\n"))
            verb = line.decode("latin-1").partition(" ")[0].upper()
            reply = replies.get(verb, "221 bye\r\n" if verb == "QUIT" else "250 s.example\r\n")

    return serve
