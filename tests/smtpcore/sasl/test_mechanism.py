"""The turns of an exchange, and properties that all mechanisms share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore import LocalProtocolError, RemoteProtocolError
from smtpcore.sasl import (
    MAX_MESSAGE,
    MAX_NAME,
    MECHANISMS,
    Accepted,
    Answer,
    Challenge,
    Channel,
    ChannelBinding,
    CheckAuthorization,
    CheckIdentity,
    CheckPassword,
    CheckToken,
    ClientMechanism,
    Credentials,
    Exchange,
    GivePassword,
    GiveScramKeys,
    Mechanism,
    Policy,
    Question,
    Reason,
    Refusal,
    Rejected,
    Responses,
    ServerMechanism,
    choose,
    make_client,
    make_server,
    scram_keys,
)

from .helpers import join

CHANNEL = Channel(
    tls=True,
    bindings=(ChannelBinding("tls-exporter", b"exported"), ChannelBinding("tls-server-end-point", b"hashed")),
    external="CN=tim",
    host="s.example",
    port=587,
)
PASSWORD, TOKEN = "tanstaaf-Secret", "ya29.Secret"
CREDENTIALS = Credentials(username="tim", password=PASSWORD, token=TOKEN, trace="tim@c.example")
KEYS = {name: scram_keys(PASSWORD, hash_name=name) for name in ("SHA-1", "SHA-256")}
NAMES = [row.name for row in MECHANISMS]
# RFC 5802 section 6: a client that uses a mechanism without -PLUS has no channel binding data.
UNBOUND = Channel(tls=True, external="CN=tim", host="s.example", port=587)


def channel_for(name: str) -> Channel:
    return CHANNEL if name.endswith("-PLUS") else UNBOUND


def answers(question: Question) -> Answer:
    """Answer as a server with one user, tim."""
    match question:
        case CheckPassword(username):
            return question.matches({"tim": PASSWORD}.get(username))
        case GivePassword(username):
            return {"tim": PASSWORD}.get(username)
        case GiveScramKeys(username, hash_name):
            return KEYS[hash_name] if username == "tim" else None
        case CheckToken(_, token):
            return "tim" if token == TOKEN else None
        case CheckIdentity("CN=tim"):
            return "tim"
        case CheckAuthorization("tim", "kurt"):
            return True
        case _:
            return None


def welcome(question: Question) -> Answer:
    """Answer as a server that accepts anonymous clients, too."""
    answer = answers(question)
    return True if answer is None else answer


@pytest.mark.parametrize("with_initial", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_client_and_server_complete_the_exchange(name: str, with_initial: bool) -> None:
    """R4954-4-08, R4954-4-24"""
    client = make_client(name, CREDENTIALS, channel_for(name))
    server = make_server(name, channel_for(name))

    exchange = join(client, server, welcome, with_initial=with_initial)

    identity = "anonymous" if name == "ANONYMOUS" else "tim"
    assert exchange.outcome == Accepted(identity, identity)
    assert client.error is None


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("EXTERNAL", "ANONYMOUS")])
@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "tim", "password": "Wrong", "token": "Wrong"},
        {"username": "nobody", "password": PASSWORD, "token": "Wrong"},
    ],
)
def test_wrong_credentials_are_rejected(name: str, wrong: dict[str, str]) -> None:
    """R4954-4-23, R4954-4-29"""
    client = make_client(name, Credentials(**wrong), channel_for(name))

    exchange = join(client, make_server(name, channel_for(name)), answers)

    assert exchange.outcome == Rejected(Reason.INVALID_CREDENTIALS)


@pytest.mark.parametrize("name", NAMES)
def test_answer_none_rejects_every_client(name: str) -> None:
    exchange = join(
        make_client(name, CREDENTIALS, channel_for(name)), make_server(name, channel_for(name)), lambda question: None
    )

    assert exchange.outcome == Rejected(Reason.INVALID_CREDENTIALS)


ACTING = [row.name for row in MECHANISMS if row.client.can_act_for_others]


@pytest.mark.parametrize("name", ACTING)
@pytest.mark.parametrize(
    ("authorization", "outcome"),
    [
        ("kurt", Accepted("tim", "kurt")),
        ("a=b,c", Rejected(Reason.NOT_AUTHORIZED)),
        ("tim", Accepted("tim", "tim")),
    ],
)
def test_acting_as_another_user_needs_permission(name: str, authorization: str, outcome: Accepted | Rejected) -> None:
    """R4616-2-05, R5802-5.1-02, R4422-A.1-03"""
    credentials = Credentials(username="tim", password=PASSWORD, token=TOKEN, authorization=authorization)
    exchange = join(make_client(name, credentials, channel_for(name)), make_server(name, channel_for(name)), answers)

    asked = [question for question in exchange.questions if isinstance(question, CheckAuthorization)]
    assert exchange.outcome == outcome
    assert asked == ([] if authorization == "tim" else [CheckAuthorization("tim", authorization)])


@pytest.mark.parametrize("name", [name for name in ACTING if name != "EXTERNAL"])
def test_authorization_is_not_asked_before_authentication_succeeds(name: str) -> None:
    credentials = Credentials(username="tim", password="Wrong", token="Wrong", authorization="kurt")
    exchange = join(make_client(name, credentials, channel_for(name)), make_server(name, channel_for(name)), answers)

    assert exchange.outcome == Rejected(Reason.INVALID_CREDENTIALS)
    assert not [question for question in exchange.questions if isinstance(question, CheckAuthorization)]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ACTING])
def test_authorization_identity_is_refused_by_mechanisms_that_cannot_send_it(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="cannot act for others"):
        make_client(name, Credentials(username="tim", password="x", token="x", trace="", authorization="kurt"), CHANNEL)


@pytest.mark.parametrize("name", NAMES)
def test_client_and_server_expose_their_inputs(name: str) -> None:
    channel, policy = channel_for(name), Policy(scram_iterations=5000)
    server, client = make_server(name, channel, policy), make_client(name, CREDENTIALS, channel)

    assert (server.name, server.channel, server.policy) == (name, channel, policy)
    assert (client.name, client.channel, client.credentials) == (name, channel, CREDENTIALS)


@pytest.mark.parametrize(
    ("name", "credentials", "why"),
    [
        ("PLAIN", Credentials(username="tim"), "needs username and password: these"),
        ("OAUTHBEARER", Credentials(username="tim"), "needs token: these"),
        (
            "LOGIN",
            Credentials(username="tim", password="x", authorization="kurt"),
            "needs username and password, and cannot act for others: these",
        ),
    ],
)
def test_error_names_the_missing_credentials(name: str, credentials: Credentials, why: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"^{name} {why} credentials do not suit it$"):
        make_client(name, credentials, channel_for(name))


@pytest.mark.parametrize("name", ["PLAIN", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256"])
def test_user_name_of_maximum_length_is_accepted(name: str) -> None:
    longest = "x" * MAX_NAME
    credentials = Credentials(username=longest, password="x", token="x")
    question = make_server(name, UNBOUND).start(make_client(name, credentials, UNBOUND).initial())

    assert isinstance(question, CheckPassword | CheckToken | GiveScramKeys)
    assert question.username == longest


@pytest.mark.parametrize("name", [name for name in NAMES if name != "EXTERNAL"])
def test_mechanism_refuses_empty_credentials(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=r"needs (username|token|trace)"):
        make_client(name, Credentials(), CHANNEL)


# Turns


@pytest.mark.parametrize("name", NAMES)
def test_server_call_out_of_turn_raises_and_changes_nothing(name: str) -> None:
    client, server = make_client(name, CREDENTIALS, channel_for(name)), make_server(name, channel_for(name))
    assert_respond_is_refused(server)
    assert_answer_is_refused(server)

    step = server.start()
    while not isinstance(step, Accepted | Rejected):
        assert_start_is_refused(server)
        if isinstance(step, Challenge):
            assert_answer_is_refused(server)
            step = server.respond(client.respond(step.data))
        else:
            assert_respond_is_refused(server)
            with pytest.raises(LocalProtocolError, match="is answered with"):
                server.answer(b"Secret")  # type: ignore[arg-type]
            step = server.answer(welcome(step))

    assert isinstance(step, Accepted)
    assert_start_is_refused(server)
    assert_respond_is_refused(server)
    assert_answer_is_refused(server)


def assert_start_is_refused(server: ServerMechanism) -> None:
    with pytest.raises(LocalProtocolError, match="has begun"):
        server.start()


def assert_respond_is_refused(server: ServerMechanism) -> None:
    with pytest.raises(LocalProtocolError, match="no challenge"):
        server.respond(b"")


def assert_answer_is_refused(server: ServerMechanism) -> None:
    with pytest.raises(LocalProtocolError, match="no question"):
        server.answer(None)


@pytest.mark.parametrize("name", NAMES)
def test_message_over_the_limit_is_malformed(name: str) -> None:
    long = b"x" * (MAX_MESSAGE + 1)

    assert make_server(name, CHANNEL).start(long) == Rejected(Reason.MALFORMED)

    server = make_server(name, CHANNEL)
    assert isinstance(server.start(), Challenge)
    assert server.respond(long) == Rejected(Reason.MALFORMED)
    with pytest.raises(LocalProtocolError):
        server.respond(b"")


def test_message_of_maximum_length_is_accepted() -> None:
    server = make_server("XOAUTH2", UNBOUND)
    around = len(b"user=tim\x01auth=Bearer \x01\x01")
    message = b"user=tim\x01auth=Bearer " + b"x" * (MAX_MESSAGE - around) + b"\x01\x01"

    assert len(message) == MAX_MESSAGE
    assert isinstance(server.start(message), CheckToken)

    client = make_client("CRAM-MD5", CREDENTIALS)
    assert client.initial() is None
    assert client.respond(b"x" * MAX_MESSAGE).startswith(b"tim ")


@pytest.mark.parametrize("name", NAMES)
def test_challenge_over_the_limit_is_a_remote_error(name: str) -> None:
    client = make_client(name, CREDENTIALS, channel_for(name))
    client.initial()

    with pytest.raises(RemoteProtocolError, match="octets"):
        client.respond(b"x" * (MAX_MESSAGE + 1))
    with pytest.raises(LocalProtocolError, match="failed"):
        client.respond(b"")
    with pytest.raises(RemoteProtocolError, match="success"):
        client.finish()


@pytest.mark.parametrize("name", NAMES)
def test_success_before_the_exchange_is_a_remote_error(name: str) -> None:
    client = make_client(name, CREDENTIALS, channel_for(name))

    assert not client.done
    with pytest.raises(RemoteProtocolError, match="impostor"):
        client.finish()


@pytest.mark.parametrize("name", NAMES)
def test_client_starts_only_once(name: str) -> None:
    client = make_client(name, CREDENTIALS, channel_for(name))
    client.initial()

    with pytest.raises(LocalProtocolError, match="has begun"):
        client.initial()


@pytest.mark.parametrize("name", NAMES)
def test_early_challenge_is_a_remote_error_where_the_client_speaks_first(name: str) -> None:
    """R4422-5-01"""
    client = make_client(name, CREDENTIALS, channel_for(name))
    if name in ("CRAM-MD5", "LOGIN"):
        assert client.respond(b"<challenge>")
        return

    with pytest.raises(RemoteProtocolError, match="client speaks first"):
        client.respond(b"<challenge>")


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL", "ANONYMOUS"])
def test_challenge_after_the_last_response_is_a_remote_error(name: str) -> None:
    client = make_client(name, CREDENTIALS, channel_for(name))
    client.initial()
    while not client.done:
        client.respond(b"")

    with pytest.raises(RemoteProtocolError, match="after the last one"):
        client.respond(b"")
    assert not client.done


# Custom mechanisms


class PinServer(ServerMechanism):
    def exchange(self, initial_response: bytes | None) -> Exchange:
        if (yield Challenge(b"PIN?")) != b"1234":
            raise Refusal(Reason.INVALID_CREDENTIALS)
        return (yield from self.authorize("tim", None))


class NeedlessClient(ClientMechanism):
    def exchange(self) -> Responses:
        yield b""
        return b""


def test_mechanism_may_require_no_credentials() -> None:
    assert NeedlessClient("X", Credentials()).initial() == b""
    with pytest.raises(LocalProtocolError, match=r"^X needs nothing, and cannot act for others: "):
        NeedlessClient("X", Credentials(authorization="kurt"))


class PinClient(ClientMechanism):
    needs = ("password",)

    def exchange(self) -> Responses:
        assert self.credentials.password
        if (yield None) != b"PIN?":
            raise RemoteProtocolError("what is that?")
        return self.credentials.password.encode()


PIN = Mechanism(name="X-PIN", server=PinServer, client=PinClient)
ALL = (PIN, *MECHANISMS)


def test_custom_mechanism_is_chosen_and_completes_an_exchange() -> None:
    credentials = Credentials(password="1234")
    assert choose(["x-pin"], credentials, CHANNEL, mechanisms=ALL) == "X-PIN"

    client = make_client("X-PIN", credentials, mechanisms=ALL)
    assert join(client, make_server("x-pin", mechanisms=ALL), answers).outcome == Accepted("tim", "tim")
    wrong = make_client("X-PIN", Credentials(password="12"), mechanisms=ALL)
    assert join(wrong, make_server("X-PIN", mechanisms=ALL), answers).outcome == Rejected(Reason.INVALID_CREDENTIALS)


def test_client_stays_unusable_after_an_error() -> None:
    client = make_client("X-PIN", Credentials(password="1234"), mechanisms=ALL)
    with pytest.raises(RemoteProtocolError, match="what is that"):
        client.respond(b"PUK?")
    with pytest.raises(LocalProtocolError):
        client.respond(b"PIN?")

    assert not client.done


# Secrets


@pytest.mark.parametrize("name", NAMES)
def test_repr_of_mechanisms_and_questions_hides_secrets(name: str) -> None:
    client, server = make_client(name, CREDENTIALS, channel_for(name)), make_server(name, channel_for(name))
    seen: list[object] = [client, server]

    def watch(question: Question) -> Answer:
        seen.append(question)
        return welcome(question)

    seen.append(join(client, server, watch).outcome)

    texts = "".join(f"{thing!r}{thing}" for thing in seen)
    assert name in texts
    assert "Secret" not in texts


# Arbitrary input


messages = st.one_of(
    st.none(),
    st.binary(max_size=200),
    st.text(alphabet="npyarcsivem=,\0\x01 <>@:BearerauthostABC0123456789\u00e9\u0627", max_size=80).map(str.encode),
    st.sampled_from(
        [
            b"\0tim\0" + PASSWORD.encode(),
            b"n,,n=tim,r=abc",
            b"y,,n=tim,r=abc",
            b"p=tls-exporter,,n=tim,r=abc",
            b"n,a=kurt,\x01auth=Bearer " + TOKEN.encode() + b"\x01\x01",
            b"user=tim\x01auth=Bearer x\x01\x01",
            b"tim 0123456789abcdef0123456789abcdef",
            b"tim",
            b"x" * (MAX_MESSAGE + 1),
        ]
    ),
)
any_answer: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, "tim", "", PASSWORD, KEYS["SHA-1"], KEYS["SHA-256"]]
)


@given(st.sampled_from(NAMES), st.booleans(), messages, st.lists(messages, max_size=5), st.data())
def test_server_raises_no_error_for_any_input_of_the_client(
    name: str, bound: bool, initial: bytes | None, rest: list[bytes | None], data: st.DataObject
) -> None:
    server = make_server(name, CHANNEL if bound or name.endswith("-PLUS") else UNBOUND)
    step = server.start(initial)
    for message in rest:
        while not isinstance(step, Challenge | Accepted | Rejected):
            answer = data.draw(any_answer)
            try:
                step = server.answer(answer)
            except LocalProtocolError:
                step = server.answer(None)

        if not isinstance(step, Challenge):
            return
        step = server.respond(message or b"")


@given(st.sampled_from(NAMES), st.lists(messages, min_size=1, max_size=5))
def test_client_raises_only_remote_protocol_error_for_any_input_of_the_server(
    name: str, challenges: list[bytes | None]
) -> None:
    client = make_client(name, CREDENTIALS, channel_for(name))
    client.initial()
    for challenge in challenges:
        try:
            assert isinstance(client.respond(challenge or b""), bytes)
        except RemoteProtocolError as exc:
            fault = str(exc)
            break
    else:
        fault = ""

    assert "Secret" not in fault
    assert not (fault and client.done)
    assert not (name.startswith("SCRAM") and client.done)


def test_refusal_has_the_text_of_its_reason() -> None:
    assert {str(Refusal(reason)) for reason in Reason} == {reason.text for reason in Reason}
