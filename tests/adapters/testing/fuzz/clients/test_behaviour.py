"""A behaviour is played on a connection as described."""

import pytest

from smtpcore_adapters.check.clients import Visit
from smtpcore_adapters.check.clients import _connections as connections
from smtpcore_adapters.testing.fuzz.clients import Answer, Behaviour, Then
from smtpcore_adapters.testing.fuzz.clients._behaviour import code_of_reply
from tests.adapters.check.clients.test_visit import sending, visit_of
from tests.adapters.testing.fuzz.clients.helpers import MESSAGE, talking


def _visit(*answers: Answer, lines: bytes = b"NOOP\r\nNOOP\r\nNOOP\r\nQUIT\r\n") -> tuple[Visit, list[int]]:
    visit = visit_of(sending(lines), Behaviour(answers=answers).script())
    return visit, [int(reply[:3]) for reply in visit.sent[1:] if reply[:3].isdecimal()]


def test_default_accepts_a_message_and_offers_nothing() -> None:
    visit = visit_of(talking(*MESSAGE), Behaviour().script())

    assert (visit.accepted, visit.sent[1]) == (1, "250 check.example\\r\\n")


@pytest.mark.parametrize(("number", "codes"), [(0, [500, 500, 500]), (1, [500, 250, 250]), (2, [250, 500, 250])])
def test_number_selects_the_replies_of_a_key(number: int, codes: list[int]) -> None:
    assert _visit(Answer("NOOP", b"500 No\r\n", number))[1] == [*codes, 221]


def test_first_answer_that_fits_is_played() -> None:
    assert _visit(Answer("NOOP", b"500 No\r\n", 2), Answer("NOOP", b"501 No\r\n"))[1] == [501, 500, 501, 221]


@pytest.mark.parametrize(("reply", "codes"), [(b"", []), (None, [250]), (b"500 No\r\n", [500])])
def test_connection_is_closed_after_a_reply(reply: bytes | None, codes: list[int]) -> None:
    visit, seen = _visit(Answer("NOOP", reply, then=Then.CLOSE))

    assert seen == codes
    assert visit.ended == "the server closed the connection"


@pytest.mark.parametrize("then", [Then.LINES, Then.LINE])
def test_reply_may_be_endless(then: Then, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MOST_TO_READ", 10)

    assert _visit(Answer("NOOP", then=then))[0].was_read_without_end


def test_garbage_takes_the_place_of_the_handshake() -> None:
    visit, codes = _visit(Answer("NOOP", b"", then=Then.GARBAGE))

    assert codes == [220]
    assert visit.ended == "the server closed the connection"


def test_starttls_with_a_reply_of_its_own_starts_the_handshake() -> None:
    behaviour = Behaviour(starttls="always", answers=(Answer("STARTTLS", b"220 Go\r\n"),))

    assert visit_of(talking(b"STARTTLS\r\n"), behaviour.script()).ended == "the client ended the handshake of TLS"


def test_refused_starttls_starts_no_handshake() -> None:
    behaviour = Behaviour(starttls="always", answers=(Answer("STARTTLS", b"454 No\r\n"),))

    assert visit_of(talking(b"STARTTLS\r\n", b"QUIT\r\n"), behaviour.script()).ended == "the client sent QUIT"


def test_close_in_place_of_a_handshake_has_no_reply_of_its_own() -> None:
    behaviour = Behaviour(starttls="always", answers=(Answer("STARTTLS", then=Then.CLOSE),))

    assert len(visit_of(talking(b"STARTTLS\r\n"), behaviour.script()).sent) == 1


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"250 OK\r\n", 250),
        (b"250\r\n", 250),
        (b"250-a\r\n250-\r\n250 b\r\n", 250),
        (b"250 " + b"x" * 506 + b"\r\n", 250),
        (b"250 " + b"x" * 507 + b"\r\n", 0),
        (b"250 OK\n", 0),
        (b"250-a\r\n550 b\r\n", 0),
        (b"250 a\r\n250 b\r\n", 0),
        (b"199 a\r\n", 0),
        (b"25\r\n", 0),
        (b"", 0),
    ],
)
def test_code_of_a_well_formed_reply(octets: bytes, code: int) -> None:
    assert code_of_reply(octets) == code


@pytest.mark.parametrize(
    ("answer", "is_harmless"),
    [
        (Answer("MAIL", delay=1.0), True),
        (Answer("MAIL", b"253 OK\r\n"), True),
        (Answer("MAIL", b"550 No\r\n"), False),
        (Answer("DATA", b"354-a\r\n354 b\r\n"), True),
        (Answer("DATA", b"250 b\r\n"), False),
        (Answer("EHLO", b"250 mx\r\n"), False),
        (Answer("CHALLENGE", b"334 x\r\n"), False),
        (Answer("QUIT", b"", then=Then.CLOSE), True),
        (Answer("QUIT", b"500 No\r\n"), True),
        (Answer("END", b"250 OK\r\n", then=Then.CLOSE), True),
        (Answer("END", b"", then=Then.CLOSE), False),
        (Answer("END", then=Then.CLOSE), False),
        (Answer("MAIL", then=Then.CLOSE), False),
        (Answer("MAIL", then=Then.LINES), False),
    ],
)
def test_harmless_answers_let_the_message_pass(answer: Answer, is_harmless: bool) -> None:
    assert answer.is_harmless == is_harmless


def test_keywords_are_those_offered_before_and_under_tls() -> None:
    behaviour = Behaviour(offers=("size 10", "DSN", " "), mechanisms=("PLAIN",))

    assert behaviour.keywords == {"SIZE", "DSN", "AUTH"}
    assert Behaviour(offers=("SIZE", "DSN"), secure_offers=("DSN", "X")).keywords == {"DSN"}
