"""A recording is printed with its groups, with long lines cut, and with differences from another one marked."""

from smtpcore_adapters.testing.fuzz import End, Kind, dialogues, lines_sent
from smtpcore_adapters.testing.steps import BodyStep, ChunkStep, LineStep

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET, play_at
from .servers import DropsOnNul, LfReplies, RsetForgetsHello, SilentOnEmptyLine, SmallServer


def test_groups_are_visible_and_replies_of_several_lines_are_short() -> None:
    evidence = play_at(SmallServer, HELLO, MAIL, RCPT, BodyStep(b"a\nb\r\n" + b"z" * 300 + b"\r\n"), pipelined=True)

    assert dialogues(evidence.recordings) == [
        "S: 220 small ESMTP",
        "C: EHLO c.example",
        "S: 250-small  (and 5 more lines)",
        "C: MAIL FROM:<a@c.example>",
        "C| RCPT TO:<u@s.example>",
        "C| DATA",
        "S: 250 OK",
        "S: 250 OK",
        "S: 354 Go",
        "C: a\\nb",
        f"C| {'z' * 100}... (300 octets)",
        "C| .",
        "S: 250 Taken",
        "C: QUIT",
        "S: 221 Bye",
    ]
    assert lines_sent(evidence.recordings[0]) == 7


def test_many_replies_are_counted() -> None:
    class Floods(SmallServer):
        def do_QUIT(self, rest: bytes) -> None:
            self.output += b"221 Bye\r\n" * 1000

    (recording,) = play_at(Floods, LineStep(b"NOOP")).recordings
    lines = dialogues([recording])

    assert recording.end is End.SURPLUS
    assert len(lines) < 40
    assert lines[-1] == "-- and 71 more replies"


def test_end_of_a_session_is_printed() -> None:
    assert dialogues(play_at(DropsOnNul, LineStep(b"\0")).recordings)[-2:] == [
        "C: \\x00",
        "-- the server closed the connection",
    ]
    assert dialogues(play_at(SilentOnEmptyLine, LineStep(b"")).recordings)[-1] == "-- no reply"


def test_line_ends_that_are_not_cr_lf_are_printed() -> None:
    assert dialogues(play_at(LfReplies, ChunkStep(b"x")).recordings)[:3] == [
        "S: 220 small ESMTP\\n",
        "C: BDAT 1 LAST",
        "C| x  (without CR LF)",
    ]


def test_differing_reply_is_marked_in_both_sessions() -> None:
    lines = dialogues(play_at(SmallServer, HELLO, MAIL, RSET, RCPT, kind=Kind.RESET).recordings)
    assert not [line for line in lines if line.endswith("<--")]

    evidence = play_at(SmallServer, HELLO, NOOP, BODY)
    other = play_at(RsetForgetsHello, HELLO, RSET, MAIL)
    lines = dialogues((evidence.recordings[0], other.recordings[0]))
    assert "S: 250 OK  <--" not in lines
    lines = dialogues((play_at(SmallServer, HELLO, MAIL, MAIL).recordings[0], other.recordings[0]))
    assert lines[:2] == ["first session:", "S: 220 small ESMTP"]
    assert "S: 503 Not now" in lines
    marked = dialogues((play_at(SmallServer, HELLO, RSET, MAIL).recordings[0], other.recordings[0]))
    assert [line for line in marked if line.endswith("<--")] == ["S: 250 OK  <--", "S: 503 Not now  <--"]
