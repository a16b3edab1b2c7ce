"""Checks of STARTTLS and AUTH."""

from base64 import b64encode

from ._checks import Check, Probe, Stage, answered, check, expect, preparing
from ._findings import Failed, Inconclusive, NotApplicable, Severity
from ._raw_client import NoReply, RawClient

_SECURITY = Severity.SECURITY
_WRONG = b64encode(b"\0smtpcore-check\0wrong").decode()


def _plaintext(probe: Probe) -> RawClient:
    # Return a connection without TLS, after EHLO.
    if probe.target.tls == "implicit":
        raise NotApplicable("the server starts TLS before the greeting")

    client = probe.at(Stage.GREETED)
    probe.prepare_hello(client)
    return client


def _starttls(probe: Probe) -> RawClient:
    client = _plaintext(probe)
    probe.need(client, "STARTTLS")
    return client


def _secured(probe: Probe) -> RawClient:
    client = _starttls(probe)
    probe.prepare(client, "STARTTLS", "220")
    client.start_tls()
    return client


@check(
    "tls-injection",
    "Commands received in plaintext after STARTTLS are discarded",
    "RFC 3207 4.2",
    "no reply to a command sent together with STARTTLS",
    severity=_SECURITY,
)
def _injection(probe: Probe) -> None:
    client = _starttls(probe)
    client.send(b"STARTTLS\r\nNOOP injected\r\n")
    try:
        refused = expect(client.reply(), "220 4yz 5yz").code != 220
        if refused:
            return

        client.pause()
        if client.unread:
            raise Failed("the server replied in plaintext to the command that followed STARTTLS")

        client.start_tls()
        answers = client.replies_before_goodbye()
    except (NoReply, OSError):
        return  # the server ended the session, so it discarded the command

    if answers:
        raise Failed(f"the server replied under TLS to the command that followed STARTTLS: {answers[0]}")


@check(
    "tls-forgets-transaction",
    "STARTTLS discards an open transaction",
    "RFC 3207 4.2",
    "5yz to RCPT, because no MAIL was sent under TLS",
)
def _forgets_transaction(probe: Probe) -> None:
    client = _starttls(probe)
    seen = client.ask(probe.mail)
    if seen.code == 530:
        raise NotApplicable(f"the server refuses MAIL before TLS: {seen}")
    if seen.code != 250:
        raise Inconclusive(f"the server refuses MAIL: {seen}")

    with preparing(client):
        seen = client.ask("STARTTLS")
    if seen.code == 220:
        client.start_tls()
        expect(client.ask(probe.rcpt), "5yz")


@check(
    "tls-forgets-hello",
    "A new EHLO is required after STARTTLS",
    "RFC 3207 4.2",
    "5yz to MAIL without a new EHLO",
    severity=Severity.WARNING,
)
def _forgets_hello(probe: Probe) -> None:
    expect(_secured(probe).ask(probe.mail), "5yz")


@check("tls-offered-once", "STARTTLS is not offered under TLS", "RFC 3207 4.2", "no STARTTLS in the reply to EHLO")
def _offered_once(probe: Probe) -> None:
    client = _secured(probe)
    probe.prepare_hello(client)
    if "STARTTLS" in client.offered:
        raise Failed("STARTTLS is offered under TLS")


@check("tls-twice", "STARTTLS is refused under TLS", "RFC 3207 4.2", "5yz")
def _twice(probe: Probe) -> None:
    client = _secured(probe)
    probe.prepare_hello(client)
    expect(client.ask("STARTTLS"), "5yz")


@check("tls-argument", "STARTTLS with an argument is refused", "RFC 3207 4", "5yz", severity=Severity.WARNING)
def _argument(probe: Probe) -> None:
    expect(_starttls(probe).ask("STARTTLS now"), "5yz")


# AUTH


@check(
    "auth-offered-plaintext",
    "PLAIN and LOGIN are not offered without TLS",
    "RFC 4954 4",
    "neither PLAIN nor LOGIN in the reply to EHLO",
    severity=_SECURITY,
)
def _offered_plaintext(probe: Probe) -> None:
    client = _plaintext(probe)
    offered = {"PLAIN", "LOGIN"} & set(client.offered.get("AUTH", "").split())
    if offered:
        raise Failed(f"offered without TLS: {', '.join(sorted(offered))}")


@check(
    "auth-taken-plaintext",
    "Passwords are not checked without TLS",
    "RFC 4954 4",
    "5yz, but not 535",
    severity=_SECURITY,
)
def _taken_plaintext(probe: Probe) -> None:
    client = _starttls(probe)
    if "AUTH" in client.offered:
        raise NotApplicable("AUTH is offered without TLS")

    seen = expect(client.ask(f"AUTH PLAIN {_WRONG}"), "530 534 538 5yz")
    if seen.code == 535:
        raise Failed(f"the reply was: {seen}")


def _before_auth(probe: Probe) -> RawClient:
    # Return a session that is ready for AUTH.
    client = probe.at(Stage.CONNECTED)
    probe.prepare_hello(client)
    probe.need(client, "AUTH")
    return client


def _auth(id: str, title: str, section: str, lines: tuple[str, ...], codes: tuple[str, ...], mechanism: str) -> Check:
    @check(id, title, section, ", ".join(codes))
    def probe(given: Probe) -> None:
        client = _before_auth(given)
        if mechanism not in client.offered["AUTH"].split():
            raise NotApplicable(f"{mechanism} is not offered")

        for line, expected in zip(lines[:-1], codes, strict=False):
            given.prepare(client, line, expected)

        expect(client.ask(lines[-1]), codes[-1])

    return probe


@check("auth-unknown", "An unknown mechanism is refused", "RFC 4954 4", "5yz")
def _unknown(probe: Probe) -> None:
    expect(_before_auth(probe).ask("AUTH XSMTPCORECHECK"), "5yz")


@check("auth-twice", "AUTH is refused after a successful AUTH", "RFC 4954 4", "503")
def _auth_twice(probe: Probe) -> None:
    if not probe.target.user:
        raise NotApplicable("the target has no user")

    seen = probe.at(Stage.READY).ask(f"AUTH PLAIN {_WRONG}")
    if seen.code == 535:
        raise Failed(f"the server checked the password: {seen}")

    expect(seen, "503")


SECURITY: tuple[Check, ...] = (
    _injection,
    _forgets_transaction,
    _forgets_hello,
    _offered_once,
    _twice,
    _argument,
    _offered_plaintext,
    _taken_plaintext,
    _unknown,
    _auth("auth-wrong", "A wrong password is refused", "RFC 4954 6", (f"AUTH PLAIN {_WRONG}",), ("535 5yz",), "PLAIN"),
    _auth("auth-cancel", "AUTH can be cancelled", "RFC 4954 4", ("AUTH PLAIN", "*"), ("334", "501"), "PLAIN"),
    _auth(
        "auth-base64",
        "A response that is not base64 is refused",
        "RFC 4954 4",
        ("AUTH PLAIN", "a=b"),
        ("334", "5yz"),
        "PLAIN",
    ),
    _auth_twice,
    answered("auth-bare", "AUTH without a mechanism is refused", "RFC 4954 4", "AUTH", "5yz", needs="AUTH"),
)
