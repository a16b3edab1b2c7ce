"""Extensions and parameters that an application defines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from smtpcore import (
    EXTENSIONS,
    Answered,
    ClientConfig,
    ClientConnection,
    Connection,
    Extension,
    ExtensionCommand,
    InvalidCommand,
    LocalProtocolError,
    NextHop,
    Parameter,
    Path,
    Reply,
    Signal,
    State,
    Wait,
)
from smtpcore._dialects import offered_extensions
from smtpcore._extensions._definition import relay_or_drop, relay_or_refuse

from ...playbook import CONFIG, RCPT, READY, refuse, server


def test_custom_extension_needs_only_a_keyword() -> None:
    extension = Extension(keyword="XFOO")

    assert extension.announce(CONFIG) == "XFOO"
    assert offered_extensions([extension], CONFIG, tls=True) == (extension,)
    assert (extension.mail, extension.rcpt, extension.verbs) == ((), (), frozenset())


def test_objection_is_not_called_for_commands_without_parameters() -> None:
    def object_to(terms: object, params: Mapping[str, object]) -> Reply:
        return Reply(555, "Never", enhanced="5.5.4")

    own = Extension(
        keyword="XOWN", mail=(Parameter(keyword="XOWN", kind=str, parse=str, octets=9),), objection=object_to
    )
    book = server(READY, extensions=(*EXTENSIONS, own))

    book.send(b"MAIL FROM:<> XOWN=1\r\n").expect(555).send(b"MAIL FROM:<>\r\n").expect(250)


# Commands of custom extensions


@dataclass(frozen=True, slots=True)
class Quota(ExtensionCommand):
    verb: ClassVar[str] = "XQUOTA"
    octets: ClassVar[int] = 20

    tenant: str

    @classmethod
    def parse(cls, argument: str) -> "Quota | Reply":
        if not argument:
            return Reply(504, "Which tenant?", enhanced="5.5.4")
        if not argument.isalnum():
            raise ValueError(f"{argument!r} is not\u2028a tenant")
        return cls(argument)

    def objection(self, terms: object) -> Reply | None:
        return None if self.tenant in str(terms) else Reply(550, "Another server knows", enhanced="5.1.2")

    def __str__(self) -> str:
        return f"XQUOTA {self.tenant}"


@dataclass(frozen=True, slots=True)
class XHurry(ExtensionCommand):
    states: ClassVar[frozenset[State]] = frozenset({State.GREETED, State.RCPT})
    before_auth: ClassVar[bool] = True
    default_reply: ClassVar[Reply] = Reply(250, "Will do", enhanced="2.0.0")


QUOTAS = Extension(keyword="XQUOTAS", arguments=lambda config: "acme globex", commands=(Quota, XHurry))
EVERYTHING = (*EXTENSIONS, QUOTAS)


def answers(*lines: bytes, **changes: Any) -> list[str]:
    """Return the replies of a server with `QUOTAS`, without its greeting."""
    book = server(answer=refuse, extensions=EVERYTHING, **changes)
    return [text.splitlines()[-1] for text in book.send(b"".join(line + b"\r\n" for line in lines)).replies]


EHLO = b"EHLO c.example"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"XQUOTA acme", "502 5.5.1 Command not implemented"),
        (b"xquota globex", "502 5.5.1 Command not implemented"),
        (b"XQUOTA initech", "550 5.1.2 Another server knows"),
        (b"XQUOTA", "504 5.5.4 Which tenant?"),
        (b"XQUOTA a-b", "501 5.5.4 Syntax error in XQUOTA: 'a-b' is not?a tenant"),
        (b"XQUOTA \xff", "501 5.5.4 Syntax error in XQUOTA: this is not UTF-8"),
        (b"XQUOTA " + b"a" * 523, "550 5.1.2 Another server knows"),
        (b"XQUOTA " + b"a" * 524, "500 5.5.2 Line too long"),
        (b"XHURRY", "503 5.5.1 Bad sequence of commands"),
    ],
)
def test_custom_command_is_parsed_by_its_class(line: bytes, reply: str) -> None:
    assert answers(EHLO, line)[1:] == [reply]


def test_custom_command_is_an_event_in_its_states_only() -> None:
    assert answers(b"XHURRY", b"XQUOTA acme", EHLO) == [
        "250 2.0.0 Will do",
        "503 5.5.1 EHLO must come first",
        "250 XQUOTAS acme globex",
    ]
    server(RCPT, extensions=EVERYTHING).send(b"XHURRY\r\nXQUOTA acme\r\n").expect(XHurry(), 250, InvalidCommand, 503)


def test_custom_command_of_an_extension_that_is_not_offered_is_not_implemented() -> None:
    assert answers(EHLO, b"XQUOTA acme", disabled=frozenset({"XQUOTAS"}))[1:] == ["502 5.5.1 XQUOTA is not implemented"]
    server(READY).send(b"XQUOTA acme\r\n").expect("500 5.5.1 Command not recognized")


def test_custom_command_may_come_before_a_required_authentication() -> None:
    changes: dict[str, Any] = {"auth_mechanisms": ("PLAIN",), "require_auth": True, "plaintext_auth": True}
    assert answers(b"XHURRY", EHLO, b"XQUOTA acme", **changes) == [
        "250 2.0.0 Will do",
        "250 XQUOTAS acme globex",
        "530 5.7.0 Authentication required",
    ]


def test_custom_command_is_answered_like_any_other() -> None:
    conn = server(READY, extensions=EVERYTHING).connection
    conn.receive_data(b"XQUOTA acme\r\n")
    assert conn.next_event() == Quota("acme")
    with pytest.raises(LocalProtocolError, match="354 cannot answer Quota"):
        conn.send(Reply(354, "go on"))

    conn.send(Reply(421, "Too busy"))
    assert conn.state is State.CLOSED


def test_client_sends_a_custom_command_only_when_the_server_offers_it() -> None:
    conn = ClientConnection(ClientConfig(hostname="c.example"), extensions=EVERYTHING)
    peer = Connection(CONFIG, extensions=EVERYTHING)
    exchange(conn, peer)
    with pytest.raises(LocalProtocolError, match="XQUOTA cannot be sent"):
        conn.send(Quota("acme"))

    conn.send(conn.hello)
    exchange(conn, peer)
    with pytest.raises(LocalProtocolError, match="Another server knows"):
        conn.send(Quota("initech"))
    with pytest.raises(LocalProtocolError, match="XHURRY cannot be sent"):
        conn.send(XHurry())

    conn.send(Quota("acme"))
    assert conn.waiting_for is Wait.COMMAND_REPLY
    [answered] = exchange(conn, peer)
    assert answered == Answered(Quota("acme"), Reply(502, "Command not implemented", enhanced="5.5.1"))


def exchange(client: ClientConnection, peer: Connection) -> list[object]:
    """Pass all octets on in both directions, with the default replies, and return the events of the client."""
    sent = client.data_to_send()
    if sent:
        peer.receive_data(sent)
    while not isinstance(event := peer.next_event(), Signal):
        peer.send(peer.default_reply(event))
    client.receive_data(peer.data_to_send())
    events: list[object] = []
    while not isinstance(answered := client.next_event(), Signal):
        events.append(answered)
    return events


def test_command_takes_no_argument_by_default() -> None:
    assert answers(b"XHURRY up") == ["501 5.5.4 Syntax error in XHURRY: the command takes no argument"]


def test_relay_rule_keeps_a_value_for_servers_with_the_extension_only() -> None:
    refusal = Reply(554, "The next server does not support XFOO")
    offering, other = (NextHop(offers=offers, path=Path("")) for offers in ({"XFOO": True}, {"XBAR": True}))
    drop, refuse = relay_or_drop("XFOO"), relay_or_refuse("XFOO", refusal)

    assert [drop("value", hop) for hop in (offering, other)] == ["value", None]
    assert [refuse("value", hop) for hop in (offering, other)] == ["value", refusal]
