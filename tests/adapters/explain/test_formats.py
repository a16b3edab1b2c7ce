"""Outputs of mail programs are read, any other text is declined, and neither can use up memory or show secrets."""

import random
import tracemalloc
from pathlib import Path

import pytest

from smtpcore_adapters.cli import main
from smtpcore_adapters.explain import MAX_OCTETS, Explained, Unreadable, explain, join, read
from tests.adapters.explain.dialogues import explained, found

SECRET = "AHRpbQBzZWNyZXQ="
DIALOGUE = f"""S 220 mx.example ESMTP
C EHLO c.example
S 250-mx.example
S 250 AUTH PLAIN
C AUTH PLAIN {SECRET}
S 235 2.7.0 Welcome
C MAIL FROM:<a@c.example>
S 250 2.1.0 OK
C RCPT TO:<b@s.example>
S 250 2.1.5 OK
C DATA
S 354 Go on
C Subject: {"x" * 70}
C
C .. S: 250 C: QUIT
C .
S 250 2.0.0 Accepted
C QUIT
S 221 2.0.0 Bye"""
LINES = [(line[0], line[2:]) for line in DIALOGUE.split("\n")]


def with_prefixes(client: str, server: str) -> str:
    return "\n".join((client if side == "C" else server) + text for side, text in LINES)


def literals(time: str = "") -> str:
    sent = [
        f"{time}{'send' if side == 'C' else 'reply'}: {(text + chr(13) + chr(10)).encode()!r}" for side, text in LINES
    ]
    return "\n".join([f"{time}connect: to ('127.0.0.1', 25) None", *sent, f"{time}reply: retcode (221); Msg: b'Bye'"])


def nodemailer() -> str:
    before = "[2026-01-01 12:00:00] DEBUG [uXkqQhUEXh8] "
    lines = [f"{before}{side}: {text}" for side, text in LINES if text and "Subject" not in text and ".." not in text]
    return "\n".join(["[2026-01-01 12:00:00] INFO  [uXkqQhUEXh8] Connection established", *lines])


def phpmailer(separator: str = "\t") -> str:
    lines = [
        f"2026-01-01 12:00:00{separator}{'CLIENT -> SERVER' if side == 'C' else 'SERVER -> CLIENT'}: {text}".rstrip()
        for side, text in LINES
    ]
    indented = " " * 19 + "\t" + " " * 18
    lines = [indented + line.partition("CLIENT: ")[2] if "250 AUTH" in line else line for line in lines]
    return "\n".join(["2026-01-01 12:00:00 Connection: opening to mx.example:25, timeout=300", *lines])


def trace(*, is_hex: bool, time: str = "", sends_end: bool = False) -> str:
    text = [f"{time}== Info:   Trying 127.0.0.1:25...", f"{time}== Info: Connected to 127.0.0.1"]
    body = b""
    for side, line in LINES:
        octets = line.encode() + b"\r\n"
        if side == "C" and (body or line.startswith("Subject")) and (line != "." or sends_end):
            body += octets
        if side == "C" and (body or line == "."):
            if line != ".":
                continue
            octets, body = body, b""
            text += [f"{time}=> Send data, {len(octets)} bytes (0x{len(octets):x})", *dump(octets, is_hex=is_hex)]
            text += [f"{time}=> Send SSL data, 1 bytes (0x1)", *dump(b"\x17", is_hex=is_hex)]
            continue

        heading = "=> Send" if side == "C" else "<= Recv"
        text += [f"{time}{heading} header, {len(octets)} bytes (0x{len(octets):x})", *dump(octets, is_hex=is_hex)]

    return "\n".join([*text, f"{time}== Info: Connection #0 to host 127.0.0.1 left intact"])


def dump(octets: bytes, *, is_hex: bool) -> list[str]:
    if is_hex:
        rows = [(at, octets[at : at + 16]) for at in range(0, len(octets), 16)]
        return [
            f"{at:04x}: {row.hex(' ') + ' ':48}{''.join('.' if o < 32 else chr(o) for o in row)}" for at, row in rows
        ]

    lines: list[str] = []
    at = 0
    for line in octets.split(b"\r\n")[: -1 if octets.endswith(b"\r\n") else None]:
        starts = range(0, max(len(line), 1), 64)
        lines += [f"{at + start:04x}: {line[start : start + 64].decode()}" for start in starts]
        at += len(line) + 2
    return lines


def curl_verbose(time: str = "") -> str:
    lines = [
        f"{time}{'>' if side == 'C' else '<'} {text}" for side, text in LINES if text[:3] not in ("", "Sub", ".. ", ".")
    ]
    at = lines.index(f"{time}< 354 Go on") + 1
    lines[at:at] = [f"{time}}} [47 bytes data]"]
    return "\n".join([f"{time}*   Trying 127.0.0.1:25...", *lines, f"{time}* Connection #0 left intact"])


MSMTP_BEFORE = "".join(f"option{number} = (not set)\n" for number in range(40))
TELNET = "Trying 192.0.2.1...\nConnected to mx.example.\nEscape character is '^]'.\n"
OPENSSL = "CONNECTED(00000003)\ndepth=0 O = x\n---\nCertificate chain\n 0 s:O = x\n---\n"
TICKET = "---\nPost-Handshake New Session Ticket arrived:\nSSL-Session:\n    0000 - 2f 31\n---\nread R BLOCK\n"
JAVA_BEFORE = 'DEBUG: setDebug: Jakarta Mail version 1.6.5\nDEBUG SMTP: connected to host "mx.example", port: 25\n'
JAVA_TRACE = (
    "javax.mail.SendFailedException: Invalid Addresses;\n  nested exception is:\n"
    "\tcom.sun.mail.smtp.SMTPAddressFailedException: 550 5.1.1 No\n\n"
    "\tat com.sun.mail.smtp.SMTPTransport.rcptTo(SMTPTransport.java:2064)\n\t... 2 more\n"
)
PLAIN = with_prefixes("", "")

OUTPUTS = {
    "telnet": TELNET + PLAIN + "\nConnection closed by foreign host.\n",
    "openssl": OPENSSL + TICKET + PLAIN.replace("MAIL FROM", TICKET + "MAIL FROM") + "\nclosed\n",
    "java": JAVA_BEFORE + PLAIN.replace("MAIL", "DEBUG SMTP: use8bit false\nMAIL").replace("QUIT", JAVA_TRACE + "QUIT"),
    "smtplib": literals(),
    "smtplib-2": literals("16:56:06.451850 "),
    "swaks": with_prefixes(" -> ", "<-  "),
    "swaks-tls": with_prefixes(" ~> ", "<~  "),
    "swaks-no-info-hints": "Trying 127.0.0.1:25...\nConnected to 127.0.0.1.\n" + with_prefixes(" -> ", "<-  "),
    "swaks-lapse": with_prefixes(" -> ", "=== response in 0.000s\n<-  "),
    "swaks-raw": with_prefixes("  > 0000: 45 48 4C 4F    EHLO\n -> ", "<   0000: 32 32 30 20    220.\n<-  "),
    "swaks-raw-rows": with_prefixes(" -> ", "<   0000: 32 32 30 20    220.\n<   0016: 20 6D 78 2E     .mx.\n<-  "),
    "swaks-error": with_prefixes(" ~> ", "<~  ").replace("<~  250-", "<** 250-"),
    "msmtp": MSMTP_BEFORE + with_prefixes("--> ", "<-- "),
    "curl": curl_verbose(),
    "curl-trace-time": curl_verbose("00:10:06.360876 "),
    "curl-trace-hex": trace(is_hex=True),
    "curl-trace-hex-time": trace(is_hex=True, time="00:10:06.360876 "),
    "curl-trace-with-end": trace(is_hex=True, sends_end=True),
    "curl-trace-ascii": trace(is_hex=False),
    "curl-trace-ascii-time": trace(is_hex=False, time="00:10:06.360876 "),
    "nodemailer": nodemailer(),
    "phpmailer": phpmailer(),
    "phpmailer in a log": phpmailer(" "),
    "syslog": with_prefixes("Nov 28 17:00:01 mx smtp[77]: C: ", "Nov 28 17:00:01 mx smtp[77]: S: "),
    "rfc": with_prefixes("C: ", "S: "),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_output_of_a_mail_program_is_read_without_a_breach(name: str, line_end: str) -> None:
    (recording,) = read(OUTPUTS[name].replace("\n", line_end).encode())
    lines = explain(recording)

    assert found(lines) == []
    assert lines[0].text == "220 mx.example ESMTP"
    assert [line.text for line in lines if line.text.startswith(("AUTH", "MAIL"))][:2] == [
        "AUTH PLAIN ***",
        "MAIL FROM:<a@c.example>",
    ]
    assert lines[-1].state == "CLOSED"
    assert SECRET not in repr(lines)


def test_login_that_phpmailer_hides_is_read_without_a_breach() -> None:
    lines = [
        "2026-01-01 12:00:00\tSERVER -> CLIENT: 220 mx.example ESMTP",
        "2026-01-01 12:00:00\tCLIENT -> SERVER: EHLO c.example",
        "2026-01-01 12:00:00\tSERVER -> CLIENT: 250-mx.example",
        " " * 19 + "\t" + " " * 18 + "250 AUTH LOGIN",
        "2026-01-01 12:00:00\tCLIENT -> SERVER: AUTH LOGIN",
        "2026-01-01 12:00:00\tSERVER -> CLIENT: 334 VXNlcm5hbWU6",
        "2026-01-01 12:00:00\tCLIENT -> SERVER: [credentials hidden]",
        "2026-01-01 12:00:00\tSERVER -> CLIENT: 334 UGFzc3dvcmQ6",
        "2026-01-01 12:00:00\tCLIENT -> SERVER: [credentials hidden]",
        "2026-01-01 12:00:00\tSERVER -> CLIENT: 235 2.7.0 Welcome",
        "2026-01-01 12:00:00\tCLIENT -> SERVER: QUIT",
        "2026-01-01 12:00:00\tSERVER -> CLIENT: 221 2.0.0 Bye",
    ]
    (recording,) = read("\n".join(lines).encode())
    explained_lines = explain(recording)
    assert found(explained_lines) == []
    assert [line.text for line in explained_lines[4:9]] == ["AUTH LOGIN", "334 ***", "***", "334 ***", "***"]


def test_breach_in_the_output_of_a_program_is_still_found() -> None:
    for name, text in OUTPUTS.items():
        wrong = text.replace("RCPT TO:<b@s.example>", "RCPT TO:<b c@example>")
        if "hex" not in name and "end" not in name:
            assert ("client", "RFC 5321 4.1.1.3") in found(explain(read(wrong.encode())[0])), name


def test_tls_and_an_unterminated_body_are_read_from_a_trace() -> None:
    text = trace(is_hex=True).replace(
        "== Info: Connected", "== Info: SSL connection using TLSv1.3 / x\n== Info: Connected"
    )
    (recording,) = read(text.encode())
    assert recording.items[0].side.value == "tls"

    cut = "<= Recv header, 5 bytes (0x5)\n0000: 220 x\n=> Send data, 3 bytes (0x3)\n0000: abc\n"
    cut += "<= Recv header, 7 bytes (0x7)\n0000: 250 x"
    (recording,) = read(cut.encode())
    assert [item.data for item in recording.items] == [b"220 x", b"abc", b"\r\n", b".\r\n", b"250 x\r\n"]


def test_sessions_of_a_nodemailer_log_are_separated() -> None:
    other = nodemailer().replace("uXkqQhUEXh8", "other")
    mixed = "\n".join(line for pair in zip(nodemailer().split("\n"), other.split("\n"), strict=True) for line in pair)

    assert [found(explain(recording)) for recording in read(mixed.encode())] == [[], []]


@pytest.mark.parametrize(
    "text",
    [
        "Dear all,\n\nthis is no dialogue.\n",
        "Vitamin C: good\nVitamin D: better\nVitamin S: none\n",
        "C: \\Users\nS: drive\n",
        "> quoted\n> text\nof a mail\n",
        "220 pages\nof prose\n",
        "2026-01-01 INFO starting\n2026-01-01 ERROR 550 what\n",
        '{"a": 1}\n',
        "Received: from a by b\nSubject: x\n\nbody\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\n200 x\n",
        "\x7fELF\x00\x01\x02",
        "Jan  1 postfix/smtp[1]: 4X: to=<a@b.example>, status=sent (250 2.0.0 Ok)\n",
        "send: not a literal 'x\nreply: b'220 x\n",
        "send: 'a\\\nsend: 'b'\\'\n",
    ],
)
def test_text_other_than_a_dialogue_is_declined(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text(text)

    assert main(["explain", str(tmp_path / "text")]) == 2
    assert "BREACH" not in "".join(capsys.readouterr())


# Hostile recordings


@pytest.mark.parametrize(
    "text",
    [
        b"C: EHLO a\nS: 250 a\nB: 4\n" + b"+".join([b"b'a'*16777216"] * 40),
        b"C: EHLO a\nS: 250 a\n" + b"B: 4\nb'a'*9999999\n" * 3,
        b"C: EHLO a\nS: 250 a\nB: 4\n" + b"(" * 100_000,
        b"C: EHLO a\nS: 250 a\nB: 4\nb'a'*" + b"9" * 5000,
        b"C: EHLO a\nS: 250 a\nB: 4\n-b'a'",
        b"send: b'a'*16777216+b'a'\nreply: b'220'\n",
        b"C: x\n" * 250_001,
        b"x" * (MAX_OCTETS + 1),
    ],
)
def test_recording_that_is_too_large_is_declined_at_bounded_cost(text: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable):
            read(text)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()

    with pytest.raises(Unreadable, match="more than"):
        join(b"", b"x" * (MAX_OCTETS + 1))


def test_long_reply_is_explained_in_linear_time() -> None:
    lines = explained("S: 220 x", "C: EHLO a", *["S: 250-x"] * 20_000, "S: 250 x")

    assert len(lines) == 20_003
    assert found(lines) == []


@pytest.mark.parametrize(
    "text",
    [
        b"C: BDAT\r\r\nS:250",
        b"C: BDAT 0AUTH\tPLAIN\nS: 250-x\nS: 250 x",
        b"<= Recv header, 5 bytes (0x5)\nwhat\n0000: 220 x\n",
        "C: EHLO a\nS: 250-x\nS: 250 BURL \xe2\x80\xae".encode(),
        b"C: EHLO a\nS: 250-x\nS: 250-SIZE " + b"9" * 5000 + b"\nS: 250 AUTH \xff \xff",
        b"S: 220 a\nC: STARTTLS\nS: 250 x\nC: DATA\r\r\nS: 250 x\n",
    ],
)
def test_malformed_recording_is_explained(text: bytes) -> None:
    for recording in read(text):
        assert explain(recording)


def test_any_mixture_of_lines_is_explained_or_declined() -> None:
    words = [b"C: ", b"S: ", b"\r\n", b"\n", b"BDAT 5", b"AUTH PLAIN ", b"\xff", b"250-", b"334 ", b"354 ", b"STARTTLS"]
    words += [
        b"EHLO a",
        b"LHLO a",
        b"220 x",
        b"C: DATA\n",
        b"C: .\n",
        b"BURL imap://x LAST",
        b"-- TLSv1.3\n",
        b"421 ",
        b"> ",
    ]
    drawn = random.Random(7)
    for _ in range(1500):
        text = b"".join(drawn.choices(words, k=drawn.randint(1, 40)))
        try:
            for recording in read(text):
                explain(recording)
        except Unreadable:
            pass


# Secrets


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"C: AUTH PLAIN {SECRET}", "AUTH PLAIN ***"),
        (f"Nov 28 17:00:01 mx smtp[77]: C: AUTH PLAIN {SECRET}", "AUTH PLAIN ***"),
        (f"C: auth\tplain\t{SECRET}", "auth\\tplain ***"),
        (f"C: AUTHPLAIN {SECRET}", "AUTH ***"),
        (f"C: AUTH {SECRET}", "AUTH ***"),
        (f"C:  AUTH  PLAIN  {SECRET}", " AUTH  PLAIN ***"),
        (f"C: AUTH XUNKNOWN {SECRET}", "AUTH ***"),
        (f"C: mx smtp[77] AUTH LOGIN {SECRET}", "mx smtp[77] AUTH LOGIN ***"),
        (f"S: 334 {SECRET}", "334 ***"),
        (f"S: 334-{SECRET}", "334 ***"),
        (f"S: 334{SECRET}", "334 ***"),
        (f"S: 501 Syntax error: AUTH PLAIN {SECRET}", "501 Syntax error: AUTH PLAIN ***"),
        ("S: 504 AUTH PLAIN unsupported here", "504 AUTH PLAIN unsupported here"),
        ("S: 250 AUTH PLAIN LOGIN", "250 AUTH PLAIN LOGIN"),
        ("C: MAIL FROM:<author@c.example> AUTH=<>", "MAIL FROM:<author@c.example> AUTH=<>"),
    ],
)
def test_line_that_looks_like_auth_is_masked(line: str, shown: str) -> None:
    lines: list[Explained] = explained("S: 220 x", "C: EHLO a", "S: 250 x", line)

    assert lines[-1].text == shown
    assert SECRET not in repr(lines)


def test_secret_in_a_malformed_expression_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text(f"S: 220 x\nB: 9\nb'AUTH PLAIN {SECRET}\n")

    assert main(["explain", str(tmp_path / "text")]) == 2
    assert SECRET not in "".join(capsys.readouterr())
