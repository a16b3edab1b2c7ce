"""Parse parameters with every extension enabled, and drive the commands of gateways."""

from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    Burl,
    Config,
    Connection,
    Etrn,
    Event,
    Mail,
    NextHop,
    Parameter,
    Params,
    Path,
    Rcpt,
    Reply,
    Xclient,
)
from smtpcore._dialects import Dialect, dialect_of, offered_extensions
from smtpcore._parser import CommandRejected, parse_command

from ...helpers import bytewise
from ...playbook import GREETED, Answer, ServerPlaybook, accept, server

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
ALL = Config(
    hostname="s.example",
    disabled=frozenset(),
    min_by_time=240,
    max_hold_for=604_800,
    max_hold_until=NEW_YEAR,
    auth_mechanisms=("PLAIN",),
)
"""A configuration with limits for every extension."""

GATEWAY: dict[str, Any] = {
    "disabled": OFF_BY_DEFAULT - {"ETRN", "BURL", "XCLIENT", "XFORWARD"},
    "burl": ("imap",),
}
"""Options that enable the commands of gateways."""
URL = "imap://u@s.example/outbox;uid=1"
PART = b"From: u@s.example\r\n\r\nHi\r\n"


def dialect(config: Config = ALL, *, tls: bool = True) -> Dialect:
    """Return the dialect after EHLO, under TLS by default."""
    return dialect_of(EXTENSIONS, config, tls=tls, extended=True)


def parse_params(verb: str, params: str, *, config: Config = ALL, tls: bool = True) -> Params:
    """Return the parameters of a command, after checking that encoding and parsing it again changes nothing."""
    path = "FROM:<a@c.example>" if verb == "MAIL" else "TO:<u@s.example>"
    command = parse_command(verb, f"{verb} {path} {params}".encode(), dialect(config, tls=tls))
    assert isinstance(command, Mail | Rcpt)
    assert parse_command(verb, str(command).encode(), dialect(config, tls=tls)) == command
    return command.params


def refusal_of(verb: str, params: str, *, config: Config = ALL, tls: bool = True) -> tuple[int, str | None]:
    """Return code and enhanced status code of the refusal of these parameters."""
    with pytest.raises(CommandRejected) as caught:
        parse_params(verb, params, config=config, tls=tls)
    return caught.value.refusal.reply.code, caught.value.refusal.reply.enhanced


def assert_round_trip(verb: str, params: str, value: object) -> None:
    """Check that a parameter has this value, as an item and as a property of `Params`."""
    known = parse_params(verb, params)
    keyword = params.partition("=")[0]

    assert known[keyword] == value
    assert getattr(known, keyword.lower().replace("-", "_")) == value


def assert_limit_grows(keyword: str, verb: str, params: str, growth: int) -> None:
    """Check that the extension `keyword` adds `growth` octets to the line limit of `verb`, enough for `params`."""
    others = frozenset(entry.keyword for entry in EXTENSIONS) - {keyword}
    config = Config(
        hostname="s.example",
        disabled=others,
        max_hold_for=1,
        max_hold_until=NEW_YEAR,
        auth_mechanisms=("PLAIN",),
        plaintext_auth=True,
        max_message_size=None,
    )
    known = dialect(config, tls=True)
    room = 512 + growth - len(f"{verb} TO:<@s.example> {params}\r\n")
    path = f"TO:<{'u' * room}@s.example>" if verb == "RCPT" else f"FROM:<{'u' * (room - 2)}@s.example>"

    assert len(params) + 1 <= growth
    assert known.max_lines[verb] == 512 + growth
    assert isinstance(parse_command(verb, f"{verb} {path} {params}".encode(), known), Mail | Rcpt)
    with pytest.raises(CommandRejected, match="too long"):
        parse_command(verb, f"{verb} {path} {params} ".encode(), known)


def relayed(parameter: Parameter[Any], value: object, *, sender: str = "a@c.example", **hop: Any) -> object:
    """Return the value that a relay sends to the next server, None to leave it out, or the text of a refusal.

    `hop` has fields of `NextHop`.
    """
    assert parameter.relay
    result = parameter.relay(value, NextHop(**{"offers": {}, "path": Path(sender), **hop}))
    return str(result) if isinstance(result, Reply) else result


def announced(config: Config, *, tls: bool = False) -> list[str]:
    """Return the lines of the reply to EHLO that announce extensions."""
    return [extension.announce(config) for extension in offered_extensions(EXTENSIONS, config, tls=tls)]


def fetch(conn: Connection, event: Event) -> Reply | None:
    """Answer as a server that fetches every URL, starts every queue and trusts every proxy."""
    match event:
        case Burl():
            for segment in (*bytewise(PART), b""):
                conn.receive_part(segment)
            return None
        case Etrn():
            return Reply(253, "7 messages started", enhanced="2.5.0")
        case Xclient():
            return Reply(220, "ESMTP")
        case _:
            return accept(conn, event)


def gateway(before: bytes = GREETED, *, answer: Answer = fetch, **changes: Any) -> ServerPlaybook:
    """Return a dialogue with a gateway that has received and answered `before`."""
    return server(before, answer=answer, **GATEWAY | changes)
