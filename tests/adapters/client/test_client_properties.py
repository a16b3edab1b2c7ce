"""Properties of the client against arbitrary server output in arbitrary segments."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smtpcore import ProtocolError
from smtpcore.sasl import Credentials
from smtpcore_adapters import ConnectOptions, TlsMode
from smtpcore_adapters.client._connecting import open_client
from tests.adapters.client.scripted import ehlo, opener
from tests.adapters.fakes import SILENCE, Early, FakeStream, Silence, Step, step

CODES = st.sampled_from([220, 221, 235, 250, 251, 334, 354, 421, 450, 451, 452, 500, 502, 503, 535, 550, 552, 554])
KEYWORDS = st.sampled_from(
    ["PIPELINING", "CHUNKING", "8BITMIME", "SIZE 1000", "SMTPUTF8", "STARTTLS", "AUTH PLAIN LOGIN", "LIMITS RCPTMAX=1"]
)
REPLIES = st.builds(
    lambda code, text: f"{code} {text}\r\n".encode(), CODES, st.sampled_from(["", "x", "2.0.0 ok", "PDE+"])
)
HELLOS = st.lists(KEYWORDS, max_size=6).map(lambda words: ehlo(*words))
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
    stream = FakeStream(*script)
    options["hostname"] = "c.example"
    try:
        client = step(open_client(opener(stream), "s.example", 25, **options))
    except (OSError, ProtocolError):
        assert stream.close_timeouts == [0]
        return

    try:
        result = step(client.send("a@c.example", ["b@s.example", "c@s.example"], body))
        assert len(result) == 2
    except (OSError, ProtocolError):
        pass
    finally:
        step(client.aclose())

    assert stream.close_timeouts == [0]
    assert not client.is_open
    assert stream.output.count(b"\r\n.\r\n") <= 2
