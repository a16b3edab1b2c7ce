"""Any message in a SASL exchange raises only documented errors, and nobody is authenticated without a proof.

Every exchange ends, and no message is longer than RFC 4954 allows.
"""

from collections.abc import Iterator

from smtpcore import LocalProtocolError, RemoteProtocolError
from smtpcore.sasl import (
    MAX_MESSAGE,
    MECHANISMS,
    Accepted,
    Answer,
    Challenge,
    Channel,
    ChannelBinding,
    CheckAnonymous,
    CheckAuthorization,
    CheckIdentity,
    CheckPassword,
    CheckToken,
    Credentials,
    GivePassword,
    GiveScramKeys,
    Question,
    Rejected,
    Step,
    TokenError,
    make_client,
    make_server,
    scram_keys,
)

from .harness import Draw

PASSWORD, TOKEN = "tanstaaftanstaaf", "ya29.token"
KEYS = {name: scram_keys(PASSWORD, hash_name=name, salt=b"salt") for name in ("SHA-1", "SHA-256")}
BINDING = (ChannelBinding("tls-exporter", b"exported"),)
CHANNELS = {
    row.name: Channel(tls=True, bindings=BINDING if row.name.endswith("-PLUS") else (), external="CN=tim", host="s")
    for row in MECHANISMS
}
MOST_STEPS = 8


def known(question: Question) -> Answer:
    """Return the answer of a server that knows one user."""
    match question:
        case CheckPassword(username):
            return question.matches(PASSWORD if username == "tim" else None)
        case GivePassword(username):
            return PASSWORD if username == "tim" else None
        case GiveScramKeys(username, hash_name):
            return KEYS[hash_name] if username == "tim" else None
        case CheckToken(_, token):
            return "tim" if token == TOKEN else TokenError("invalid_token", scope="mail")
        case CheckIdentity() | CheckAuthorization():
            return None
        case CheckAnonymous():
            return False


def hear_clients(name: str, messages: Iterator[bytes], with_initial: bool) -> None:
    """Pass the drawn messages to a server's end. The client is authenticated only if the messages contain the password
    or the token."""
    server = make_server(name, CHANNELS[name])
    said = b""
    step: Step = server.start(next(messages, None) if with_initial else None)
    for _ in range(MOST_STEPS):
        match step:
            case Accepted(identity, authorization):
                assert identity == authorization == "tim"
                assert PASSWORD.encode() in said or TOKEN.encode() in said
                return
            case Rejected():
                return
            case Challenge(data):
                assert len(data) <= MAX_MESSAGE
                message = next(messages, b"")
                said += message
                step = server.respond(message)
            case question:
                step = server.answer(known(question))

    raise AssertionError("the exchange does not end")


def hear_servers(name: str, messages: Iterator[bytes], with_initial: bool) -> None:
    """Pass the drawn messages to a client's end. With SCRAM, they must fail: they lack the server's proof."""
    client = make_client(name, Credentials(username="tim", password=PASSWORD, token=TOKEN, trace=""), CHANNELS[name])
    try:
        assert len((client.initial() if with_initial else None) or b"") <= MAX_MESSAGE
        for message in messages:
            assert len(client.respond(message)) <= MAX_MESSAGE
        client.finish()
    except RemoteProtocolError:
        assert not client.done
        try:
            client.respond(b"")
        except (LocalProtocolError, RemoteProtocolError):
            return
        raise AssertionError("the client continues after an error of the server") from None

    assert "SCRAM" not in name


def test_one_input(data: bytes) -> None:
    """Send the lines of the input to one end of a mechanism."""
    draw = Draw(data)
    row = draw.choose(MECHANISMS)
    options = draw.byte()
    messages = iter(draw.rest().split(b"\n"))
    hear = hear_servers if options & 1 else hear_clients
    hear(row.name, messages, bool(options & 2))
