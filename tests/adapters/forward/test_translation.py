"""MAIL and RCPT adapted to the extensions of the next server."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import EXTENSIONS, Extension, NextHop, Parameter, Reply
from smtpcore_adapters import App, TlsMode
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT
from tests.adapters.forward.relay import ALL_EXTENSIONS, BODY, OK, Relay, relay_one
from tests.adapters.playbook import ACCEPTED, next_server
from tests.playbook import GO_AHEAD


def test_parameters_supported_by_the_next_server_are_forwarded() -> None:
    offers = ("8BITMIME", "SMTPUTF8", "SIZE 1000", "DSN", "MT-PRIORITY", "NO-SOLICITING", "RRVS", "DELIVERBY", "XFOO")
    mail = (
        b"MAIL FROM:<gr\xc3\xbc\xc3\x9fe@c.example> SMTPUTF8 SIZE=20 BODY=7BIT RET=HDRS ENVID=QQ MT-PRIORITY=3 "
        b"SOLICIT=net.example:ADV BY=120;R\r\n"
    )
    rcpt = b"RCPT TO:<u@s.example> NOTIFY=SUCCESS ORCPT=rfc822;u@s.example RRVS=2020-01-01T00:00:00Z\r\n"
    codes, sent = relay_one(*offers, mail=mail, rcpt=rcpt, config=ALL_EXTENSIONS)

    assert codes[-1] == "250 2.0.0"
    assert sent[:2] == [mail, rcpt]


def test_optional_parameters_are_dropped_if_the_next_server_lacks_the_extension() -> None:
    mail = (
        b"MAIL FROM:<a@c.example> SMTPUTF8 SIZE=20 BODY=8BITMIME RET=HDRS ENVID=QQ MT-PRIORITY=3 "
        b"SOLICIT=net.example:ADV\r\n"
    )
    rcpt = b"RCPT TO:<u@s.example> NOTIFY=FAILURE ORCPT=rfc822;u@s.example RRVS=2020-01-01T00:00:00Z;C\r\n"
    codes, sent = relay_one(mail=mail, rcpt=rcpt, config=ALL_EXTENSIONS)

    assert codes[-1] == "250 2.0.0"
    assert sent[:2] == [MAIL, RCPT]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (b"BODY=BINARYMIME", "554 5.6.3"),
        (b"BY=120;R", "554 5.3.3"),
        (b"BY=120;N", "554 5.3.3"),
    ],
)
def test_required_mail_parameter_unsupported_by_the_next_server_is_refused(params: bytes, code: str) -> None:
    mail = b"MAIL FROM:<a@c.example> " + params + b"\r\n"
    relay = Relay(EHLO + mail + RCPT + RCPT + QUIT, next_servers=[next_server("8BITMIME")], config=ALL_EXTENSIONS)
    assert relay.codes[1:3] == [code, code]


@pytest.mark.parametrize(
    ("params", "code"), [(b"NOTIFY=SUCCESS,FAILURE", "554 5.3.3"), (b"RRVS=2020-01-01T00:00:00Z", "550 5.7.19")]
)
def test_required_rcpt_parameter_unsupported_by_the_next_server_is_refused(params: bytes, code: str) -> None:
    rcpt = b"RCPT TO:<u@s.example> " + params + b"\r\n"
    assert (
        Relay(EHLO + MAIL + rcpt, next_servers=[next_server("8BITMIME").send(OK)], config=ALL_EXTENSIONS).codes[1]
        == code
    )


def test_hold_for_is_refused_if_the_next_server_lacks_futurerelease() -> None:
    config = replace(ALL_EXTENSIONS, max_hold_for=100, max_hold_until=datetime(2100, 1, 1, tzinfo=UTC))
    mail = b"MAIL FROM:<a@c.example> HOLDFOR=60\r\n"
    assert Relay(EHLO + mail + RCPT, next_servers=[next_server("8BITMIME")], config=config).codes[1] == "555 5.5.4"


def test_by_time_below_the_minimum_of_the_next_server_is_not_sent() -> None:
    mail = b"MAIL FROM:<a@c.example> BY=5;R\r\n"
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    hop = next_server("DELIVERBY 100").send(OK, OK, GO_AHEAD, ACCEPTED)
    relay = Relay(EHLO + mail + RCPT + b"RSET\r\n" + message + mail + RCPT, next_servers=[hop], config=ALL_EXTENSIONS)

    assert [code for code in relay.codes if code.startswith("5")] == ["554 5.5.0", "554 5.5.0"]
    assert sum("taken" in reply for reply in relay.dialogue.replies) == 1
    assert b" BY=" not in hop.output


TENANT = b"MAIL FROM:<a@c.example> XTENANT=acme\r\n"


def tenants(relay: Any = None) -> tuple[Extension, ...]:
    """Return the built-in extensions and one with a parameter XTENANT."""
    parameter = Parameter("XTENANT", str, str, octets=20, relay=relay)
    return (*EXTENSIONS, Extension(keyword="XTENANTS", mail=(parameter,)))


def test_parameter_of_a_custom_extension_is_forwarded_if_offered_and_refused_otherwise() -> None:
    codes, sent = relay_one("XTENANTS", mail=TENANT, extensions=tenants())
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == TENANT

    relay = Relay(EHLO + TENANT + RCPT, next_servers=[next_server("8BITMIME")], extensions=tenants())
    assert relay.codes[1] == "555 5.5.4"


def test_custom_relay_rule_decides_which_value_is_sent() -> None:
    def rule(tenant: str, hop: NextHop) -> str | Reply | None:
        if not hop.path.domain.startswith("c."):
            return Reply(550, "Not this tenant")
        return tenant.upper() if "XTENANTS" in hop.offers else None

    assert relay_one("XTENANTS", mail=TENANT, extensions=tenants(rule))[1][0] == TENANT.replace(b"acme", b"ACME")
    assert relay_one(mail=TENANT, extensions=tenants(rule))[1][0] == MAIL
    script = EHLO + TENANT.replace(b"@c", b"@d") + RCPT
    assert Relay(script, next_servers=[next_server("8BITMIME")], extensions=tenants(rule)).codes[1] == "550 5.0.0"


def test_parameter_of_an_unknown_extension_is_refused() -> None:
    config = replace(CONFIG, unknown_parameters=True)
    hop = next_server("XTENANT")
    assert Relay(EHLO + TENANT + RCPT, next_servers=[hop], config=config).codes[:2] == ["250 2.1.0", "555 5.5.4"]


def test_size_above_the_limit_of_the_next_server_is_refused_at_rcpt() -> None:
    mail = b"MAIL FROM:<a@c.example> SIZE=2000\r\n"
    assert Relay(EHLO + mail + RCPT, next_servers=[next_server("SIZE 1000")]).codes[1] == "552 5.3.4"


def test_ascii_body_declared_as_8bitmime_is_sent_to_a_server_without_8bitmime() -> None:
    codes, sent = relay_one(mail=b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n")
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == MAIL


def test_non_ascii_address_is_not_sent_to_a_server_without_smtputf8() -> None:
    international = "MAIL FROM:<grüße@c.example> SMTPUTF8\r\n".encode()
    assert Relay(EHLO + international + RCPT, next_servers=[next_server("8BITMIME")]).codes[1] == "550 5.6.7"

    mail, rcpt = b"MAIL FROM:<a@c.example> SMTPUTF8\r\n", "RCPT TO:<grüße@s.example>\r\n".encode()
    assert Relay(EHLO + mail + rcpt, next_servers=[next_server("8BITMIME").send(OK)]).codes[1] == "553 5.6.7"


def test_binary_body_is_sent_to_a_server_with_binarymime() -> None:
    hop = next_server("8BITMIME", "BINARYMIME", "CHUNKING").send(OK, OK, ACCEPTED)
    mail = b"MAIL FROM:<a@c.example> BODY=BINARYMIME\r\n"
    relay = Relay(EHLO + mail + RCPT + b"BDAT 6 LAST\r\nA\n\r\xff\0b", next_servers=[hop], trace=False)

    assert relay.codes[-1] == "250 2.0.0"
    assert hop.sent[-3:] == [b"BDAT 6 LAST\r\nA\n\r\xff\0", b"b", QUIT]


def test_auth_parameter_is_forwarded_for_authenticated_clients_only() -> None:
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    app = App()
    app.on("auth")(lambda session, question: True)
    mail = b"MAIL FROM:<a@c.example> AUTH=x@y.example\r\n"
    codes, sent = relay_one("AUTH PLAIN", mail=mail, config=config, app=app)
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == b"MAIL FROM:<a@c.example> AUTH=<>\r\n"

    app = App()
    app.on("auth")(lambda session, question: True)
    login = b"AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n"
    codes, sent = relay_one("AUTH PLAIN", mail=login + mail, config=config, app=app)
    assert sent[0] == mail


@pytest.mark.parametrize(
    ("offers", "options", "code"),
    [
        (("REQUIRETLS",), {"tls": TlsMode.IMPLICIT}, "250 2.1.0"),
        (("REQUIRETLS",), {"tls": TlsMode.NONE}, "550 5.7.30"),
        (("REQUIRETLS",), {"tls": TlsMode.IMPLICIT, "context": ssl._create_unverified_context()}, "550 5.7.30"),
        ((), {"tls": TlsMode.IMPLICIT}, "550 5.7.30"),
    ],
)
def test_requiretls_needs_verified_tls_and_requiretls_at_the_next_server(
    offers: tuple[str, ...], options: dict[str, Any], code: str
) -> None:
    script = EHLO + b"STARTTLS\r\n", EHLO + b"MAIL FROM:<a@c.example> REQUIRETLS\r\n" + RCPT
    relay = Relay(
        *script, next_servers=[next_server(*offers).send(OK, OK)], config=UNDER_TLS, server_tls=SERVER_TLS, **options
    )
    assert relay.codes[-1] == code


SERVER_TLS = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
UNDER_TLS = replace(ALL_EXTENSIONS, starttls=True)


def test_notification_with_requiretls_is_sent_to_a_server_without_requiretls() -> None:
    script = EHLO + b"STARTTLS\r\n", EHLO + b"MAIL FROM:<> REQUIRETLS\r\n" + RCPT
    relay = Relay(*script, next_servers=[next_server("8BITMIME").send(OK, OK)], config=UNDER_TLS, server_tls=SERVER_TLS)
    assert relay.codes[-1] == "250 2.1.0"


@pytest.mark.parametrize("keywords", [(), ("SMTPUTF8", "8BITMIME")])
def test_source_routes_are_removed(keywords: tuple[str, ...]) -> None:
    mail = b"MAIL FROM:<@evil.example,@d.example:a@c.example>\r\n"
    codes, sent = relay_one(*keywords, mail=mail, rcpt=RCPT.replace(b"<", b"<@evil.example:"))
    assert codes[-1] == "250 2.0.0"
    assert sent[0].startswith(b"MAIL FROM:<a@c.example>")
    assert sent[1] == RCPT


@pytest.mark.parametrize("local_part", [b"u%other.example", b"other!u", b'"u@other.example"'])
def test_routes_in_a_local_part_are_left_to_the_last_server(local_part: bytes) -> None:
    rcpt = b"RCPT TO:<" + local_part + b"@s.example>\r\n"
    assert relay_one(rcpt=rcpt)[1][1] == rcpt
