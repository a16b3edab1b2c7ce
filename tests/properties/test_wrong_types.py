"""A value of a wrong type is an error at once, for each parameter of each public name of the core.

`CALLS` has valid arguments for each public class, function and method. The test replaces each argument by values that
the annotation of the parameter does not allow. A new name, or a new parameter, needs a valid argument here.
"""

import enum
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from types import ModuleType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import pytest

import smtpcore
from smtpcore import (
    NEED_DATA,
    NEED_PART,
    Attributes,
    Auth,
    Budgets,
    Burl,
    ClientBudgets,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    Ehlo,
    LocalProtocolError,
    Mail,
    Mailbox,
    NextHop,
    Noop,
    NoSupport,
    Parameter,
    Params,
    Path,
    Rcpt,
    Reply,
    Signal,
    Wait,
    dialogues,
    parameters,
    proxy,
    sasl,
    trace,
)

if smtpcore.COMPILED:
    pytest.skip("compiled functions have no annotations to read", allow_module_level=True)

CONFIG = Config(hostname="s.example")
CLIENT = ClientConfig(hostname="c.example")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATH = Path("a@c.example")
MAIL, RCPT = Mail(PATH), Rcpt(PATH)
OK = Reply(250, "OK")
ENDPOINT = proxy.Endpoint(IPv4Address("192.0.2.1"), 25)
NUMBER = Parameter("XNUMBER", int, int, octets=20)
HOP = NextHop(offers={}, path=PATH)
KEYS = sasl.scram_keys("secret", salt=b"salt")
CHANNEL = sasl.Channel(tls=True)
CREDENTIALS = sasl.Credentials(username="tim", password="secret", token="token", trace="tim")


def clock() -> float:
    return 0.0


def opened() -> Connection:
    """Return a server that has to greet its client."""
    conn = Connection(CONFIG)
    conn.next_event()
    return conn


def server_with_burl() -> Connection:
    """Return a server that wants the part of a BURL."""
    conn = Connection(Config(hostname="s.example", burl=("imap",), disabled=frozenset()))
    for line in (b"", *b"EHLO c.example|MAIL FROM:<a@c.example>|RCPT TO:<b@s.example>|BURL imap://x LAST".split(b"|")):
        if line:
            conn.receive_data(line + b"\r\n")
        answer(conn)
    return conn


def answer(conn: Connection) -> None:
    """Answer the next event, unless it is a BURL, and accept all recipients."""
    event = conn.next_event()
    assert not isinstance(event, Signal)
    if not isinstance(event, Burl):
        conn.answer(event, *([OK] if isinstance(event, Rcpt) else []))


def ready() -> ClientConnection:
    """Return a client after EHLO."""
    conn = ClientConnection(CLIENT)
    conn.receive_data(b"220 s.example\r\n")
    conn.next_event()
    conn.send(conn.hello)
    conn.data_to_send()
    conn.receive_data(b"250 s.example\r\n")
    conn.next_event()
    return conn


# Valid arguments

USUAL: list[Any] = [
    "x",
    1,
    1.0,
    False,
    b"x",
    NOW,
    IPv4Address("192.0.2.1"),
    PATH,
    Mailbox("a@c.example"),
    Params(),
    Attributes({}),
    OK,
    MAIL,
    RCPT,
    Auth("PLAIN"),
    Ehlo("c.example"),
    ConnectionOpened(),
    Noop(),
    Wait.BODY,
    CONFIG,
    CLIENT,
    Budgets(),
    ClientBudgets(),
    HOP,
    CHANNEL,
    CREDENTIALS,
    sasl.DEFAULT_POLICY,
    KEYS,
    sasl.ServerExchange(),
    ENDPOINT,
    Connection(CONFIG),
    ClientConnection(CLIENT),
]
"""Valid values: the first value that an annotation allows is used, unless `CALLS` has another value."""
SELVES: dict[str, Callable[[], object]] = {
    "Connection": opened,
    "ClientConnection": ready,
    "Parameter": lambda: NUMBER,
    "sasl.ServerExchange": sasl.ServerExchange,
    "sasl.CheckPassword": lambda: sasl.CheckPassword("tim", "x"),
}
"""For each class with tested methods, a function that returns an object."""

CALLS: dict[str, dict[str, Any]] = {
    "Mailbox": {"text": "a@c.example"},
    "UnknownCommand": {"verb": "XFOO"},
    "Auth": {"mechanism": "PLAIN"},
    "ClientConfig": {"hostname": "c.example", "max_reply_line": 4096},
    "Config": {"hostname": "s.example", "max_text_line": 1000, "max_command_line": 512, "max_recipients": 100},
    "Connection.answer": {"event": DataChunk(b"x"), "replies": ...},
    "ClientConnection.send": {"request": Noop()},
    "Etrn": {"argument": "c.example"},
    "Xclient": {"attributes": Attributes({"NAME": "c.example"})},
    "Xforward": {"attributes": Attributes({"NAME": "c.example"})},
    "Reply": {"code": 250},
    "OriginalRecipient": {"text": "rfc822;a@c.example"},
    "relay_or_refuse": {"keyword": "DSN"},
    "sasl.ScramClient": {"name": "SCRAM-SHA-256"},
    "sasl.ScramServer": {"name": "SCRAM-SHA-256"},
    "sasl.Mechanism": {"name": "XOWN", "server": sasl.PlainServer, "client": sasl.PlainClient},
    "sasl.make_client": {"name": "PLAIN", "mechanisms": sasl.MECHANISMS},
    "sasl.make_server": {"name": "PLAIN", "mechanisms": sasl.MECHANISMS},
    "sasl.ServerExchange.receive": {"event": Auth("PLAIN")},
    "sasl.CheckPassword.matches": {"password": "x"},
    "proxy.ProxyReader": {"versions": (1, 2), "max_length": 4096},
}
"""Valid arguments that differ from those of `USUAL`."""

NOT_TESTED = {
    "Config(enabled)": "see tests/smtpcore/test_config.py",
    "Reply(code)": "see tests/smtpcore/test_replies.py",
    "Connection.default_reply": "raises that an object of this type needs no reply",
    "Connection.answer(replies)": "needs an event; see `test_signal_is_no_event_to_answer`",
    "Parameter.of": "raises AttributeError unless its argument is a mapping",
    "sasl.CramServer(challenge)": "for tests only",
    "sasl.ScramClient(nonce)": "for tests only",
    "sasl.ScramServer(nonce)": "for tests only",
    "Connection.refuse_body": "needs a body that is being received; see `test_wrong_refusal_of_a_body_changes_nothing`",
    "Connection.receive_part": "needs a BURL; see the same test",
    "Transaction": "made by connections only",
    "Transaction.opened": "called by connections only",
    "check_fields": "raises the errors of this test",
    "check_values": "raises the errors of this test",
    "show_texts": "takes `globals()`",
    "sasl.ClientMechanism": "abstract",
    "sasl.ServerMechanism": "abstract",
    "sasl.ServerExchange.answer": "each question checks its answers",
}
INTERNAL = re.compile(
    r"\.(announce|terms|objection|is_enough|exchange|prepare\w*|authorize|take_username|respond_after_last"
    r"|distrust|check_answer|respond|start)$|(Client|Server|Mechanism)\.answer$"
)
"""Methods that a connection, an exchange or a class of your own calls, with values that were checked before."""


# The public names

MODULES = (smtpcore, smtpcore.sasl, dialogues, parameters, proxy, trace)


def public_names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    listed = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", "") == module.__name__
        if name in listed if listed is not None else is_own and not name.startswith("_"):
            yield name, value


def callables() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in MODULES:
        prefix = "" if module is smtpcore else module.__name__.removeprefix("smtpcore.") + "."
        for name, value in public_names(module):
            if inspect.isfunction(value):
                found[prefix + name] = value
            elif inspect.isclass(value) and not issubclass(value, enum.Enum | Exception):
                found[prefix + name] = value
                for attribute in dir(value):
                    member = getattr(value, attribute)
                    is_function = inspect.isfunction(member) or inspect.ismethod(member)
                    if is_function and not attribute.startswith("_") and member.__module__.startswith("smtpcore"):
                        found[f"{prefix}{name}.{attribute}"] = member
    first = {value: name for name, value in reversed(found.items())}  # some names are in two modules
    found = {name: value for name, value in found.items() if "__mutmut_" not in name}  # the mutation testing adds these
    return {name: value for name, value in found.items() if first[value] == name and hints_of(value)}


def hints_of(function: Any) -> dict[str, Any]:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    source = function
    if inspect.isclass(function) and not is_dataclass(function):
        source = function.__init__
    elif function is Reply:
        source = Reply.__init__
    hints = get_type_hints(source)
    return {name: getattr(hints[name], "type", hints[name]) for name in names}  # of an InitVar


CHECKED = {"dialogues.submission(require_tls)", "sasl.make_client(name)", "sasl.make_server(name)"}
"""Plain values of functions that are checked nevertheless."""
PLAIN = (str, bytes, bytearray, memoryview, int, float, bool, type(None))


def is_tested(name: str, function: Any, hint: Any) -> bool:
    """Return whether a parameter is tested: all parameters of classes, and those of functions that take objects.

    A text, number or truth value of a function is mostly left to the operations of Python, which raise by themselves.
    """
    is_union = get_origin(hint) in (Union, UnionType)
    is_plain = all(each in PLAIN for each in (get_args(hint) if is_union else (hint,)))
    return (inspect.isclass(function) or not is_plain or name in CHECKED) and not allows(hint, object())


def allows(hint: Any, value: object) -> bool:
    """Return whether an annotation allows a value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (Any, object) or isinstance(hint, TypeVar):
        return True
    if origin in (Union, UnionType):
        return any(allows(each, value) for each in arguments)
    if origin is type:
        return isinstance(value, type)
    if origin is Callable:
        return callable(value)
    if origin:
        is_text = isinstance(value, str | bytes)
        return isinstance(value, origin) and not is_text and all(allows(arguments[0], each) for each in value)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def usual(hint: Any) -> Any:
    """Return a valid value for an annotation."""
    members: list[Any] = list(hint) if isinstance(hint, enum.EnumType) else []
    empty: list[Any] = [None, (), {}, frozenset(), [], clock, int]
    return next(value for value in (*empty, *members, *USUAL) if allows(hint, value))


def call(name: str, function: Any, arguments: Mapping[str, Any]) -> None:
    values = dict(arguments)
    parameters = inspect.signature(function).parameters
    if "self" in parameters:
        function = getattr(SELVES[name.rpartition(".")[0]](), name.rpartition(".")[2])
    several = [key for key, each in parameters.items() if each.kind is each.VAR_POSITIONAL]
    named = {key: values.pop(key) for key, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    rest = [values.pop(key) for key in several]
    function(*values.values(), *[each for each in rest if each is not ...], **named)


SETTINGS = ("Config", "ClientConfig", "Budgets", "ClientBudgets")
"""Classes whose constructors raise `LocalProtocolError`, as for a value out of range; all others raise `TypeError`."""
SHOWN_AS = {"Reply(lines)": "the text of a reply"}
SECRETS = {
    "Auth(initial_response)",
    "AuthResponse(data)",
    "sasl.ChannelBinding(data)",
    "sasl.CheckPassword(password)",
    "sasl.CheckPassword.matches(password)",
    "sasl.CheckToken(token)",
    "sasl.Credentials(password)",
    "sasl.Credentials(token)",
    "sasl.Policy(scram_secret)",
    "sasl.ScramKeys(salt)",
    "sasl.ScramKeys(server_key)",
    "sasl.ScramKeys(stored_key)",
}
"""Parameters whose values no error shows."""


def message_for(name: str, parameter: str, value: object) -> str:
    """Return the beginning of the error for a value of a wrong type."""
    whole, kind = f"{name}({parameter})", type(value).__name__
    if whole == "Params(values)" and isinstance(value, dict):
        return "values: a keyword is 5, which is of type int: use "
    shown = "a value" if whole in SECRETS else f"{value!r:.80}, which is"
    return f"{SHOWN_AS.get(whole, parameter)} is {shown} of type {kind}: use "


WRONG = (5, True, 1.5, "x", b"x", None, [5], ("x",), {"x": 1}, {5: 1}, PATH, OK, NoSupport.CONTINUE, object())
CALLABLES = {
    name: function for name, function in callables().items() if name not in NOT_TESTED and not INTERNAL.search(name)
}
PARAMETERS = [
    (name, parameter, hint)
    for name, function in CALLABLES.items()
    for parameter, hint in hints_of(function).items()
    if is_tested(f"{name}({parameter})", function, hint) and f"{name}({parameter})" not in NOT_TESTED
]


@pytest.mark.parametrize(
    ("name", "parameter", "hint"), PARAMETERS, ids=[f"{name}({parameter})" for name, parameter, _ in PARAMETERS]
)
def test_value_of_a_wrong_type_is_an_error_that_names_the_parameter(name: str, parameter: str, hint: Any) -> None:
    function, error = CALLABLES[name], LocalProtocolError if name in SETTINGS else TypeError
    valid = {key: usual(each) for key, each in hints_of(function).items()} | CALLS.get(name, {})
    call(name, function, valid)
    for value in WRONG:
        if not allows(hint, value):
            with pytest.raises(error, match=f"^{re.escape(message_for(name, parameter, value))}[a-zA-Z]"):
                call(name, function, {**valid, parameter: value})


def test_exceptions_of_this_test_are_public_names() -> None:
    assert {name.partition("(")[0] for name in NOT_TESTED} | CALLS.keys() <= callables().keys()


def test_wrong_refusal_of_a_body_changes_nothing() -> None:
    wrong: Any = "554 no"
    conn = Connection(CONFIG)
    for line in (b"", b"EHLO c.example\r\n", b"MAIL FROM:<a@c.example>\r\n", b"RCPT TO:<b@s.example>\r\n", b"DATA\r\n"):
        if line:
            conn.receive_data(line)
        answer(conn)
    with pytest.raises(TypeError, match=f"reply is {wrong!r}, which is of type str: use Reply"):
        conn.refuse_body(wrong)
    conn.receive_data(b".\r\n")
    assert conn.next_event() == DataEnd()

    burl: Any = server_with_burl()
    with pytest.raises(TypeError, match=r"data is None, .*: use bytes or bytearray or memoryview"):
        burl.receive_part(None)
    assert burl.next_event() is NEED_PART


def test_signal_is_no_event_to_answer() -> None:
    signal: Any = NEED_DATA
    with pytest.raises(TypeError, match=r"event is <Signal\.NEED_DATA: 1>, .*: use ConnectionOpened"):
        Connection(CONFIG).answer(signal)

    conn, wrong = Connection(CONFIG), "250 OK"
    event: Any = conn.next_event()
    with pytest.raises(TypeError, match="reply is '250 OK', which is of type str: use Reply"):
        conn.answer(event, wrong)  # type: ignore[arg-type]


def test_end_of_the_stream_is_not_none() -> None:
    nothing: Any = None
    conn = opened()
    with pytest.raises(TypeError, match="data is None"):
        conn.receive_data(nothing)
    assert conn.send(Reply(220)).code == 220


def test_secret_of_a_wrong_type_is_not_shown() -> None:
    secret: Any = b"secret"
    with pytest.raises(TypeError, match=r"^password is a value of type bytes: use str or None$"):
        sasl.Credentials(username="tim", password=secret)
