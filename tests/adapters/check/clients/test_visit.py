"""The server of the checks is bounded, whatever the client sends."""

import base64
import socket
import ssl
import threading
from collections.abc import Callable

import pytest

from smtpcore_adapters.check.clients import _visit
from smtpcore_adapters.check.clients._visit import Script, Sent, Visit, closing, code_of

_HELLO = b"EHLO c.example\r\n"
_TO_BODY = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nDATA\r\n"


def visit_of(
    client: Callable[[socket.socket], object],
    script: Script | None = None,
    timeout: float = 5.0,
    *,
    lmtp: bool = False,
) -> Visit:
    """Return the visit of a client that is a function of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with connection:
        thread = threading.Thread(target=client, args=(connection,))
        thread.start()
        visit = Visit(server, script or Script(), context, tls="none", timeout=timeout, pause=0, lmtp=lmtp)
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


def test_login_ends_at_an_answer_that_is_no_challenge() -> None:
    script = Script(answers={"CHALLENGE": b"535 5.7.8 No\r\n"})
    visit = visit_of(sending(b"AUTH LOGIN\r\nQUIT\r\n"), script)

    assert [int(reply[:3]) for reply in visit.sent] == [220, 535, 221]


def _codes(lines: bytes, script: Script | None = None, *, lmtp: bool = False) -> tuple[Visit, list[int]]:
    visit = visit_of(sending(lines), script, lmtp=lmtp)
    return visit, [int(reply[:3]) for reply in visit.sent[1:]]


def test_each_recipient_of_lmtp_gets_a_reply_and_the_message_counts_once() -> None:
    lines = _TO_BODY.replace(b"DATA", b"RCPT TO:<c@s.example>\r\nDATA")
    visit, codes = _codes(b"EHLO c\r\nHELO c\r\nLHLO c\r\n" + lines + b"x\r\n.\r\nQUIT\r\n", lmtp=True)

    assert codes == [500, 500, 250, 250, 250, 250, 354, 250, 250, 221]
    assert visit.accepted == 1
    assert visit.lines[2].verb == "EHLO"


def test_recipients_of_lmtp_get_no_reply_after_a_421() -> None:
    lines = _TO_BODY.replace(b"DATA", b"RCPT TO:<c@s.example>\r\nDATA")
    script = Script(answers={"END": b"421 4.3.2 Bye\r\n"})

    assert _codes(b"LHLO c\r\n" + lines + b".\r\nQUIT\r\n", script, lmtp=True)[1][-3:] == [354, 421, 221]


def test_lhlo_is_unknown_to_a_server_of_smtp() -> None:
    assert _codes(b"LHLO c\r\n")[1] == [500]


_CHUNKING = Script(offers=("CHUNKING",))
_TO_CHUNKS = _TO_BODY.replace(b"DATA\r\n", b"")


def test_chunks_are_one_message() -> None:
    lines = _TO_CHUNKS + b"BDAT 3\r\nab\r" + b"BDAT 4 last\r\n\n.\r\nBDAT 1 LAST\r\nxQUIT\r\n"
    visit, codes = _codes(lines, _CHUNKING)

    assert codes == [250, 250, 250, 250, 503, 221]
    assert [(body.octets, body.is_chunked) for body in visit.bodies] == [(b"ab\r\n.\r\n", True)]
    assert visit.accepted == 1


def test_chunks_after_a_refused_chunk_are_refused() -> None:
    script = Script(offers=("CHUNKING",), answers={"BDAT": b"451 4.3.0 No\r\n"})
    visit, codes = _codes(_TO_CHUNKS + b"BDAT 1\r\nxBDAT 1 LAST\r\nxBDAT x\r\n", script)

    assert codes == [250, 250, 451, 451, 501]
    assert visit.bodies == []


def test_chunks_after_a_reset_are_refused() -> None:
    assert _codes(_TO_CHUNKS + b"RSET\r\nBDAT 1\r\nx", _CHUNKING)[1] == [250, 250, 250, 503]


def test_chunking_is_unknown_unless_offered() -> None:
    assert _codes(b"BDAT 0\r\n")[1] == [500]


def test_incomplete_chunk_is_kept() -> None:
    visit, _ = _codes(_TO_CHUNKS + b"BDAT 2\r\nabBDAT 9\r\nc", _CHUNKING)

    assert [(body.octets, body.is_complete) for body in visit.bodies] == [(b"ab", False)]


def test_long_chunks_end_a_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visit, "_MAX_BODY", 10)

    assert visit_of(sending(_TO_CHUNKS + b"BDAT 99\r\n" + b"x" * 50), _CHUNKING).ended == (
        "the body has more than 10 octets"
    )


def test_offers_may_differ_under_tls() -> None:
    visit = visit_of(sending(b""), Script(offers=("SIZE",), secure_offers=()))
    before = visit.hello()
    visit.is_secure = True

    assert (b"SIZE" in before, b"SIZE" in visit.hello()) == (True, False)


def test_log_has_commands_bodies_and_replies_in_order() -> None:
    visit = visit_of(sending(b"AUTH PLAIN\r\nx\r\n" + _TO_BODY + b".\r\nQUIT\r\n"))
    names = [type(entry).__name__ if not isinstance(entry, Sent) else entry.key for entry in visit.log]

    assert " ".join(names) == "GREETING Line CHALLENGE Secret AUTH Line MAIL Line RCPT Line DATA Body END Line QUIT"


def test_replies_are_sent_in_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(Visit, "transmit", lambda visit, data: sent.append(data))
    visit_of(sending(b""), Script(answers={"GREETING": b"220 abc\r\n"}, segment_size=4))

    assert sent == [b"220 ", b"abc\r", b"\n"]


@pytest.mark.parametrize(("reply", "code"), [(b"250 OK\r\n", 250), (b"250-a\r\n", 250), (b"2x0 a", 0), (b"2501", 0)])
def test_code_is_that_of_the_first_line(reply: bytes, code: int) -> None:
    assert code_of(reply) == code


def test_records_are_bounded() -> None:
    visit = visit_of(sending(b"NOOP\r\n" * 100))

    assert len(visit.seen) == len(visit.sent) == 30


def test_unknown_commands_and_starttls_without_offer_are_refused() -> None:
    visit = visit_of(sending(b"XYZ\r\nSTARTTLS\r\n\xff\r\nHELO c\r\n"))

    assert [int(reply[:3]) for reply in visit.sent] == [220, 500, 500, 500, 250]
