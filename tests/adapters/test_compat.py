"""Handler objects written for aiosmtpd. Most tests hold the same dialogue with aiosmtpd itself, and compare."""

import io
import mailbox
import smtplib
import socket
import ssl
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message as ParsedMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import aiosmtpd.handlers
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import MISSING
from aiosmtpd.smtp import AuthResult as TheirResult
from aiosmtpd.smtp import LoginPassword as TheirLogin

from smtpcore import Reply, Tolerance
from smtpcore_adapters import Address, App, Timeouts
from smtpcore_adapters.asyncio import BackgroundServer
from smtpcore_adapters.compat import AiosmtpdHandler, AuthResult, LoginPassword
from smtpcore_adapters.tls import server_context
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, QUIT, RCPT
from tests.adapters.harness import TIMEOUT, Client, running
from tests.adapters.playbook import session
from tests.certificates import context_trusting

BODY: Final = b"Subject: hello\r\n\r\n..two dots\r\nend\r\n.\r\n"
SENDING: Final = (
    EHLO,
    b"MAIL FROM:<a@c.example> SIZE=100 BODY=8BITMIME\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    DATA,
    BODY,
)
NAME: Final = "s.example"
Make = Callable[[], Any]


class OnFreePort(Controller):
    """aiosmtpd's controller on a port that the system has picked."""

    def __init__(self, handler: Any, **options: Any) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        super().__init__(handler, hostname="127.0.0.1", port=port, server_hostname=NAME, **options)

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._listener)


@contextmanager
def theirs(handler: Any, **options: Any) -> Iterator[Address]:
    """Run the handler under aiosmtpd."""
    controller = OnFreePort(handler, **options)
    controller.start()
    try:
        yield Address("127.0.0.1", controller.port)
    finally:
        controller.stop()


@contextmanager
def ours(handler: AiosmtpdHandler, *, starttls: ssl.SSLContext | None = None, **changes: Any) -> Iterator[Address]:
    """Run the handler under smtpcore."""
    app = App()
    app.include(handler)
    config = replace(CONFIG, tolerance=Tolerance.LENIENT, **changes)
    timeouts = Timeouts(auth_delay=0.0)  # no delay after a failed login
    with BackgroundServer(app, config=config, timeouts=timeouts, tls=starttls) as server:
        yield server.address


def codes(address: Address, lines: tuple[bytes, ...], trust: ssl.SSLContext | None = None) -> list[str]:
    """Send each line after the reply to the line before, and return the codes. A 220 to STARTTLS begins TLS."""
    with Client(address) as client:
        found = [client.read()[:3]]
        for line in lines:
            found.append(client.send(line).read()[:3])
            if line == b"STARTTLS\r\n" and found[-1] == "220":
                assert trust
                client.start_tls(trust, NAME)

    return found


def compare(
    make: Make,
    *dialogues: tuple[bytes, ...],
    aiosmtpd: dict[str, Any] | None = None,
    shim: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    trust: ssl.SSLContext | None = None,
) -> list[list[str]]:
    """Hold the dialogues with both servers, check that the codes and the calls are equal, and return the codes."""
    their_handler, our_handler = make(), make()
    with theirs(their_handler, **(aiosmtpd or {})) as address:
        expected = [codes(address, each, trust) for each in dialogues]
    with ours(AiosmtpdHandler(our_handler, **(shim or {})), **(config or {})) as address:
        found = [codes(address, each, trust) for each in dialogues]
    assert found == expected
    assert getattr(our_handler, "calls", None) == getattr(their_handler, "calls", None)
    return found


class Recorder:
    """A handler that records what it gets, and accepts everything."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def _record(self, name: str, server: Any, session: Any, envelope: Any, *args: object) -> str:
        assert server.hostname == NAME
        assert session.peer[0] == server.transport.get_extra_info("peername")[0] == "127.0.0.1"
        self.calls.append(
            (
                name,
                args,
                session.host_name,
                session.extended_smtp,
                session.authenticated,
                session.ssl is not None,
                dict(vars(envelope)),
            )
        )
        return "250 OK"

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
        self._record("HELO", server, session, envelope, hostname)
        session.host_name = hostname
        return f"250 {server.hostname}"

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self._record("EHLO", server, session, envelope, hostname)
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        status = self._record("MAIL", server, session, envelope, address, list(options))
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return status

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        status = self._record("RCPT", server, session, envelope, address, list(options))
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return status

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return self._record("DATA", server, session, envelope)

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        return self._record("RSET", server, session, envelope)

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
        return self._record("NOOP", server, session, envelope, arg)

    async def handle_VRFY(self, server: Any, session: Any, envelope: Any, address: str) -> str:
        self._record("VRFY", server, session, envelope, address)
        return "252 Perhaps"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        self._record("QUIT", server, session, envelope)
        return "221 Bye"


class LocalOnly:
    """A handler that takes mail for one domain."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if not address.endswith("@example.com"):
            return "550 not relaying to that domain"

        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.calls.append((envelope.mail_from, envelope.rcpt_tos, envelope.content, envelope.original_content))
        return "250 Message accepted for delivery"


def test_each_function_gets_the_same_arguments() -> None:
    found = compare(
        Recorder,
        (*SENDING, b"NOOP\r\n", b"NOOP x y\r\n", b"VRFY <b@example.com>\r\n", b"RSET\r\n", QUIT),
        (
            b"HELO old.example\r\n",
            b"MAIL FROM:<>\r\n",
            RCPT,
            b"RSET\r\n",
            MAIL,
            b'RCPT TO:<"q s"@example.com>\r\n',
            DATA,
            BODY,
        ),
        (
            EHLO,
            b"mail from:<A.b@C.example> smtputf8\r\n",
            b"RCPT TO:<b@example.com>\r\n",
            b"RCPT TO:<c@example.com>\r\n",
            EHLO,
        ),
    )
    assert set().union(*found) == {"220", "250", "252", "354", "221"}


def test_refusal_of_one_recipient_keeps_the_other_recipients() -> None:
    (found,) = compare(
        LocalOnly,
        (
            EHLO,
            MAIL,
            b"RCPT TO:<x@elsewhere.example>\r\n",
            b"RCPT TO:<b@example.com>\r\n",
            DATA,
            BODY,
            *SENDING[1:],
            QUIT,
        ),
    )
    assert found == ["220", "250", "250", "550", "250", "354", "250", "250", "250", "354", "250", "221"]


def test_handler_without_handle_helo_accepts_mail_after_helo() -> None:
    (found,) = compare(LocalOnly, (b"HELO c.example\r\n", MAIL, b"RCPT TO:<b@example.com>\r\n", DATA, BODY, QUIT))
    assert found == ["220", "250", "250", "250", "354", "250", "221"]


def test_mistakes_of_clients_get_the_same_codes() -> None:
    compare(
        LocalOnly,
        (
            MAIL,
            RCPT,
            DATA,
            b"XFOO\r\n",
            b"\r\n",
            b"EHLO\r\n",
            EHLO,
            RCPT,
            DATA,
            MAIL,
            MAIL,
            b"RCPT TO:\r\n",
            b"EXPN x\r\n",
            QUIT,
        ),
        (EHLO, b"MAIL FROM:<a@c.example> SIZE=999999999\r\n", b"MAIL FROM:<a@c.example> XFOO=1\r\n", b"VRFY\r\n", QUIT),
    )


def test_handler_that_forgets_the_envelope_is_out_of_sequence() -> None:
    class Forgetful:
        async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
            return "250 hello"

        async def handle_EHLO(
            self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
        ) -> list[str]:
            session.host_name = None if hostname == "nobody" else hostname
            return responses

        async def auth_OWN(self, server: Any, args: list[str]) -> str:
            return "anyone"

        async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
            if address == "b@c.example":
                envelope.mail_from = address
            return "250 OK"

        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return "250 OK"

    found = compare(
        Forgetful,
        (b"HELO c.example\r\n", MAIL),
        (b"EHLO nobody\r\n", b"AUTH OWN\r\n", MAIL),
        (EHLO, MAIL, RCPT),
        (EHLO, b"MAIL FROM:<b@c.example>\r\n", RCPT, DATA, QUIT),
        aiosmtpd={"auth_require_tls": False},
        config={"plaintext_auth": True},
    )
    assert [each[-1] for each in found] == ["503", "503", "503", "221"]
    assert found[3] == ["220", "250", "250", "250", "503", "221"]


@pytest.mark.filterwarnings("ignore:Use the 5-argument")
def test_refusal_of_each_function_gets_the_same_code() -> None:
    class Refusing:
        async def handle_HELO(self, *args: Any) -> str:
            return "550 no HELO"

        async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
            session.host_name = hostname
            return "550 no EHLO" if hostname == "bad.example" else "250 HELP"

        async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
            if address.startswith("bad"):
                return "550-no\r\n550 mail"
            envelope.mail_from = address
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return "554 5.6.0 no data"

        async def handle_NOOP(self, *args: Any) -> str:
            return "450 no NOOP"

        async def handle_VRFY(self, *args: Any) -> str:
            return "550 no VRFY"

        async def handle_RSET(self, *args: Any) -> str:
            return "450 no RSET"

    compare(Refusing, (b"HELO c.example\r\n", b"NOOP\r\n", b"VRFY x\r\n", b"RSET\r\n", QUIT))
    with ours(AiosmtpdHandler(Refusing())) as address:
        found = codes(
            address, (b"EHLO bad.example\r\n", EHLO, b"MAIL FROM:<bad@c.example>\r\n", MAIL, RCPT, DATA, BODY)
        )
    assert found == ["220", "550", "250", "550", "250", "250", "354", "554"]


def test_missing_leaves_the_decision_to_the_server() -> None:
    class Undecided(LocalOnly):
        async def handle_MAIL(self, server: Any, session: Any, envelope: Any, *args: Any) -> Any:
            envelope.mail_from = "a@c.example"
            return MISSING

        async def handle_NOOP(self, *args: Any) -> Any:
            return MISSING

    compare(Undecided, (EHLO, b"NOOP\r\n", MAIL, b"RCPT TO:<b@example.com>\r\n", DATA, BODY, QUIT))


# EHLO


def test_handle_ehlo_gets_the_lines_and_may_change_the_first(caplog: pytest.LogCaptureFixture) -> None:
    class Greeter(LocalOnly):
        async def handle_EHLO(
            self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
        ) -> list[str]:
            self.calls.append([line for line in responses if line.startswith("250-SIZE") or line == responses[0]])
            session.host_name = hostname
            extra = ["250-XFOO"] if hostname == "x.example" else []
            return [f"250-{server.hostname} hello {hostname}", *extra, *responses[1:]]

    handler = Greeter()
    with ours(AiosmtpdHandler(handler)) as address, Client(address) as client:
        client.expect(220).send(EHLO)
        lines = client.read().split("\n")
        assert lines[0] == "250-s.example hello c.example"
        assert f"250-SIZE {CONFIG.max_message_size}" in lines
        assert not caplog.records
        client.send(b"EHLO x.example\r\n").expect(250)
        assert "the keywords of EHLO follow from the configuration" in caplog.text
    assert handler.calls[0] == ["250-s.example", f"250-SIZE {CONFIG.max_message_size}"]


def test_older_handle_ehlo_may_push_lines() -> None:
    class Older(LocalOnly):
        async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
            session.host_name = hostname
            await server.push("250-XFOO")
            return "250 HELP"

    with pytest.warns(DeprecationWarning, match="5-argument"):
        compare(Older, SENDING)


# TLS and authentication


class Login:
    """An authenticator for one user."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.calls: list[object] = []

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        self.calls.append((mechanism, data.login, data.password, session.host_name))
        if data.login == b"later":
            return self.result(success=False, handled=False, message="454 4.7.0 Ask later")
        if (data.login, data.password) == (b"tim", b"tanstaaf"):
            return self.result(success=True, auth_data=data)
        return self.result(success=False, handled=False)


def plain(text: bytes) -> bytes:
    return b"AUTH PLAIN " + b64encode(text) + b"\r\n"


AUTH: Final[tuple[tuple[bytes, ...], ...]] = (
    (EHLO, plain(b"\0tim\0tanstaaf"), plain(b"\0tim\0tanstaaf"), *SENDING[1:]),
    (EHLO, plain(b"\0tim\0wrong"), MAIL, b"AUTH X-NONE\r\n", b"AUTH\r\n", b"AUTH PLAIN !\r\n", QUIT),
    (EHLO, b"AUTH PLAIN\r\n", b64encode(b"\0tim\0tanstaaf") + b"\r\n", MAIL),
    (EHLO, b"AUTH PLAIN\r\n", b"*\r\n", b"AUTH PLAIN\r\n", b"!\r\n", QUIT),
    (EHLO, plain(b"tim"), plain(b"\0later\0x"), QUIT),
    (EHLO, b"AUTH LOGIN\r\n", b"dGlt\r\n", b"dGFuc3RhYWY=\r\n", MAIL),
    (EHLO, b"AUTH LOGIN dGlt\r\n", b"d3Jvbmc=\r\n", QUIT),
    (plain(b"\0tim\0tanstaaf"), QUIT),
)
OPEN: Final = {"auth_require_tls": False, "auth_required": True}


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_authenticator_gets_the_logins_of_plain_and_login() -> None:
    their_login, our_login = Login(TheirResult), Login(AuthResult)
    with theirs(LocalOnly(), authenticator=their_login, **OPEN) as address:
        expected = [codes(address, each) for each in AUTH]
    handler = AiosmtpdHandler(LocalOnly(), authenticator=our_login)
    changes: dict[str, Any] = {
        "plaintext_auth": True,
        "require_auth": True,
        "auth_mechanisms": ("LOGIN", "PLAIN"),
        "max_auth_failures": 9,
    }
    with ours(handler, **changes) as address:
        found = [codes(address, each) for each in AUTH]
    assert found == expected
    assert our_login.calls == their_login.calls


def test_auth_callback_and_classes_of_aiosmtpd_are_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_class(server: object, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        assert "tanstaaf" not in repr(data)
        return AuthResult(success=isinstance(data, TheirLogin), handled=False)

    def is_tim(mechanism: str, login: bytes, password: bytes) -> bool:
        return (mechanism, login, password) == ("PLAIN", b"tim", b"tanstaaf")

    compare(
        LocalOnly,
        (EHLO, plain(b"\0tim\0wrong"), plain(b"\0tim\0tanstaaf"), *SENDING[1:]),
        aiosmtpd={"auth_callback": is_tim, "auth_require_tls": False},
        shim={"auth_callback": is_tim},
        config={"plaintext_auth": True},
    )
    with ours(AiosmtpdHandler(LocalOnly(), authenticator=Login(TheirResult)), plaintext_auth=True) as address:
        assert codes(address, (EHLO, plain(b"\0tim\0tanstaaf"))) == ["220", "250", "235"]
    with ours(AiosmtpdHandler(LocalOnly(), authenticator=of_class), plaintext_auth=True) as address:
        assert codes(address, (EHLO, plain(b"\0tim\0tanstaaf"))) == ["220", "250", "235"]
        monkeypatch.delitem(sys.modules, "aiosmtpd.smtp")
        assert codes(address, (EHLO, plain(b"\0tim\0tanstaaf"))) == ["220", "250", "535"]
    assert tuple(LoginPassword(b"a", b"b")) == tuple(TheirLogin(b"a", b"b"))
    assert "secret" not in repr(LoginPassword(b"tim", b"secret"))
    assert "secret" not in repr(AuthResult(success=True, auth_data="secret"))


class Mechanisms(LocalOnly):
    """A handler with mechanisms of its own, in each form that aiosmtpd knows."""

    async def auth_X__TOKEN(self, server: Any, args: list[str]) -> Any:
        answer = await server.challenge_auth("token?")
        if answer is MISSING:
            return TheirResult(success=False)
        self.calls.append((args, answer))
        match answer:
            case b"right":
                return TheirResult(success=True, auth_data=SimpleNamespace(login=b"tim"))
            case b"pushed":
                await server.push("454 4.7.0 pushed")
                return TheirResult(success=False)
            case b"message":
                return TheirResult(success=False, handled=False, message="432 4.7.12 Change your password")
            case _:
                return TheirResult(success=False, handled=False)

    async def auth_OLD(self, server: Any, args: list[str]) -> Any:
        match await server.challenge_auth(b64encode(b"who?"), encode_to_b64=False):
            case b"none":
                await server.push(b"535 no")
                return None
            case b"missing":
                return MISSING
            case b"false":
                return False
            case name:
                return name.decode()


def test_auth_functions_of_the_handler_are_mechanisms() -> None:
    def attempt(mechanism: bytes, answer: bytes) -> tuple[bytes, ...]:
        return (b"AUTH " + mechanism + b"\r\n", b64encode(answer) + b"\r\n")

    answers = (b"pushed", b"message", b"x")
    found = compare(
        Mechanisms,
        (EHLO, *sum((attempt(b"X-TOKEN", each) for each in answers), ()), *attempt(b"X-TOKEN", b"right"), *SENDING[1:]),
        (EHLO, *sum((attempt(b"OLD", each) for each in (b"none", b"missing", b"false", b"tim")), ()), MAIL),
        (EHLO, b"AUTH X-TOKEN\r\n", b"*\r\n", b"NOOP\r\n"),
        aiosmtpd={"auth_require_tls": False},
        config={"plaintext_auth": True, "max_auth_failures": 9},
    )
    assert found[0][2:10] == ["334", "454", "334", "432", "334", "535", "334", "235"]


def test_identity_of_the_session_is_the_login() -> None:
    class Plain(LocalOnly):
        async def auth_LOGIN(self, server: Any, args: list[str]) -> Any:
            return AuthResult(success=True, auth_data={"no": "login"})

    app = App()
    app.include(AiosmtpdHandler(Plain(), authenticator=Login(AuthResult)))
    config = replace(CONFIG, plaintext_auth=True, auth_mechanisms=("PLAIN", "LOGIN"))
    dialogue = session(app, config=config).send(EHLO, plain(b"\0tim\0tanstaaf"))
    assert dialogue.session.identity == "tim"
    other = session(app, config=config).send(EHLO, b"AUTH LOGIN\r\n").expect(220, 250, 235)
    assert other.session.identity == "unknown"


def test_handle_auth_replaces_the_mechanisms() -> None:
    class Own(LocalOnly):
        async def handle_AUTH(self, server: Any, session: Any, envelope: Any, args: list[str]) -> Any:
            self.calls.append(args)
            if args[1:] == ["cmlnaHQ="]:
                session.authenticated = True
                return "235 2.7.0 Welcome"
            return MISSING if len(args) == 1 else "535 no"

        async def auth_OWN(self, server: Any, args: list[str]) -> Any:
            return False

    compare(
        Own,
        (EHLO, b"AUTH OWN d3Jvbmc=\r\n", b"AUTH OWN\r\n", b"AUTH OWN cmlnaHQ=\r\n", MAIL),
        aiosmtpd={"auth_require_tls": False},
        config={"plaintext_auth": True, "max_auth_failures": 9},
    )


def test_client_is_not_authenticated_by_a_pushed_235_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Careless(LocalOnly):
        async def auth_OWN(self, server: Any, args: list[str]) -> Any:
            await server.push("235 2.7.0 Welcome")

    app = App()
    app.include(AiosmtpdHandler(Careless()))
    config = replace(CONFIG, plaintext_auth=True, auth_mechanisms=("OWN",))
    dialogue = session(app, config=config).send(EHLO, b"AUTH OWN\r\n").expect(220, 250, 454)
    assert dialogue.session.identity is None


class Secure(LocalOnly):
    """A handler that takes the TLS connections of one kind."""

    verdict = True

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.calls.append(any("STARTTLS" in line for line in responses))
        session.host_name = hostname
        return responses

    def handle_STARTTLS(self, server: Any, session: Any, envelope: Any) -> bool:
        self.calls.append((session.ssl is not None, session.host_name, vars(envelope)["mail_from"]))
        return self.verdict


class Insecure(Secure):
    verdict = False


@pytest.mark.parametrize("make", [Secure, Insecure, LocalOnly])
def test_handle_starttls_accepts_or_refuses_the_connection(make: Make, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert(NAME)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    trust = context_trusting(authority)
    context = server_context(tmp_path / "chain.pem", tmp_path / "key.pem")
    (found,) = compare(
        make,
        (EHLO, MAIL, b"STARTTLS\r\n", b"NOOP\r\n", *SENDING, b"VRFY x\r\n", QUIT)
        if make is not Insecure
        else (EHLO, b"STARTTLS\r\n", b"NOOP\r\n", EHLO, b"HELO x\r\n", b"VRFY x\r\n", b"RSET\r\n", QUIT),
        aiosmtpd={"tls_context": context},
        config={"starttls": context},
        trust=trust,
    )
    assert found[-1] == "221"


# Failures


def test_handle_exception_chooses_the_refusal() -> None:
    class Failing(LocalOnly):
        async def handle_NOOP(self, server: Any, *args: Any) -> str:
            raise ValueError("a defect")

        async def handle_exception(self, error: Exception) -> str:
            self.calls.append(repr(error))
            return "542 Internal server error"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            raise KeyError("no such thing")

    compare(Failing, (EHLO, b"NOOP\r\n", *SENDING[1:], QUIT))


@pytest.mark.parametrize("status", [None, 250, "OK", "250", "250 OK\r\n250 again", "354 go", b"250-half\r\n"])
def test_function_that_returns_no_status_gives_451(status: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(LocalOnly):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> Any:
            return status

    app = App()
    app.include(AiosmtpdHandler(Wrong()))
    dialogue = session(app).send(ENVELOPE.replace(b"s.example", b"example.com"), BODY)
    assert dialogue.codes[-1] == (250 if status == "250" else 451)


def test_message_that_is_too_large_is_refused() -> None:
    large = (b"x" * 62 + b"\r\n") * 1100 + b".\r\n"
    (found,) = compare(
        LocalOnly,
        (*SENDING[:-1], large, *SENDING[1:], QUIT),
        aiosmtpd={"data_size_limit": 65_536},
        config={"max_message_size": 65_536},
    )
    assert found == ["220", "250", "250", "250", "354", "552", "250", "250", "354", "250", "221"]


def test_handler_without_handle_data_needs_the_argument_discard() -> None:
    with pytest.raises(ValueError, match="has no handle_DATA: with discard=True"):
        AiosmtpdHandler(aiosmtpd.handlers.Sink())

    handler = AiosmtpdHandler(aiosmtpd.handlers.Sink(), discard=True)
    with ours(handler) as address:
        assert codes(address, SENDING)[-1] == "250"


def test_handle_proxy_is_an_error() -> None:
    class Proxied(LocalOnly):
        async def handle_PROXY(self, *args: Any) -> bool:
            return True

    with pytest.raises(ValueError, match="handle_PROXY is not called"):
        AiosmtpdHandler(Proxied())


def test_handler_may_close_the_connection() -> None:
    class Closing(LocalOnly):
        async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
            assert not server.transport.is_closing()
            assert server.loop is session.loop
            assert server.transport.get_extra_info("compression", 5) == 5
            server.transport.close()
            assert server.transport.is_closing()
            return "450 Go away"

    with ours(AiosmtpdHandler(Closing())) as address, Client(address) as client:
        client.expect(220).send(b"NOOP\r\n").expect(450)
        assert client.is_closed()


def test_challenge_outside_of_an_authentication_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    class Asking(LocalOnly):
        async def handle_NOOP(self, server: Any, *args: Any) -> str:
            await server.challenge_auth("who?")
            return "250 OK"

    app = App()
    app.include(AiosmtpdHandler(Asking()))
    session(app).send(b"NOOP\r\n").expect(220, 451)
    assert "challenge_auth may be called by an auth_ function only" in caplog.text


# Content, addresses and protocols


def test_decode_data_gives_text() -> None:
    class Text(LocalOnly):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            self.calls.append((envelope.content, envelope.original_content))
            return "250 OK"

    compare(
        Text,
        (*SENDING[:2][:1], MAIL, b"RCPT TO:<b@example.com>\r\n", DATA, "gr\u00fcn\r\n.\r\n".encode()),
        aiosmtpd={"decode_data": True},
        shim={"decode_data": True},
    )


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (Address("192.0.2.1", 5), ("192.0.2.1", 5)),
        (Address("2001:db8::1", 5), ("2001:db8::1", 5, 0, 0)),
        (Address("/run/client"), "/run/client"),
        (None, None),
    ],
)
def test_peer_has_the_form_of_asyncio(peer: Address | None, expected: object) -> None:
    class Looking(LocalOnly):
        async def handle_NOOP(self, server: Any, session: Any, *args: Any) -> str:
            self.calls.append(session.peer)
            return "250 OK"

    handler = Looking()
    app = App()
    app.include(AiosmtpdHandler(handler))
    session(app, peer=peer).send(EHLO + b"NOOP\r\n").expect(220, 250, 250)
    assert handler.calls == [expected]


def test_handle_data_gets_messages_sent_with_bdat_and_lmtp() -> None:
    handler = LocalOnly()
    app = App()
    app.include(AiosmtpdHandler(handler))
    rcpt = b"RCPT TO:<b@example.com>\r\n"
    session(app).send(EHLO + MAIL + rcpt, b"BDAT 3 LAST\r\nx\r\n").expect(220, 250, 250, 250, 250)
    lmtp = session(app, config=replace(CONFIG, lmtp=True))
    lmtp.send(b"LHLO c.example\r\n" + MAIL + rcpt + rcpt.replace(b"<b", b"<c") + DATA, b"x\r\n.\r\n")
    lmtp.expect(220, 250, 250, 250, 250, 354, 250, 250)
    assert [call[2] for call in handler.calls] == [b"x\r\n", b"x\r\n"]  # type: ignore[index]


def test_chunk_without_recipients_in_the_envelope_is_refused() -> None:
    class Forgetful(LocalOnly):
        async def handle_RCPT(self, *args: Any) -> str:
            return "250 OK"

    app = App()
    app.include(AiosmtpdHandler(Forgetful()))
    session(app).send(EHLO + MAIL + RCPT, b"BDAT 3 LAST\r\nx\r\n").expect(220, 250, 250, 250, 503)


def test_sender_of_a_refused_message_does_not_reach_the_next() -> None:
    handler = Recorder()
    app = App()
    app.include(AiosmtpdHandler(handler))

    @app.on("header")
    def refuse(session: Any, header: Any) -> Any:
        return Reply(550, "No")

    config = replace(CONFIG, max_header=1000)
    session(app, config=config, peer=Address("127.0.0.1", 5)).send(ENVELOPE, BODY, MAIL).expect(
        220, 250, 250, 250, 354, 550, 250
    )
    last: Any = handler.calls[-1]
    assert last[0] == "MAIL"
    assert last[-1]["rcpt_tos"] == []


def test_handler_runs_on_each_adapter(backend: str) -> None:
    handler = LocalOnly()
    app = App()
    app.include(AiosmtpdHandler(handler, auth_callback=lambda mechanism, login, password: True))
    with running(backend, app, config=replace(CONFIG, plaintext_auth=True)) as server, server.connect() as client:
        client.send(EHLO + plain(b"\0tim\0x")).expect(220, 250, 235)
        client.send(b"".join(SENDING[1:4])).expect(250, 250, 354).send(BODY + QUIT).expect(250, 221)
    assert handler.calls


# The handlers that aiosmtpd has


def test_ready_made_handlers_of_aiosmtpd_get_the_message(tmp_path: Path) -> None:
    output = io.StringIO()
    seen: list[str] = []

    class Subjects(aiosmtpd.handlers.Message):
        def handle_message(self, message: ParsedMessage) -> None:
            seen.append(f"{message['subject']} from {message['X-MailFrom']} to {message['X-RcptTo']}")

    for handler in (aiosmtpd.handlers.Debugging(output), aiosmtpd.handlers.Mailbox(tmp_path / "mail"), Subjects()):
        with (
            ours(AiosmtpdHandler(handler)) as address,
            smtplib.SMTP(address.host, address.port, timeout=TIMEOUT) as smtp,
        ):
            smtp.sendmail("a@c.example", ["b@example.com"], b"Subject: hello\r\n\r\nbody\r\n")

    assert "Subject: hello" in output.getvalue()
    assert [message["Subject"] for message in mailbox.Maildir(tmp_path / "mail")] == ["hello"]
    assert seen == ["hello from a@c.example to b@example.com"]
