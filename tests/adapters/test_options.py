"""Options that are unknown, or that exclude each other, on each adapter: an error before anything happens."""

import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import fields, replace
from functools import partial
from math import nan
from typing import TYPE_CHECKING, Any

import pytest

import smtpcore_adapters.anyio
import smtpcore_adapters.asyncio
import smtpcore_adapters.socket
import smtpcore_adapters.trio
from smtpcore import (
    EXTENSIONS,
    Burl,
    Command,
    Config,
    ConnectionOpened,
    Extension,
    LocalProtocolError,
    Mail,
    Path,
    Rcpt,
    Reply,
    UnknownCommand,
)
from smtpcore.sasl import Question
from smtpcore_adapters import (
    App,
    ConnectOptions,
    Drop,
    Header,
    Listener,
    Message,
    Options,
    SendOptions,
    Session,
    TlsMode,
)
from smtpcore_adapters import Client as MailClient
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.socket import connect as blocking_connect
from smtpcore_adapters.testing import SmtpServer
from tests.adapters.fakes import CONFIG, FakeStream, MessageStore, accepting
from tests.adapters.harness import BACKENDS, connect_of, module_of, run_in, running, within

OF_SERVERS = {
    "timeout": "'timeout' is not an option of the server. The nearest is 'timeouts'; use one of auth_mechanisms, bare",
    "starttls": "'starttls' is not an option of the server: a server offers STARTTLS if it has a context, so pass tls=",
    "body_rate": "it is a field of Budgets, so pass budgets=Budgets(body_rate=...)",
    "connections": "it is a field of Limits, so pass limits=Limits(connections=...)",
}

OF_CLIENTS = {
    "tls_mode": "'tls_mode' is not an option of connect. The nearest is 'tls'; use one of auth, ",
    "timeout": "'timeout' is not an option of connect: pass connect_timeout=, and budgets=ClientBudgets(...)",
    "local_hostname": "'local_hostname' is not an option of connect: pass hostname=",
    "username": 'pass auth=("name", "password")',
    "use_tls": "pass tls=TlsMode.OPPORTUNISTIC, REQUIRED, IMPLICIT or NONE",
    "tls_context": "pass context=, an ssl.SSLContext",
    "chunk": "The nearest is 'chunking'",
    "greeting": "it is a field of ClientBudgets, so pass budgets=ClientBudgets(greeting=...)",
    "config": "give the fields of a ClientConfig as options, such as hostname=... or lmtp=...",
}

WRONG_FOR_SERVERS: dict[str, tuple[Any, str]] = {
    "host": (25, "host is 25, which is of type int: use str or None"),
    "grace": ("5", "grace is '5', which is of type str: use float"),
    "counts": ({}, "counts is {}, which is of type dict: use Counts"),
    "config": ({"hostname": "x"}, "config is {'hostname': 'x'}, which is of type dict: use Config"),
    "extensions": (["SIZE"], "extensions is ['SIZE'], which is of type list: use a sequence of Extension"),
    "tls": (True, "tls is True, which is of type bool: use SSLContext or None"),
    "implicit_tls": (465, "implicit_tls is 465, which is of type int: use bool"),
    "budgets": (300, "budgets is 300, which is of type int: use Budgets"),
    "timeouts": (5.0, "timeouts is 5.0, which is of type float: use Timeouts"),
    "limits": (None, "limits is None, which is of type NoneType: use Limits"),
    "proxies": ("10.0.0.1", "proxies is '10.0.0.1', which is of type str: use an iterable of str"),
    "trusted": ([b"10.0.0.1"], "trusted is [b'10.0.0.1'], which is of type list: use an iterable of str"),
    "listeners": ({"port": 25}, "listeners is {'port': 25}, which is of type dict: use an iterable of Listener"),
    "hostname": (None, "hostname is None, which is of type NoneType: use str"),
    "auth_mechanisms": ("PLAIN", "auth_mechanisms is 'PLAIN', which is of type str: use a tuple of str"),
    "enabled": ("DSN", "enabled is 'DSN', which is of type str: use a set of str"),
}

WRONG_FOR_CLIENTS: dict[str, tuple[Any, str]] = {
    "tls": (True, "tls is True, which is of type bool: use TlsMode"),
    "context": ("ca.pem", "context is 'ca.pem', which is of type str: use SSLContext or None"),
    "auth": (
        "tim:secret",
        "auth is a value of type str: use a tuple (str, str) or Credentials or BearerToken or ClientMechanism or a "
        "function or None",
    ),
    "auth_mechanisms": ("PLAIN", "auth_mechanisms is 'PLAIN', which is of type str: use a sequence of str or None"),
    "plaintext_auth": ("no", "plaintext_auth is 'no', which is of type str: use bool"),
    "lmtp": (1, "lmtp is 1, which is of type int: use bool"),
    "hostname": (b"c.example", "hostname is b'c.example', which is of type bytes: use str or None"),
    "budgets": (30, "budgets is 30, which is of type int: use ClientBudgets"),
    "connect_timeout": ("5", "connect_timeout is '5', which is of type str: use float"),
    "local_address": (1, "local_address is 1, which is of type int: use str or None"),
    "path": (b"/run/x", "path is b'/run/x', which is of type bytes: use str or None"),
    "sock": (25, "sock is 25, which is of type int: use socket or None"),
    "stream": ("x", "stream is 'x', which is of type str: use Stream or None"),
    "proxy": (True, "proxy is True, which is of type bool: use ProxyHeader or None"),
    "chunking": (None, "chunking is None, which is of type NoneType: use bool"),
    "pipelining": (0, "pipelining is 0, which is of type int: use bool"),
    "extensions": ("SIZE", "extensions is 'SIZE', which is of type str: use a sequence of Extension"),
    "observer": ("print", "observer is 'print', which is of type str: use a function or None"),
}

WRONG_FOR_MESSAGES: dict[str, tuple[Any, str]] = {
    "size": ("5", "size is '5', which is of type str: use int"),
    "body_type": ("8BITMIME", "body_type is '8BITMIME', which is of type str: use BodyType"),
    "smtputf8": (1, "smtputf8 is 1, which is of type int: use bool"),
    "ret": ("FULL", "ret is 'FULL', which is of type str: use Ret"),
    "envid": (5, "envid is 5, which is of type int: use str"),
    "notify": ("SUCCESS", "notify is 'SUCCESS', which is of type str: use an iterable of Notify"),
    "requiretls": (None, "requiretls is None, which is of type NoneType: use bool"),
    "by": (600, "by is 600, which is of type int: use DeliverBy"),
    "mt_priority": (True, "mt_priority is True, which is of type bool: use int"),
    "hold_for": (1.5, "hold_for is 1.5, which is of type float: use int"),
    "hold_until": ("2030", "hold_until is '2030', which is of type str: use datetime"),
    "solicit": ("net.example:ADV", "solicit is 'net.example:ADV', which is of type str: use a tuple of str"),
    "submitter": ("tim", "submitter is 'tim', which is of type str: use Submitter"),
    "sign": (b"X: y", "sign is b'X: y', which is of type bytes: use a function"),
    "progress": (True, "progress is True, which is of type bool: use a function"),
    "params": (["XFOO"], "params is ['XFOO'], which is of type list: use a mapping of str"),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("name", OF_SERVERS)
def test_unknown_option_of_a_server_is_a_type_error(name: str, backend: str) -> None:
    with pytest.raises(TypeError, match=re.escape(OF_SERVERS[name])):
        within(backend, App(), lambda server: pytest.fail("the server listens"), **{name: 1})


@pytest.mark.parametrize("function", ["serve", "run"])
def test_unknown_option_of_serve_or_run_is_a_type_error(function: str, backend: str) -> None:
    serve: Callable[..., Any] = getattr(module_of(backend), function)

    def report(address: object) -> None:
        pytest.fail("the server listens")

    async def main() -> None:
        await serve(App(), on_ready=report, timeout=1)

    plain = function == "run" or backend == "threads"
    call = partial(serve, App(), on_ready=report, timeout=1) if plain else partial(run_in, backend, main)
    with pytest.raises(TypeError, match="The nearest is 'timeouts'"):
        call()


@pytest.mark.parametrize("name", WRONG_FOR_SERVERS)
def test_wrong_type_of_an_option_of_a_server_is_a_type_error(name: str, backend: str) -> None:
    value, error = WRONG_FOR_SERVERS[name]
    with pytest.raises(TypeError, match=f"^{re.escape(error)}$"):
        within(backend, App(), lambda server: pytest.fail("the server listens"), **{name: value})


@pytest.mark.parametrize(("port", "kind"), [("2525", ValueError), (99_999, ValueError), (-1, ValueError)])
def test_impossible_port_of_a_server_is_an_error(port: Any, kind: type[Exception], backend: str) -> None:
    with pytest.raises(kind, match=f"port is {port!r}"):
        within(backend, App(), lambda server: pytest.fail("the server listens"), port=port)


def test_object_that_is_no_app_is_a_type_error(backend: str) -> None:
    app: Any = "app"
    with pytest.raises(TypeError, match="app is 'app', which is of type str: use App"):
        within(backend, app, lambda server: pytest.fail("the server listens"))


TARGETS: list[tuple[Any, Any, type[Exception], str]] = [
    (25, 25, TypeError, "host is 25, which is of type int: use str"),
    (None, 25, TypeError, "host is None, which is of type NoneType: use str"),
    ("s.example", "25", TypeError, "port is '25', which is of type str: use int"),
    ("s.example", 65_536, ValueError, "port is 65536: it must be at most 65535"),
    ("s.example", -1, ValueError, "port is -1: it must be at most 65535"),
    *(
        (host, 25, ValueError, f"host is '{host}': it must be a name or an IP address; the port is an argument .*")
        for host in ("s.example:25", "smtp://s.example", "s.example/25")
    ),
]


@pytest.mark.parametrize(("host", "port", "kind", "error"), TARGETS)
def test_wrong_host_or_port_of_a_client_is_an_error_at_once(
    host: Any, port: Any, kind: type[Exception], error: str
) -> None:
    with pytest.raises(kind, match=f"^{error}$"):
        Forward(host, port)
    with pytest.raises(kind, match=f"^{error}$"):
        smtpcore_adapters.socket.connect(host, port).__enter__()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", 25),
        ("port", "25"),
        ("tls", 1),
        ("certificate", "cert.pem"),
        ("auth", ["tim"]),
        ("auth_mechanisms", ["PLAIN"]),
        ("accept", 5),
        ("max_size", "65536"),
        ("timeout", "5"),
        ("fault_seed", 1.5),
    ],
)
def test_wrong_type_of_an_option_of_the_test_server_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is .* of type {type(value).__name__}: use "):
        SmtpServer(**{name: value})


@pytest.mark.parametrize("grace", [-1, nan])
def test_negative_grace_is_a_value_error(grace: float, backend: str) -> None:
    with pytest.raises(ValueError, match=f"grace is {grace}: it must be at least 0 seconds"):
        within(backend, App(), lambda server: pytest.fail("the server listens"), grace=grace)


@pytest.mark.parametrize(
    ("kind", "table"),
    [(Options, WRONG_FOR_SERVERS), (ConnectOptions, WRONG_FOR_CLIENTS), (SendOptions, WRONG_FOR_MESSAGES)],
)
def test_each_option_is_tried_with_a_wrong_type(kind: Any, table: dict[str, object]) -> None:
    # `tests/smtpcore/test_fields.py` tries each field of `Config`.
    of_config = {field.name for field in fields(Config)} if kind is Options else set()
    assert set(kind.__annotations__) - of_config == set(table) - of_config


if TYPE_CHECKING:

    async def type_checkers_report_unknown_options(app: App, client: MailClient) -> None:
        smtpcore_adapters.asyncio.serving(app, timeout=1)  # type: ignore[call-arg]
        await smtpcore_adapters.asyncio.serve(app, timeout=1)  # type: ignore[call-arg]
        smtpcore_adapters.asyncio.run(app, timeout=1)  # type: ignore[call-arg]
        smtpcore_adapters.asyncio.connect("s.example", 25, tls_mode=TlsMode.NONE)  # type: ignore[call-arg]
        smtpcore_adapters.trio.serving(app, timeout=1)  # type: ignore[call-arg]
        smtpcore_adapters.trio.connect("s.example", 25, tls_mode=TlsMode.NONE)  # type: ignore[call-arg]
        smtpcore_adapters.anyio.serving(app, timeout=1)  # type: ignore[call-arg]
        smtpcore_adapters.anyio.connect("s.example", 25, tls_mode=TlsMode.NONE)  # type: ignore[call-arg]
        smtpcore_adapters.socket.serving(app, timeout=1)  # type: ignore[call-arg]
        smtpcore_adapters.socket.connect("s.example", 25, tls_mode=TlsMode.NONE)  # type: ignore[call-arg]
        await client.send("a@c.example", "b@s.example", b"", require_tls=True)  # type: ignore[call-arg]
        Forward("s.example", tls_mode=TlsMode.NONE)  # type: ignore[call-arg]
        SmtpServer(tsl=True).configure(tsl=True)  # type: ignore[call-arg]
        SmtpServer(tls="yes")  # type: ignore[arg-type]
        Listener(prot=25)  # type: ignore[call-arg]
        Listener(port="25")  # type: ignore[arg-type]
        smtpcore_adapters.asyncio.serving(app, timeouts=5)  # type: ignore[arg-type]

    def type_checkers_report_wrong_handlers(app: App) -> None:
        app.on("RCTP")  # type: ignore[call-overload]

        @app.on("RCPT")  # type: ignore[arg-type]
        def take_another_event(session: Session, mail: Mail) -> Reply:
            raise NotImplementedError

        @app.on("RCPT")  # type: ignore[type-var]
        def return_another_type(session: Session, rcpt: Rcpt) -> int:
            raise NotImplementedError

        @app.on("RCPT")  # type: ignore[type-var]
        async def return_a_code(session: Session, rcpt: Rcpt) -> str:
            raise NotImplementedError

        @app.on("RCPT")  # type: ignore[arg-type]
        def take_no_session(rcpt: Rcpt) -> Reply:
            raise NotImplementedError

        @app.on("message")  # type: ignore[type-var]
        async def forget_the_reply(session: Session, message: Message) -> bytes:
            raise NotImplementedError

        @app.on("header")  # type: ignore[type-var]
        def map_replies(session: Session, header: Header) -> dict[str, Reply]:
            raise NotImplementedError

    def type_checkers_accept_right_handlers(app: App) -> None:
        @app.on("RCPT")
        def decide(session: Session, rcpt: Rcpt) -> Reply | None:
            raise NotImplementedError

        @app.on("RCPT")
        async def take_any_command(session: Session, command: Command) -> Reply:
            raise NotImplementedError

        @app.on("connect")
        def drop(session: Session, opened: ConnectionOpened) -> Drop:
            raise NotImplementedError

        @app.on("message")
        async def answer_each(session: Session, message: Message) -> dict[Path, Reply]:
            raise NotImplementedError

        @app.on("auth", blocking=True)
        def check(session: Session, question: Question) -> bool:
            raise NotImplementedError

        @app.on("BURL")
        async def fetch(session: Session, burl: Burl) -> bytes:
            raise NotImplementedError

        @app.on_verb("XQUOTA")
        def quota(session: Session, command: UnknownCommand) -> Reply:
            raise NotImplementedError


class Stray:
    """An object with a method that is not a handler, although its name begins with `on_`."""

    def on_rcpt(self, session: Session, rcpt: object) -> None:
        raise NotImplementedError

    def on_mesagge(self, session: Session, message: Message) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "nearest"), [("RCTP", "RCPT"), ("mesagge", "message"), ("on_message", "message"), ("XQUOTA", "QUIT")]
)
def test_handler_of_an_unknown_name_is_a_value_error_at_once(name: str, nearest: str) -> None:
    error = f"{name!r} is not an event or a verb. The nearest is {nearest!r}"
    with pytest.raises(ValueError, match=re.escape(error)) as caught:
        App().on(name)  # type: ignore[call-overload]
    assert str(caught.value).endswith("for a verb of your own, use on_verb()")


@pytest.mark.parametrize("name", ["message", "AUTH", "Connect", "", "X FOO", "X\xe9"])
def test_on_verb_refuses_names_of_events(name: str) -> None:
    with pytest.raises(ValueError, match="use letters and digits, and on\\(\\) for events"):
        App().on_verb(name)


def test_method_of_an_included_object_with_an_unknown_name_is_a_value_error_at_once() -> None:
    app = App()
    with pytest.raises(ValueError, match=r"has on_mesagge: 'mesagge' is not an event") as caught:
        app.include(Stray())
    assert "The nearest is 'message'" in str(caught.value)
    assert str(caught.value).endswith("for a verb of your own, use include(..., verbs=['MESAGGE'])")
    assert not app.handles("RCPT")


@pytest.mark.parametrize(
    ("verbs", "error"),
    [
        (["XQOUTA"], "has no function for XQOUTA, which is one of verbs"),
        ("XQUOTA", "has no function for A, which is one of verbs"),
        (["message"], "'message' is not a verb: use letters and digits"),
    ],
)
def test_wrong_verb_of_an_included_object_is_a_value_error(verbs: Iterable[str], error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error)):
        App().include(Quota(), verbs=verbs)


class Quota:
    """An object with a handler of a verb of its own."""

    def on_xquota(self, session: Session, command: UnknownCommand) -> Reply:
        return Reply(250, command.argument)


def with_decorator() -> App:
    app = App()
    app.on_verb("xquota")(Quota().on_xquota)
    return app


def with_included_verb() -> App:
    app = App()
    app.include(Quota(), verbs=["xquota"])
    return app


def with_verb_that_is_known_already() -> App:
    app = with_decorator()
    app.include(Quota())
    return app


OWN = Extension(keyword="XQUOTAS", verbs=frozenset({"XQUOTA"}))


@pytest.mark.parametrize(
    ("make", "extensions"),
    [
        (with_decorator, EXTENSIONS),
        (with_included_verb, EXTENSIONS),
        (with_included_verb, (*EXTENSIONS, OWN)),
        (with_verb_that_is_known_already, EXTENSIONS),
    ],
    ids=["on_verb", "include", "extension", "known"],
)
def test_handler_of_a_custom_verb_is_called(
    make: Callable[[], App], extensions: tuple[Extension, ...], backend: str
) -> None:
    with running(backend, make(), config=CONFIG, extensions=extensions) as server, server.connect() as client:
        client.expect(220).send(b"EHLO c.example\r\nXQUOTA acme\r\n").expect(250, "250 2.0.0 acme")


def test_unknown_extension_in_the_configuration_is_an_error_at_the_start(backend: str) -> None:
    config = replace(CONFIG, disabled=CONFIG.disabled | {"chunkng"})
    with pytest.raises(LocalProtocolError, match=r"disabled: 'chunkng' is not an extension. The nearest is 'CHUNKING'"):
        within(backend, App(), lambda server: pytest.fail("the server listens"), config=config)


def connect(backend: str, port: int, use: Callable[[MailClient], Awaitable[object]], **options: Any) -> None:
    async def main() -> None:
        async with connect_of(backend)("127.0.0.1", port, **options) as client:
            await use(client)

    run_in(backend, main)


async def fail(client: MailClient) -> None:
    pytest.fail("the client is connected")


@pytest.mark.parametrize("name", OF_CLIENTS)
def test_unknown_option_of_connect_is_a_type_error(name: str, backend: str) -> None:
    # Nothing listens on port 1: a client that tried to connect would raise OSError.
    with pytest.raises(TypeError, match=re.escape(OF_CLIENTS[name])):
        connect(backend, 1, fail, **{name: TlsMode.REQUIRED})


@pytest.mark.parametrize("name", WRONG_FOR_CLIENTS)
def test_wrong_type_of_an_option_of_connect_is_a_type_error(name: str, backend: str) -> None:
    value, error = WRONG_FOR_CLIENTS[name]
    with pytest.raises(TypeError, match=f"^{re.escape(error)}$"):
        connect(backend, 1, fail, **{name: value})


def test_local_address_of_a_unix_socket_is_a_value_error(backend: str) -> None:
    with pytest.raises(ValueError, match="local_address has no effect with path"):
        connect(backend, 1, fail, path="/run/x", local_address="127.0.0.1")


@pytest.mark.parametrize("other", ["path", "stream", "local_address"])
def test_two_ways_to_connect_are_a_value_error(other: str) -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match=f"sock and {other} exclude each other"):
        connect("asyncio", 1, fail, sock=sock, **{other: FakeStream() if other == "stream" else "127.0.0.1"})


@pytest.mark.parametrize("make", [smtpcore_adapters.asyncio.Pool, partial(Forward, announce=False)])
@pytest.mark.parametrize("name", ["sock", "stream"])
def test_single_connection_for_many_is_a_value_error(make: Callable[..., object], name: str) -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match=f"{name} is a single connection"):
        make("s.example", 25, **{name: sock if name == "sock" else FakeStream()})


def test_socket_with_tls_is_a_type_error() -> None:
    context = ssl.create_default_context()
    with (
        socket.socket() as plain,
        context.wrap_socket(plain, server_hostname="s.example") as sock,
        pytest.raises(TypeError, match="sock has TLS already"),
    ):
        connect("asyncio", 1, fail, sock=sock)


def test_unknown_option_of_send_is_a_type_error_before_anything_is_sent(backend: str) -> None:
    store = MessageStore()

    async def use(client: MailClient) -> None:
        options: dict[str, Any] = {"require_tls": True}
        with pytest.raises(TypeError, match=r"'require_tls' is not an option of send. The nearest is 'requiretls'"):
            await client.send("a@c.example", "b@s.example", b"secret", **options)
        assert (await client.send("a@c.example", "b@s.example", b"hi")).accepted

    with running(backend, accepting(store), config=CONFIG) as server:
        connect(backend, server.server.address.port, use, hostname="c.example")
    assert store.bodies == [b"hi\r\n"]


def test_wrong_type_of_an_option_of_send_is_a_type_error_before_anything_is_sent(backend: str) -> None:
    store = MessageStore()

    async def use(client: MailClient) -> None:
        for name, (value, error) in WRONG_FOR_MESSAGES.items():
            options: dict[str, Any] = {name: value}
            with pytest.raises(TypeError, match=f"^{re.escape(error)}$"):
                await client.send("a@c.example", "b@s.example", b"secret", **options)
        assert (await client.send("a@c.example", "b@s.example", b"hi")).accepted

    with running(backend, accepting(store), config=CONFIG) as server:
        connect(backend, server.server.address.port, use, hostname="c.example")
    assert store.bodies == [b"hi\r\n"]


def test_unknown_option_of_the_blocking_client_is_a_type_error() -> None:
    options: dict[str, Any] = {"tls_mode": TlsMode.REQUIRED}
    with pytest.raises(TypeError, match="The nearest is 'tls'"), blocking_connect("127.0.0.1", 1, **options):
        pytest.fail("the client is connected")


def test_unknown_option_of_forward_is_a_type_error() -> None:
    options: dict[str, Any] = {"tls_mode": TlsMode.REQUIRED}
    with pytest.raises(TypeError, match="The nearest is 'tls'"):
        Forward("192.0.2.25", **options)
