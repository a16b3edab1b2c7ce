"""Whether TLS and AUTH protect what they should."""

from base64 import b64encode

from ._checks import Check, Probe, Stage, answered, check, expect
from ._findings import Failed, NotApplicable, Severity
from ._raw_client import NoReply, Wire

_SECURITY = Severity.SECURITY
_WRONG = b64encode(b"\0smtpcore-check\0wrong").decode()


def _plaintext(probe: Probe) -> Wire:
    # A connection before TLS, which has said EHLO.
    if probe.target.tls == "implicit":
        raise NotApplicable("TLS comes first")

    wire = probe.at(Stage.CONNECTED)
    expect(wire.greet(), "250")
    return wire


def _starttls(probe: Probe) -> Wire:
    wire = _plaintext(probe)
    probe.need(wire, "STARTTLS")
    return wire


def _secured(probe: Probe) -> Wire:
    wire = _starttls(probe)
    expect(wire.ask("STARTTLS"), "220")
    wire.start_tls()
    return wire


@check(
    "tls-injection",
    "Nothing that came before TLS is heard after it",
    "RFC 3207 4.2",
    "no reply to a command behind STARTTLS",
    severity=_SECURITY,
)
def _injection(probe: Probe) -> None:
    wire = _starttls(probe)
    wire.send(b"STARTTLS\r\nNOOP injected\r\n")
    try:
        refused = expect(wire.reply(), "220 4yz 5yz").code != 220
        if refused:
            return

        wire.pause()
        if wire.unread:
            raise Failed("the command was answered before TLS, behind the 220")

        wire.start_tls()
        answers = wire.replies_before_goodbye()
    except (NoReply, OSError):
        return  # the server did not go on, and so heard nothing

    if answers:
        raise Failed(f"after TLS came {answers[0]}")


@check("tls-forgets-transaction", "TLS begins a new session", "RFC 3207 4.2", "5yz to RCPT, which has no MAIL any more")
def _forgets_transaction(probe: Probe) -> None:
    wire = _starttls(probe)
    seen = wire.ask(probe.mail)
    if seen.code != 250:
        raise NotApplicable(f"no transaction before TLS: {seen}")

    if wire.ask("STARTTLS").code == 220:
        wire.start_tls()
        expect(wire.ask(probe.rcpt), "5yz")


@check(
    "tls-forgets-hello",
    "TLS makes the server forget the EHLO before it",
    "RFC 3207 4.2",
    "5yz to MAIL without a further EHLO",
    severity=Severity.WARNING,
)
def _forgets_hello(probe: Probe) -> None:
    expect(_secured(probe).ask(probe.mail), "5yz")


@check("tls-offered-once", "STARTTLS is not offered under TLS", "RFC 3207 4.2", "no STARTTLS in the reply to EHLO")
def _offered_once(probe: Probe) -> None:
    wire = _secured(probe)
    expect(wire.greet(), "250")
    if "STARTTLS" in wire.offered:
        raise Failed("STARTTLS is offered again")


@check("tls-twice", "STARTTLS is refused under TLS", "RFC 3207 4.2", "5yz")
def _twice(probe: Probe) -> None:
    wire = _secured(probe)
    expect(wire.greet(), "250")
    expect(wire.ask("STARTTLS"), "5yz")


@check("tls-argument", "STARTTLS has no argument", "RFC 3207 4", "5yz", severity=Severity.WARNING)
def _argument(probe: Probe) -> None:
    expect(_starttls(probe).ask("STARTTLS now"), "5yz")


# AUTH


@check(
    "auth-offered-plaintext",
    "Passwords are not asked for before TLS",
    "RFC 4954 4",
    "neither PLAIN nor LOGIN in the reply to EHLO",
    severity=_SECURITY,
)
def _offered_plaintext(probe: Probe) -> None:
    wire = _plaintext(probe)
    offered = {"PLAIN", "LOGIN"} & set(wire.offered.get("AUTH", "").split())
    if offered:
        raise Failed(f"offered without TLS: {', '.join(sorted(offered))}")


@check(
    "auth-taken-plaintext",
    "Passwords are not taken before TLS",
    "RFC 4954 4",
    "5yz without a look at the password",
    severity=_SECURITY,
)
def _taken_plaintext(probe: Probe) -> None:
    wire = _starttls(probe)
    if "AUTH" in wire.offered:
        raise NotApplicable("AUTH is offered without TLS")

    seen = expect(wire.ask(f"AUTH PLAIN {_WRONG}"), "5yz")
    if seen.code == 535:
        raise Failed(f"answered {seen}")


def _before_auth(probe: Probe) -> Wire:
    # A session that is ready, but for its AUTH.
    wire = _secured(probe) if probe.target.tls == "starttls" else probe.at(Stage.CONNECTED)
    expect(wire.greet(), "250")
    probe.need(wire, "AUTH")
    return wire


def _auth(id: str, title: str, section: str, lines: tuple[str, ...], codes: tuple[str, ...], mechanism: str) -> Check:
    @check(id, title, section, ", ".join(codes))
    def probe(given: Probe) -> None:
        wire = _before_auth(given)
        if mechanism not in wire.offered["AUTH"].split():
            raise NotApplicable(f"{mechanism} is not offered")

        for line, expected in zip(lines, codes, strict=True):
            expect(wire.ask(line), expected)

    return probe


@check("auth-unknown", "An unknown mechanism is refused", "RFC 4954 4", "5yz")
def _unknown(probe: Probe) -> None:
    expect(_before_auth(probe).ask("AUTH XSMTPCORECHECK"), "5yz")


@check("auth-twice", "AUTH is refused once it has succeeded", "RFC 4954 4", "503")
def _auth_twice(probe: Probe) -> None:
    if not probe.target.user:
        raise NotApplicable("no one logs in")

    wire = probe.at(Stage.READY)
    expect(wire.ask(f"AUTH PLAIN {_WRONG}"), "503")


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
    _auth("auth-base64", "What is not base64 is refused", "RFC 4954 4", ("AUTH PLAIN", "a=b"), ("334", "5yz"), "PLAIN"),
    _auth_twice,
    answered("auth-bare", "AUTH needs a mechanism", "RFC 4954 4", "AUTH", "5yz", needs="AUTH"),
)
