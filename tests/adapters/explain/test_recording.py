"""Recordings in each supported format."""

import pytest

from smtpcore_adapters.explain import Side, Unreadable, explain, join, read
from tests.adapters.explain.dialogues import found

SWAKS = """=== Trying 127.0.0.1:25...
=== Connected to 127.0.0.1.
<-  220 s.example ESMTP
 -> EHLO c.example
<-  250-s.example
<-  250 STARTTLS
 -> STARTTLS
<-  220 2.0.0 Go ahead
=== TLS started with cipher TLSv1.3:TLS_AES_256_GCM_SHA384:256
 ~> EHLO c.example
<~  250 s.example
 ~> MAIL FROM:<a@c.example>
<~  250 OK
 ~> RCPT TO:<b@s.example>
<~* 550 no
 ~> QUIT
<~  221 bye
=== Connection closed with remote host.
"""


CURL = """*   Trying 127.0.0.1:25...
< 220 s.example ESMTP
> EHLO c.example
< 250 s.example
> MAIL FROM:<a@c.example>
< 250 OK
> RCPT TO:<b@s.example>
< 250 OK
> DATA
< 354 go
} [18 bytes data]
* We are completely uploaded and fine
< 250 taken
> QUIT
< 221 bye
"""


SMTPLIB = r"""connect: to ('127.0.0.1', 25) None
reply: b'220 s.example ESMTP\r\n'
reply: retcode (220); Msg: b's.example ESMTP'
send: 'ehlo c.example\r\n'
reply: b'250 s.example\r\n'
reply: retcode (250); Msg: b's.example'
send: 'mail FROM:<a@c.example>\r\n'
reply: b'250 OK\r\n'
send: 'rcpt TO:<b@s.example>\r\n'
reply: b'250 OK\r\n'
send: 'data\r\n'
reply: b'354 go\r\n'
data: (354, b'go')
send: b'Subject: x\r\n\r\n..dot\r\n.\r\n'
reply: b'250 taken\r\n'
send: 'quit\r\n'
reply: b'221 bye\r\n'
"""


SMTPCORE = """2026-01-01T00:00:00.000+00:00 0123456789ab -- opened
2026-01-01T00:00:00.000+00:00 0123456789ab S: 220 s.example ESMTP
2026-01-01T00:00:00.000+00:00 0123456789ab C: EHLO c.example
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250-s.example
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250-PIPELINING
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250 CHUNKING
2026-01-01T00:00:00.000+00:00 ba9876543210 -- opened
2026-01-01T00:00:00.000+00:00 ba9876543210 S: 220 s.example ESMTP
2026-01-01T00:00:00.000+00:00 0123456789ab C: MAIL FROM:<a@c.example>
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250 OK
2026-01-01T00:00:00.000+00:00 0123456789ab C: RCPT TO:<b@s.example>
2026-01-01T00:00:00.000+00:00 ba9876543210 C: QUIT
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250 OK
2026-01-01T00:00:00.000+00:00 0123456789ab C: BDAT 1000
2026-01-01T00:00:00.000+00:00 0123456789ab -- the end of a chunk
2026-01-01T00:00:00.000+00:00 0123456789ab C: BDAT 100000 LAST
2026-01-01T00:00:00.000+00:00 ba9876543210 S: 221 bye
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250 OK
2026-01-01T00:00:00.000+00:00 0123456789ab S: 250 taken
2026-01-01T00:00:00.000+00:00 0123456789ab C: QUIT
2026-01-01T00:00:00.000+00:00 0123456789ab S: 221 bye
"""


PLAIN = """220 s.example ESMTP
EHLO c.example
250 s.example
MAIL FROM:<a@c.example>
250 OK
RCPT TO:<b@s.example>
250 OK
DATA
354 go
Subject: x

text
.
250 taken
QUIT
221 bye
"""


@pytest.mark.parametrize(
    ("text", "ends"),
    [(SWAKS, [15]), (CURL, [12]), (SMTPLIB, [16]), (SMTPCORE, [15, 3]), (PLAIN, [16]), (PLAIN * 2, [16, 16])],
    ids=["swaks", "curl", "smtplib", "smtpcore", "plain", "two"],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_each_transcript_format_is_read(text: str, ends: list[int], line_end: str) -> None:
    recordings = read(text.replace("\n", line_end).encode())
    sessions = [explain(recording) for recording in recordings]

    assert [len(lines) for lines in sessions] == ends
    assert [lines[-1].state for lines in sessions] == ["CLOSED"] * len(ends)
    assert [found(lines) for lines in sessions] == [[]] * len(ends)


NOTATIONS = {
    "rfc": ("C: ", "S: "),
    "transcript": ("2026-01-01T00:00:00 C: ", "2026-01-01T00:00:00 S: "),
    "nodemailer": ("[2026-01-01 12:00:00] DEBUG [x] C: ", "[2026-01-01 12:00:00] DEBUG [x] S: "),
    "phpmailer": ("CLIENT -> SERVER: ", "SERVER -> CLIENT: "),
}


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("text", ["-- ", "-- TLSv1", "Connection upgraded", "0123456789ab C: x", "SMTP is old"])
def test_line_of_a_body_that_looks_like_a_notice_is_read_as_a_line(notation: str, text: str) -> None:
    client, server = NOTATIONS[notation]
    lines = [f"{server}354 go", f"{client}{text}", f"{client}.", f"{server}250 OK"]
    (recording,) = read("\n".join(lines).encode())
    assert [item.data.decode() for item in recording.items] == ["354 go\r\n", f"{text}\r\n", ".\r\n", "250 OK\r\n"]


def test_octets_of_both_sides_are_joined_in_order() -> None:
    client = b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<b@s.example>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n"
    server = b"220 s\r\n250-s\r\n250 SIZE 0\r\n250 OK\r\n250 OK\r\n354 go\r\n250 OK\r\n221 bye\r\n"
    lines = explain(join(client, server))

    assert found(lines) == []
    assert [line.text for line in lines][:5] == ["220 s", "EHLO c.example", "250-s", "250 SIZE 0", "MAIL FROM:<>"]
    assert lines[-1].state == "CLOSED"


@pytest.mark.parametrize(
    "octets",
    [
        *(b"", b"\r\n \n", b"# nothing\n# at all\n", b"* TLS\n* closed\n", b"-- TLSv1.3\n"),
        *(b"S: 220 a\nB: 3\n" + literal for literal in (b"", b"x", b"b'a' * 99999999", b"1 + b'a'", b"b'a' * True")),
    ],
)
def test_input_without_a_recording_is_unreadable(octets: bytes) -> None:
    with pytest.raises(Unreadable):
        read(octets)


def test_two_empty_sides_are_unreadable() -> None:
    with pytest.raises(Unreadable, match="no line is from a client or server"):
        join(b"", b"")


def test_bytes_expression_in_a_recording_is_evaluated() -> None:
    (recording,) = read(b"S: 220 a\nB: 9\nb'EHLO ' + 'c' * 2 + b'\\r\\n'\nC: QUIT\n")

    assert [item.data for item in recording.items] == [b"220 a\r\n", b"EHLO cc\r\n", b"QUIT\r\n"]


def test_session_that_ends_after_its_handshake_is_left_out() -> None:
    time = "2026-01-01T00:00:00.000+00:00"
    lines = (f"{time} 0123456789ab -- TLSv1.3", f"{time} cdef01234567 S: 220 s.example", f"{time} cdef01234567 C: QUIT")
    (recording,) = read("\n".join(lines).encode())

    assert [item.side for item in recording.items] == [Side.SERVER, Side.CLIENT]
    with pytest.raises(Unreadable, match="no line is from a client or server"):
        read(lines[0].encode())
