"""`SmtpPair`: a client and a server connected in memory."""

from typing import Any

import pytest

from smtpcore import (
    Auth,
    Budgets,
    ClientConfig,
    Config,
    ConnectionClosed,
    Ehlo,
    LocalProtocolError,
    Mail,
    Noop,
    Path,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Reply,
    StartTls,
    State,
)
from smtpcore_adapters import Address, App, Limits, Message, Session, Timeouts, Tls, open_client
from smtpcore_adapters.testing import Clock, Inbox, SmtpPair
from smtpcore_adapters.users import Users
from tests.adapters.fakes import accepting

CONTENT = b"Subject: hello\r\n\r\n.body\r\n"


def test_delivered_message_arrives_with_its_envelope() -> None:
    pair = SmtpPair()

    assert pair.greeting == Reply(220, "s.example ESMTP")
    assert [reply.code for reply in pair.deliver("a@c.example", ["b@s.example", "c@s.example"], CONTENT)] == [
        250,
        250,
        250,
        354,
        250,
    ]
    (received,) = pair.messages
    assert received.sender == "a@c.example"
    assert received.recipients == ("b@s.example", "c@s.example")
    assert received.content == CONTENT
    assert received.message["Subject"] == "hello"
    assert received.helo == "c.example"
    assert (received.tls, received.identity) == (None, None)
    assert str(received.peer) == "192.0.2.1:49152"


def test_handlers_decide_the_replies() -> None:
    app = App()

    @app.on("RCPT")
    async def only_us(session: Session, rcpt: Rcpt) -> Reply | None:
        session.state.seen = str(rcpt.forward_path)
        return Reply(250) if rcpt.forward_path.domain == "s.example" else None

    @app.on("message")
    async def refuse(session: Session, message: Message) -> Reply:
        return Reply(552, f"{len(await message.read())} octets", enhanced="5.3.4")

    pair = SmtpPair(app)
    replies = pair.deliver("a@c.example", ["b@s.example", "b@else.example"], CONTENT)
    assert [reply.code for reply in replies] == [250, 250, 550, 354, 552]
    assert replies[-1].lines == (f"{len(CONTENT)} octets",)
    assert pair.session.state.seen == "b@else.example"
    assert [reply.code for reply in pair.deliver("a@c.example", ["b@else.example"], CONTENT)] == [250, 550]


def test_deliver_stops_at_a_refused_mail_or_data_command() -> None:
    app = accepting(Inbox())
    app.on("MAIL")(lambda session, mail: None if mail.reverse_path else Reply(550, "No notifications"))
    app.on("DATA")(lambda session, data: Reply(451, "Not now"))
    pair = SmtpPair(app)

    assert [reply.code for reply in pair.deliver("", ["b@s.example"], CONTENT)] == [550]
    assert [reply.code for reply in pair.deliver("a@c.example", ["b@s.example"], CONTENT)] == [250, 250, 451]


def test_pipelined_commands_are_answered_in_order() -> None:
    pair = SmtpPair()
    pair.hello()
    for command in (Mail(Path("a@c.example")), Rcpt(Path("b@s.example")), Rcpt(Path("c@s.example"))):
        pair.client.send(command)

    assert [answer.reply.code for answer in pair.exchange()] == [250, 250, 250]
    assert pair.exchange() == []


def test_lmtp_has_a_reply_for_each_recipient() -> None:
    inbox = Inbox()
    pair = SmtpPair(
        accepting(inbox),
        config=Config(hostname="s.example", lmtp=True),
        client_config=ClientConfig(hostname="c.example", lmtp=True),
    )

    replies = pair.deliver("a@c.example", ["b@s.example", "c@s.example"], CONTENT)
    assert [reply.code for reply in replies] == [250, 250, 250, 354, 250, 250]
    assert len(inbox) == 1


def test_starttls_is_simulated_and_resets_the_session() -> None:
    inbox = Inbox()
    pair = SmtpPair(accepting(inbox), config=Config(hostname="s.example", starttls=True))
    pair.hello()
    assert "STARTTLS" in pair.client.extensions
    assert pair.ask(StartTls()).code == 220
    assert pair.client.tls
    assert pair.client.helo is None
    pair.deliver("a@c.example", ["b@s.example"], CONTENT)

    tls = inbox[0].tls
    assert tls is not None
    assert tls.version == "TLSv1.3"


def test_message_has_the_identity_of_the_login() -> None:
    inbox = Inbox()
    app = App()
    app.include(Users({"tim": "secret"}))
    app.include(inbox)
    pair = SmtpPair(
        app,
        config=Config(hostname="s.example", plaintext_auth=True),
        client_config=ClientConfig(hostname="c.example", plaintext_auth=True),
    )
    pair.hello()

    assert pair.ask(Auth("PLAIN", b"\0tim\0secret")).code == 235
    pair.deliver("tim@s.example", ["b@else.example"], CONTENT)
    assert inbox[0].identity == "tim"


def test_handler_sleeps_and_calls_blocking_functions_without_delay() -> None:
    app = App()

    @app.on("NOOP")
    async def wait(session: Session, noop: Noop) -> Reply:
        await session.sleep(1000)
        return Reply(250, await session.run_blocking(str.upper, "done"))

    assert SmtpPair(app).ask(Noop()).lines == ("done".upper(),)


def test_handler_cannot_open_a_network_connection() -> None:
    app = App()

    @app.on("NOOP")
    async def connect(session: Session, noop: Noop) -> Reply:
        with pytest.raises(OSError, match="no network"):
            await open_client(session.open_stream, "127.0.0.1", 25)
        return Reply(250)

    assert SmtpPair(app).ask(Noop()).code == 250


def test_quit_and_close_end_the_session_on_both_sides() -> None:
    reasons: list[str] = []
    app = App()
    app.on("disconnect")(lambda session, reason: reasons.append(str(reason)))
    pair = SmtpPair(app)

    assert pair.ask(Quit()).code == 221
    assert pair.client.state is State.CLOSED
    assert isinstance(pair.client.next_event(), ConnectionClosed)
    pair.close()
    pair.close()
    assert reasons == ["QUIT"]

    pair = SmtpPair(app)
    pair.close()
    assert reasons == ["QUIT", "closed"]


def test_shutdown_sends_421() -> None:
    pair = SmtpPair()
    pair.hello()
    (goodbye,) = pair.shut_down()

    assert (goodbye.to, goodbye.reply.code) == (None, 421)
    assert pair.client.state is State.CLOSED


def test_client_fails_after_the_server_closed_the_connection() -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(421, "closing"))
    pair = SmtpPair(app)
    assert pair.ask(Noop()).code == 421
    with pytest.raises(LocalProtocolError):
        pair.ask(Ehlo("c.example"))

    class AbortingHandler:
        def on_ehlo(self, session: Session, ehlo: Ehlo) -> None:
            from smtpcore_adapters import AbortConnection

            raise AbortConnection(b"250")

    app = App()
    app.include(AbortingHandler())
    with pytest.raises(RemoteProtocolError, match="closed inside a reply"):
        SmtpPair(app).hello()


def test_base_exception_of_a_handler_gives_451() -> None:
    class OwnError(BaseException):
        pass

    def fail(session: Session, noop: Noop) -> Reply:
        raise OwnError

    app = App()
    app.on("NOOP")(fail)
    pair = SmtpPair(app)
    assert pair.ask(Noop()).code == 451
    assert pair.ask(Quit()).code == 221


# Transactions that end without a message


def greylisting(clock: Clock) -> App:
    """Return an app that accepts a client's address 300 seconds after its first attempt."""
    app = accepting(Inbox())
    seen: dict[str, float] = {}

    @app.on("RCPT")
    def defer(session: Session, rcpt: Rcpt) -> Reply | None:
        assert session.peer
        first = seen.setdefault(session.peer.host, clock())
        return None if clock() >= first + 300 else Reply(451, "Greylisted", enhanced="4.7.1")

    first = app.handlers["RCPT"]
    assert isinstance(first, list)
    first.reverse()
    return app


def codes(replies: list[Reply]) -> list[int]:
    return [reply.code for reply in replies]


def test_deliver_again_after_a_greylist_refused_every_recipient() -> None:
    clock = Clock()
    pair = SmtpPair(greylisting(clock), clock=clock)
    assert codes(pair.deliver("a@c.example", ["b@s.example", "c@s.example"], CONTENT)) == [250, 451, 451]
    assert pair.client.state is State.READY

    other = pair.another(peer="192.0.2.2")
    pair.advance(299)
    assert codes(pair.deliver("a@c.example", ["b@s.example"], CONTENT)) == [250, 451]
    pair.advance(1)
    assert codes(pair.deliver("a@c.example", ["b@s.example"], CONTENT)) == [250, 250, 354, 250]
    assert codes(other.deliver("a@c.example", ["b@s.example"], CONTENT)) == [250, 451]


def test_deliver_again_after_data_was_refused() -> None:
    app = accepting(Inbox())
    answers = [Reply(451, "Not now"), None]
    app.on("DATA")(lambda session, data: answers.pop(0))
    pair = SmtpPair(app)

    assert codes(pair.deliver("a@c.example", ["b@s.example"], CONTENT)) == [250, 250, 451]
    assert codes(pair.deliver("a@c.example", ["b@s.example"], CONTENT)) == [250, 250, 354, 250]


def test_deliver_ends_when_the_server_closes_the_connection() -> None:
    app = App()
    app.on("RCPT")(lambda session, rcpt: Reply(421, "closing"))

    assert codes(SmtpPair(app).deliver("a@c.example", ["b@s.example", "c@s.example"], CONTENT)) == [250, 421]


# The properties of the session


def test_options_set_the_properties_of_the_session() -> None:
    tls = Tls("TLSv1.2", "AES128-SHA", subject="CN=tim")
    pair = SmtpPair(peer=Address("198.51.100.7", 5), local="2001:db8::25", tls=tls, identity="tim")
    pair.deliver("a@c.example", ["b@s.example"], CONTENT)

    received = pair.messages[0]
    assert (str(received.peer), received.tls, received.identity) == ("198.51.100.7:5", tls, "tim")
    assert str(pair.session.local) == "[2001:db8::25]:25"
    assert SmtpPair(peer=None).session.peer is None


def test_tls_comes_before_the_greeting() -> None:
    pair = SmtpPair(tls=True)

    assert pair.client.tls
    assert pair.session.tls
    assert codes(pair.deliver("a@c.example", ["b@s.example"], CONTENT)) == [250, 250, 354, 250]


def test_starttls_uses_the_given_tls() -> None:
    tls = Tls("TLSv1.2", "AES128-SHA")
    pair = SmtpPair(tls=tls, config=Config(hostname="s.example", starttls=True))
    assert not pair.client.tls
    pair.hello()
    pair.ask(StartTls())

    assert pair.session.tls == tls


@pytest.mark.parametrize(
    "config",
    [
        Config(hostname="s.example", require_auth=True, auth_mechanisms=("PLAIN",)),
        Config(hostname="s.example", plaintext_auth=True, auth_mechanisms=("PLAIN",)),
        Config(hostname="s.example", plaintext_auth=("PLAIN",), auth_mechanisms=("PLAIN",)),
    ],
    ids=["after TLS", "in plaintext", "PLAIN in plaintext"],
)
def test_identity_is_added_to_the_mechanisms_of_the_configuration(config: Config) -> None:
    app = accepting(Inbox())
    app.include(Users({"ann": "secret"}))
    pair = SmtpPair(app, config=config, identity="tim")

    assert pair.session.identity == "tim"
    assert codes(pair.deliver("tim@s.example", ["b@s.example"], CONTENT)) == [250, 250, 354, 250]


def test_refused_client_does_not_log_in() -> None:
    app = App()
    app.on("connect")(lambda session, event: Reply(554, "No service"))

    assert SmtpPair(app, identity="tim").session.identity is None


@pytest.mark.parametrize(("name", "value"), [("peer", 25), ("tls", "yes"), ("identity", b"tim"), ("clock", 5.0)])
def test_option_of_a_wrong_type_is_an_error(name: str, value: object) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=name):
        SmtpPair(**options)


# Time and limits


def test_time_limit_of_a_session_ends_in_421() -> None:
    pair = SmtpPair(budgets=Budgets(command=60))
    pair.hello()
    assert pair.advance(59) == []
    (goodbye,) = pair.advance(100)

    assert (goodbye.to, goodbye.reply.code) == (None, 421)
    assert pair.clock() == 159
    assert pair.client.state is State.CLOSED


def test_greeting_comes_after_its_delay() -> None:
    pair = SmtpPair(timeouts=Timeouts(greeting_delay=5))

    assert pair.greeting.code == 220
    assert pair.clock() == 5


def test_rate_of_an_address_is_limited() -> None:
    pair = SmtpPair(limits=Limits(connections_per_minute=1))

    assert pair.another().greeting.code == 421
    assert pair.another(peer="192.0.2.2").greeting.code == 220
    pair.advance(120)
    assert pair.another().greeting.code == 220
