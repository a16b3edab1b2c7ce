"""The server of the checks is bounded, whatever the client sends."""

import base64
import socket
import ssl
import threading
from collections.abc import Callable

import pytest

from smtpcore_adapters.check.clients import _visit
from smtpcore_adapters.check.clients._visit import Script, Visit, closing

_HELLO = b"EHLO c.example\r\n"
_TO_BODY = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nDATA\r\n"


def visit_of(client: Callable[[socket.socket], object], script: Script | None = None, timeout: float = 5.0) -> Visit:
    """Return the visit of a client that is a function of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with connection:
        thread = threading.Thread(target=client, args=(connection,))
        thread.start()
        visit = Visit(server, script or Script(), context, tls="none", timeout=timeout, pause=0)
        visit.serve()
        thread.join()
        return visit


def sending(data: bytes) -> Callable[[socket.socket], None]:
    """Return a client that sends octets, and reads until the server closes the connection."""

    def client(connection: socket.socket) -> None:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except OSError:
            pass

    return client


def test_end_of_the_stream_ends_a_visit() -> None:
    visit = visit_of(sending(_HELLO + b"NO"))

    assert visit.ended == "the client closed the connection"
    assert visit.rest == b"NO"


def test_silent_client_is_left() -> None:
    assert visit_of(lambda connection: None, timeout=0.01).ended == "the client sent nothing for 0.01 seconds"


def test_visit_has_a_maximum_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visit, "_MAX_VISIT", 0)

    assert visit_of(sending(b"")).ended == "the connection lasted 0 seconds"


def test_long_line_ends_a_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visit, "_MAX_LINE", 10)

    assert visit_of(sending(b"x" * 100)).ended == "the client sent a line of more than 10 octets"


def test_many_commands_end_a_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visit, "_MAX_LINES", 2)

    assert visit_of(sending(b"NOOP\r\n" * 5)).ended == "the client sent more than 2 commands"


def test_long_body_ends_a_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visit, "_MAX_BODY", 10)
    visit = visit_of(sending(_TO_BODY + b"x" * 100))

    assert visit.ended == "the body has more than 10 octets"
    assert [body.is_complete for body in visit.bodies] == [False]


def test_body_may_be_empty() -> None:
    visit = visit_of(sending(_TO_BODY + b".\r\nQUIT\r\n"))

    assert ([body.octets for body in visit.bodies], visit.accepted) == ([b""], 1)
    assert visit.ended == "the client sent QUIT"


def test_client_that_stops_reading_is_left() -> None:
    endless = Script(answers={"GREETING": lambda visit: visit.transmit(b"x" * 10_000_000)})

    assert visit_of(lambda connection: None, endless, timeout=0.01).ended == "the client stopped reading"


def test_reply_to_a_client_that_left_ends_a_visit() -> None:
    visit = visit_of(lambda connection: connection.close())

    assert visit.ended == "the client closed the connection"


def test_answer_without_reply_closes_the_connection() -> None:
    visit = visit_of(sending(b"NOOP\r\nNOOP\r\n"), Script(answers={"NOOP": closing(b"")}))

    assert visit.ended == "the server closed the connection"
    assert visit.rest == b"NOOP\r\n"


def test_octets_after_a_closing_reply_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visit, "_MAX_LINE", 10)

    assert len(visit_of(sending(b"QUIT\r\n" + b"x" * 100_000)).rest) <= 65_536 + 10


@pytest.mark.parametrize(
    ("lines", "replies"),
    [
        ((b"AUTH PLAIN c2VjcmV0",), [235]),
        ((b"AUTH PLAIN", b"c2VjcmV0"), [334, 235]),
        ((b"AUTH LOGIN", b"c2VjcmV0", b"c2VjcmV0"), [334, 334, 235]),
        ((b"AUTH LOGIN c2VjcmV0", b"c2VjcmV0"), [334, 235]),
        ((b"AUTH", b"c2VjcmV0"), [334, 235]),
    ],
)
def test_logins_are_accepted_and_secrets_are_masked(lines: tuple[bytes, ...], replies: list[int]) -> None:
    visit = visit_of(sending(b"".join(line + b"\r\n" for line in lines)))

    assert [int(reply[:3]) for reply in visit.sent[1:]] == replies
    assert base64.b64encode(b"secret").decode() not in "".join(visit.seen)


def test_records_are_bounded() -> None:
    visit = visit_of(sending(b"NOOP\r\n" * 100))

    assert len(visit.seen) == len(visit.sent) == 30


def test_unknown_commands_and_starttls_without_offer_are_refused() -> None:
    visit = visit_of(sending(b"XYZ\r\nSTARTTLS\r\n\xff\r\nHELO c\r\n"))

    assert [int(reply[:3]) for reply in visit.sent] == [220, 500, 500, 500, 250]
