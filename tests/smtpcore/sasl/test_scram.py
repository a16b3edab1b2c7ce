"""SCRAM-SHA-1, SCRAM-SHA-256, and their -PLUS variants."""

import base64

import pytest

from smtpcore import LocalProtocolError, RemoteProtocolError
from smtpcore.sasl import (
    MAX_NAME,
    Accepted,
    Answer,
    Challenge,
    Channel,
    ChannelBinding,
    CheckAuthorization,
    Credentials,
    GiveScramKeys,
    Policy,
    Question,
    Reason,
    Rejected,
    ScramClient,
    ScramKeys,
    ScramServer,
    Step,
    make_client,
    make_server,
    scram_keys,
)
from smtpcore.sasl._keys import client_key, client_proof, salt_password

from .helpers import ask, join, say

# name, nonces of client and server, salt, proof, signature: RFC 5802 section 5 and RFC 7677 section 3.
EXAMPLES = [
    (
        "SCRAM-SHA-1",
        "fyko+d2lbbFgONRv9qkxdawL",
        "3rfcNHYJY1ZVvWVs7j",
        "QSXCR+Q6sek8bf92",
        "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    (
        "SCRAM-SHA-256",
        "rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
]
NAMES = [name for name, *_ in EXAMPLES]
USER = Credentials(username="user", password="pencil")
EXPORTER, END_POINT = (
    ChannelBinding("tls-exporter", b"\x01exported"),
    ChannelBinding("tls-server-end-point", b"\x02hash"),
)
UNIQUE = ChannelBinding("tls-unique", b"\x03finished")
MALFORMED, INVALID = Rejected(Reason.MALFORMED), Rejected(Reason.INVALID_CREDENTIALS)
BINDING, EXTENSION = Rejected(Reason.CHANNEL_BINDING), Rejected(Reason.UNSUPPORTED_EXTENSION)

KEYS = scram_keys("pencil", hash_name="SHA-1", salt=b"salt")


def answers(question: Question) -> Answer:
    """Answer as a server with one user, who may not act as another."""
    match question:
        case GiveScramKeys("user", "SHA-1"):
            return KEYS
        case GiveScramKeys("user" | "a,b=c" | "IX", hash_name):
            return scram_keys("pencil", hash_name=hash_name, salt=b"salt")
        case _:
            return None


@pytest.mark.parametrize(("name", "cnonce", "snonce", "salt", "proof", "signature"), EXAMPLES)
def test_scram_server_completes_the_rfc_examples(
    name: str, cnonce: str, snonce: str, salt: str, proof: str, signature: str
) -> None:
    """R5802-3-01, R5802-3-02, R5802-4-01, R5802-5.1-08, R7677-3-01, R4422-5-02"""
    hash_name = name.removeprefix("SCRAM-")
    server = ScramServer(name, nonce=snonce)

    assert server.start(f"n,,n=user,r={cnonce}".encode()) == GiveScramKeys("user", hash_name)
    step = server.answer(scram_keys("pencil", hash_name=hash_name, salt=base64.b64decode(salt), iterations=4096))
    assert step == Challenge(f"r={cnonce}{snonce},s={salt},i=4096".encode())
    step = server.respond(f"c=biws,r={cnonce}{snonce},p={proof}".encode())
    assert step == Challenge(f"v={signature}".encode())
    assert server.respond(b"") == Accepted("user", "user")


@pytest.mark.parametrize(("name", "cnonce", "snonce", "salt", "proof", "signature"), EXAMPLES)
def test_scram_client_completes_the_rfc_examples(
    name: str, cnonce: str, snonce: str, salt: str, proof: str, signature: str
) -> None:
    client = ScramClient(name, USER, nonce=cnonce)

    assert client.initial() == f"n,,n=user,r={cnonce}".encode()
    final = client.respond(f"r={cnonce}{snonce},s={salt},i=4096".encode())
    assert final == f"c=biws,r={cnonce}{snonce},p={proof}".encode()
    assert not client.done
    assert client.respond(f"v={signature}".encode()) == b""
    client.finish()


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_another_hash_are_refused_as_an_answer(name: str) -> None:
    server = make_server(name)
    server.start(b"n,,n=user,r=abc")
    other = scram_keys("pencil", hash_name="SHA-256" if name == "SCRAM-SHA-1" else "SHA-1")

    with pytest.raises(LocalProtocolError, match="each hash"):
        server.answer(other)
    assert isinstance(server.answer(None), Challenge)


# Messages that a server rejects


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        pytest.param(b"", MALFORMED, id="empty"),
        pytest.param(b"\xff", MALFORMED, id="not UTF-8"),
        pytest.param(b"x,,n=user,r=abc", MALFORMED, id="R5802-5-01"),
        pytest.param(b"n,,r=abc,n=user", MALFORMED, id="R5802-5.1-01: order"),
        pytest.param(b"n,,N=user,r=abc", MALFORMED, id="R5802-5.1-01: letter case"),
        pytest.param(b"n,,n=a=2Db,r=abc", MALFORMED, id="R5802-5.1-03"),
        pytest.param(b"n,,m=ext,n=user,r=abc", EXTENSION, id="R5802-5.1-05"),
        pytest.param(b"n,,n=user,r=abc,m=ext", EXTENSION, id="R5802-5.1-05: at the end"),
        pytest.param(b"n,,n=" + b"x" * (MAX_NAME + 1) + b",r=abc", MALFORMED, id="long name"),
        pytest.param(b"n,a=" + b"x" * (MAX_NAME + 1) + b",n=user,r=abc", MALFORMED, id="long identity"),
        pytest.param(b"n,,n=\x07,r=abc", INVALID, id="prohibited"),
        pytest.param("n,,n=\u00ad,r=abc".encode(), INVALID, id="empty after preparation"),
        pytest.param("n,a=\u00ad,n=user,r=abc".encode(), INVALID, id="R4954-4-22"),
        pytest.param(b"p=tls-unique,,n=user,r=abc", BINDING, id="channel binding without -PLUS"),
    ],
)
def test_invalid_client_first_message_is_rejected_without_asking_the_application(
    message: bytes, outcome: Rejected
) -> None:
    assert make_server("SCRAM-SHA-1").start(message) == outcome


def final(*, binding: str = "biws", nonce: str = "abcdef", more: str = "", keys: ScramKeys = KEYS) -> bytes:
    """The final message of a client that knows the password, after it began with `n,,n=user,r=abc`."""
    server_first = f"r=abcdef,s={base64.b64encode(keys.salt).decode()},i={keys.iterations}"
    without_proof = f"c={binding},r={nonce}{more}"
    auth_message = f"n=user,r=abc,{server_first},{without_proof}".encode()
    salted = salt_password(b"pencil", "sha1", keys.salt, keys.iterations)
    proof = client_proof(client_key(salted, "sha1"), auth_message, "sha1")
    return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def outcome_of_final_message(message: bytes) -> Step:
    return say(ScramServer("SCRAM-SHA-1", nonce="def"), b"n,,n=user,r=abc", message, answers=answers)


def flip(message: bytes) -> bytes:
    return message[:-3] + (b"BA=" if message[-3:] != b"BA=" else b"BQ=")


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        pytest.param(b"", MALFORMED, id="empty"),
        pytest.param(b"\xff", MALFORMED, id="not UTF-8"),
        pytest.param(final(binding="eSws"), BINDING, id="R5802-6-03: another header"),
        pytest.param(final(binding="biwsAQ=="), BINDING, id="R5802-6-03: data of a binding"),
        pytest.param(final(nonce="abcdeg"), INVALID, id="R5802-5.1-06: altered nonce"),
        pytest.param(final(nonce="abc"), INVALID, id="R5802-5.1-06: truncated nonce"),
        pytest.param(final(more=",m=x"), EXTENSION, id="R5802-5.1-05"),
        pytest.param(final(keys=scram_keys("x", hash_name="SHA-1", salt=b"pepper")), INVALID, id="other salt"),
        pytest.param(flip(final()), INVALID, id="R5802-5.1-11: another proof"),
        pytest.param(b"c=biws,r=abcdef,p=AAAA", INVALID, id="short proof"),
        pytest.param(final()[:-1], MALFORMED, id="R5802-7-01: bad padding"),
    ],
)
def test_invalid_client_final_message_is_rejected(message: bytes, outcome: Rejected) -> None:
    """R4422-3.6-01"""
    assert outcome_of_final_message(message) == outcome


def test_valid_client_final_message_is_answered_with_the_server_signature() -> None:
    """R5802-5.1-10"""
    for message in (final(), final(more=",x=foo,Z=1")):
        step = outcome_of_final_message(message)
        assert isinstance(step, Challenge)
        assert step.data.startswith(b"v=")


def test_nonempty_response_to_the_server_signature_is_malformed() -> None:
    """R4422-5-02"""
    server = ScramServer("SCRAM-SHA-1", nonce="def")
    assert isinstance(say(server, b"n,,n=user,r=abc", final(), answers=answers), Challenge)

    assert server.respond(b"x") == MALFORMED


@pytest.mark.parametrize(("username", "identity"), [("a,b=c", "a,b=c"), ("I\u00adX", "IX")])
def test_names_are_escaped_and_prepared_in_scram_messages(username: str, identity: str) -> None:
    """R5802-5.1-03, R5802-2.2-01"""
    credentials = Credentials(username=username, password="pencil")
    exchange = join(ScramClient("SCRAM-SHA-1", credentials), make_server("SCRAM-SHA-1"), answers)

    assert exchange.outcome == Accepted(identity, identity)


def test_scram_name_is_prepared_for_the_application_but_signed_as_received() -> None:
    """R5802-5.1-04"""
    keys = scram_keys("pencil", hash_name="SHA-1", salt=b"salt")
    first, nonce = "n=I\u00adX,r=abc", "abcdef"
    server = ScramServer("SCRAM-SHA-1", nonce="def")
    assert server.start(f"n,,{first}".encode()) == GiveScramKeys("IX", "SHA-1")
    step = server.answer(keys)
    assert isinstance(step, Challenge)

    auth_message = f"{first},{step.data.decode()},c=biws,r={nonce}".encode()
    key = client_key(salt_password(b"pencil", "sha1", b"salt", 4096), "sha1")
    proof = base64.b64encode(client_proof(key, auth_message, "sha1")).decode()
    step = server.respond(f"c=biws,r={nonce},p={proof}".encode())
    assert isinstance(step, Challenge)
    assert server.respond(b"") == Accepted("IX", "IX")


def test_authorization_is_decided_before_the_server_signature_is_sent() -> None:
    """R5802-5.1-02"""
    credentials = Credentials(username="user", password="pencil", authorization="admin")
    exchange = join(ScramClient("SCRAM-SHA-1", credentials), make_server("SCRAM-SHA-1"), answers)

    assert exchange.questions == [GiveScramKeys("user", "SHA-1"), CheckAuthorization("user", "admin")]
    assert exchange.outcome == Rejected(Reason.NOT_AUTHORIZED)
    assert len(exchange.messages) == 3


# Unknown users


@pytest.mark.parametrize("name", NAMES)
def test_unknown_user_and_wrong_password_look_the_same(name: str) -> None:
    """R4422-3.6-02"""
    policy = Policy(scram_iterations=5000, scram_salt_size=12)
    hash_name = name.removeprefix("SCRAM-")
    known = scram_keys("pencil", hash_name=hash_name, salt=b"s" * 12, iterations=5000)

    def know_user(question: Question) -> Answer:
        assert isinstance(question, GiveScramKeys)
        return known if question.username == "user" else None

    shapes = []
    for username in ("user", "nobody"):
        client = ScramClient(name, Credentials(username=username, password="wrong"), nonce="abc")
        exchange = join(client, ScramServer(name, policy=policy, nonce="def"), know_user)
        salt = exchange.messages[1].decode().split(",")[1]
        shapes.append((exchange.outcome, len(exchange.messages), len(salt), exchange.messages[1].split(salt.encode())))

    assert shapes[0] == shapes[1]
    assert shapes[0][0] == INVALID


def test_salt_of_an_unknown_user_is_stable() -> None:
    def salt(username: str, policy: Policy | None = None) -> bytes:
        server = ScramServer("SCRAM-SHA-256", policy=policy or Policy(), nonce="def")
        step = ask(server, server.start(f"n,,n={username},r=abc".encode()), lambda question: None)
        assert isinstance(step, Challenge)
        return step.data

    shared = Policy(scram_secret=b"shared by all processes")
    assert salt("nobody") == salt("nobody") != salt("nemo")
    assert salt("nobody", shared) == salt("nobody", Policy(scram_secret=b"shared by all processes")) != salt("nobody")


def test_nonces_are_never_repeated() -> None:
    messages = [make_client("SCRAM-SHA-1", USER).initial() for _ in range(2)]
    steps = [say(make_server("SCRAM-SHA-1"), b"n,,n=user,r=abc", answers=answers) for _ in range(2)]

    assert messages[0] != messages[1]
    assert steps[0] != steps[1]


# Channel binding


def run(
    name: str, client: tuple[ChannelBinding, ...], server: tuple[ChannelBinding, ...], server_name: str | None = None
) -> Accepted | Rejected:
    one = make_client(name, USER, Channel(tls=True, bindings=client))
    other = make_server(server_name or name, Channel(tls=True, bindings=server))
    return join(one, other, answers).outcome


@pytest.mark.parametrize("name", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize("binding", [EXPORTER, END_POINT, UNIQUE])
def test_channel_binding_of_the_same_channel_is_accepted(name: str, binding: ChannelBinding) -> None:
    """R5802-6.1-01"""
    assert run(name, (binding,), (EXPORTER, END_POINT, UNIQUE)) == Accepted("user", "user")


@pytest.mark.parametrize(
    ("name", "client", "server", "server_name"),
    [
        pytest.param(
            "SCRAM-SHA-1-PLUS", (EXPORTER,), (ChannelBinding("tls-exporter", b"x"),), None, id="another channel"
        ),
        pytest.param("SCRAM-SHA-1-PLUS", (UNIQUE,), (EXPORTER,), None, id="R5802-6-02: unknown type"),
        pytest.param("SCRAM-SHA-1", (EXPORTER,), (EXPORTER,), None, id="R5802-6-01: downgrade"),
        pytest.param("SCRAM-SHA-1", (), (EXPORTER,), "SCRAM-SHA-1-PLUS", id="no channel binding with -PLUS"),
        pytest.param("SCRAM-SHA-1-PLUS", (EXPORTER,), (EXPORTER,), "SCRAM-SHA-1", id="channel binding without -PLUS"),
    ],
)
def test_channel_binding_mismatch_is_rejected(
    name: str, client: tuple[ChannelBinding, ...], server: tuple[ChannelBinding, ...], server_name: str | None
) -> None:
    assert run(name, client, server, server_name) == BINDING


@pytest.mark.parametrize("bindings", [(), (EXPORTER,)])
def test_server_without_channel_binding_accepts_a_client_with_channel_binding(
    bindings: tuple[ChannelBinding, ...],
) -> None:
    assert run("SCRAM-SHA-1", bindings, ()) == Accepted("user", "user")


def test_server_with_channel_binding_accepts_a_client_without_channel_binding() -> None:
    assert run("SCRAM-SHA-1", (), (EXPORTER,)) == Accepted("user", "user")


def test_unknown_channel_binding_type_is_rejected_without_asking_the_application() -> None:
    """R5802-6-02"""
    server = make_server("SCRAM-SHA-1-PLUS", Channel(tls=True, bindings=(EXPORTER,)))

    assert server.start(b"p=tls-unique,,n=user,r=abc") == BINDING


def test_plus_mechanism_requires_a_channel_binding() -> None:
    with pytest.raises(LocalProtocolError, match="channel binding"):
        make_server("SCRAM-SHA-1-PLUS")
    with pytest.raises(LocalProtocolError, match="channel binding"):
        make_client("SCRAM-SHA-1-PLUS", USER)


# Messages that a client rejects


def client_after(*challenges: bytes) -> ScramClient:
    client = ScramClient("SCRAM-SHA-1", USER, nonce="abc")
    client.initial()
    for challenge in challenges:
        client.respond(challenge)

    return client


FIRST = b"r=abcdef,s=c2FsdA==,i=4096"


@pytest.mark.parametrize(
    ("challenge", "fault"),
    [
        pytest.param(b"", "malformed first message", id="empty"),
        pytest.param(b"\xff", "UTF-8", id="not UTF-8"),
        pytest.param(b"m=x," + FIRST, "malformed first message", id="R5802-5.1-05"),
        pytest.param(FIRST + b",m=x", "malformed first message", id="R5802-5.1-05: at the end"),
        pytest.param(b"r=abddef,s=c2FsdA==,i=4096", "nonce", id="R5802-5.1-07"),
        pytest.param(b"r=abc,s=c2FsdA==,i=4096", "nonce", id="no nonce of the server"),
        pytest.param(b"r=abcdef,s=c2FsdA==,i=4095", "4095 iterations", id="few iterations"),
        pytest.param(b"r=abcdef,s=c2FsdA==,i=1000001", "1000001 iterations", id="many iterations"),
        pytest.param(b"r=abcdef,s=c2FsdA==,i=0", "malformed first message", id="R5802-7-01"),
        pytest.param(b"e=other-error", "malformed first message", id="an error"),
    ],
)
def test_invalid_server_first_message_is_a_remote_error(challenge: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault) as caught:
        client_after(challenge)

    assert "pencil" not in str(caught.value)


@pytest.mark.parametrize(
    ("challenge", "fault"),
    [
        pytest.param(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "impostor", id="R5802-5-02: another signature"),
        pytest.param(b"v=AAAA", "impostor", id="short signature"),
        pytest.param(b"v=", "malformed final message", id="no signature"),
        pytest.param(b"", "malformed final message", id="empty"),
        pytest.param(b"\xff", "UTF-8", id="not UTF-8"),
        pytest.param(b"v=AAAA,m=x", "malformed final message", id="R5802-5.1-05"),
    ],
)
def test_invalid_server_final_message_is_a_remote_error(challenge: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        client_after(FIRST, challenge)


def test_success_without_the_server_signature_is_a_remote_error() -> None:
    """R5802-5-02"""
    for challenges in ((), (FIRST,), (FIRST, b"e=invalid-proof")):
        client = client_after(*challenges)
        assert not client.done
        with pytest.raises(RemoteProtocolError, match="impostor"):
            client.finish()


def test_replayed_client_proof_is_not_a_server_signature() -> None:
    with pytest.raises(RemoteProtocolError, match="impostor"):
        client_after(FIRST, b"v=" + final().split(b"p=")[1])


def test_client_reports_the_error_that_the_server_sent() -> None:
    """R5802-5.1-11"""
    client = client_after(FIRST)

    assert client.respond(b"e=invalid-proof") == b""
    assert client.error == "invalid-proof"
    with pytest.raises(RemoteProtocolError, match="after the last one"):
        client.respond(b"")


def test_iteration_limits_can_be_changed_in_a_subclass() -> None:
    class OtherLimits(ScramClient):
        min_iterations = 1
        max_iterations = 10

    for iterations in (1, 10):
        client = OtherLimits("SCRAM-SHA-1", USER, nonce="abc")
        client.initial()
        assert client.respond(f"r=abcdef,s=c2FsdA==,i={iterations}".encode())

    client = OtherLimits("SCRAM-SHA-1", USER, nonce="abc")
    client.initial()
    with pytest.raises(RemoteProtocolError, match="11 iterations, not 1 to 10"):
        client.respond(b"r=abcdef,s=c2FsdA==,i=11")


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(username="user", password="Secret\x07"),
        Credentials(username="user", password="Secret\u0221"),
        Credentials(username="user", password="\u00ad"),
        Credentials(username="\u202e", password="Secret"),
        Credentials(username="\u00ad", password="Secret"),
        Credentials(username="user", password="Secret", authorization="\u00ad"),
    ],
)
def test_credentials_that_cannot_be_prepared_are_refused(credentials: Credentials) -> None:
    """R5802-2.2-01"""
    with pytest.raises(LocalProtocolError, match="SCRAM") as caught:
        make_client("SCRAM-SHA-1", credentials)

    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("nonce", ["", "a,b", "a b", "\u00e9"])
def test_invalid_nonce_is_refused(nonce: str) -> None:
    with pytest.raises(LocalProtocolError, match="nonce"):
        ScramServer("SCRAM-SHA-1", nonce=nonce)
    with pytest.raises(LocalProtocolError, match="nonce"):
        ScramClient("SCRAM-SHA-1", USER, nonce=nonce)


def test_scram_with_an_unknown_hash_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="SHA-1 and SHA-256"):
        ScramServer("SCRAM-MD5")
