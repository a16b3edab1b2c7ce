"""Properties of the client against arbitrary server output in arbitrary segments."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smtpcore import ProtocolError
from smtpcore.sasl import Credentials
from smtpcore_adapters import ConnectOptions, TlsMode
from tests.adapters.fakes import SILENCE, Early, Silence, Step, step
from tests.adapters.playbook import ONE, TWO, new_client
from tests.playbook import offer

CODES = st.sampled_from([220, 221, 235, 250, 251, 334, 354, 421, 450, 451, 452, 500, 502, 503, 535, 550, 552, 554])
KEYWORDS = st.sampled_from(
    ["PIPELINING", "CHUNKING", "8BITMIME", "SIZE 1000", "SMTPUTF8", "STARTTLS", "AUTH PLAIN LOGIN", "LIMITS RCPTMAX=1"]
)
REPLIES = st.builds(
    lambda code, text: f"{code} {text}\r\n".encode(), CODES, st.sampled_from(["", "x", "2.0.0 ok", "PDE+"])
)
HELLOS = st.lists(KEYWORDS, max_size=6).map(lambda words: offer(*words))
PIECES: st.SearchStrategy[Any] = st.one_of(
    REPLIES,
    HELLOS,
    st.binary(max_size=20),
    REPLIES.map(Early),
    st.sampled_from([b"", SILENCE, Silence.HALF, ConnectionResetError("gone"), b"250-", b"\r\n", b"250 ok\r\n" * 4]),
)
HONEST = st.tuples(st.just(b"220 s.example\r\n"), HELLOS, *[st.just(b"250 ok\r\n")] * 2, st.just(b"354 go on\r\n"))
SCRIPTS = st.one_of(
    st.lists(PIECES, max_size=12),
    st.builds(lambda start, cut, rest: [*start[:cut], *rest], HONEST, st.integers(1, 5), st.lists(PIECES, max_size=6)),
)
OPTIONS = st.fixed_dictionaries(
    {
        "tls": st.sampled_from(TlsMode),
        "lmtp": st.booleans(),
        "chunking": st.booleans(),
        "auth": st.sampled_from([None, Credentials(username="tim", password="secret")]),
        "plaintext_auth": st.booleans(),
    }
)
BODIES = st.sampled_from([b"", b"hi\n.\n", b"\xff", b"x" * 300_000, [b"a", b"b"]])


@given(SCRIPTS, OPTIONS, BODIES)
def test_client_raises_documented_errors_only_and_never_ends_an_aborted_body(
    script: list[Step], options: ConnectOptions, body: Any
) -> None:
    book = new_client(**options).send(*script)
    try:
        book.connect()
    except (OSError, ProtocolError):
        assert book.stream.close_timeouts == [0]
        return

    try:
        result = book.deliver(body, to=[ONE, TWO])
        assert len(result) == 2
    except (OSError, ProtocolError):
        pass
    finally:
        step(book.client.aclose())

    assert book.stream.close_timeouts == [0]
    assert not book.client.is_open
    assert book.output.count(b"\r\n.\r\n") <= 2
