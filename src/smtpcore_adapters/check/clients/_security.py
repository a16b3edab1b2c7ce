"""Checks of a client's use of STARTTLS and AUTH."""

from .._findings import Failed, Inconclusive, NotApplicable, Severity
from ._client_checks import Case, ClientCheck, Judged, client_check
from ._visit import Script, Visit

_SECURITY = Severity.SECURITY
_PLAINTEXT_SECRETS = ("PLAIN", "LOGIN")


def expect_nothing_in_plaintext(case: Case) -> None:
    """Raise `Failed` if the client logs in or sends a message without TLS."""
    case.need("EHLO")
    verbs = [line.verb for line in case.of("AUTH", "MAIL") if not line.is_secure]
    if verbs:
        raise Failed(f"the client sent {verbs[0]} in plaintext")


def _need_starttls(case: Case) -> None:
    case.need("EHLO")
    if not case.of("STARTTLS"):
        raise NotApplicable("the client does not use STARTTLS")


def _need_tls(case: Case) -> None:
    _need_starttls(case)
    if not any(visit.is_secure for visit in case.visits):
        raise Inconclusive(f"the client did not start TLS: {case.visits[-1].ended}")


def _expect_real_hello(case: Case) -> None:
    _need_starttls(case)
    for line in case.lines:
        if line.is_secure and line.after == "EHLO" and line.is_early:
            raise Failed(f"{line.verb} was sent under TLS before the reply to EHLO: the client used an injected reply")


def _inject(visit: Visit) -> None:
    visit.reply(b"220 2.0.0 Go ahead\r\n250-injected.example\r\n250 AUTH PLAIN LOGIN\r\n")
    visit.start_tls()


def expect_new_hello(case: Case) -> None:
    """Raise `Failed` if the first command under TLS is not EHLO."""
    _need_tls(case)
    for line in case.lines:
        if line.is_secure and line.after == "STARTTLS" and line.verb not in ("EHLO", "HELO", "QUIT"):
            raise Failed(f"the first command under TLS is {line.verb}")


def _hide_extensions(visit: Visit) -> None:
    visit.reply(b"250 check.example\r\n" if visit.is_secure else visit.hello())


def _expect_extensions_forgotten(case: Case) -> None:
    _need_tls(case)
    for line in case.of("MAIL"):
        if line.is_secure and not line.text.endswith(">"):
            raise Failed(f"the client used an extension that was offered only in plaintext: {line.text}")


def expect_nothing_with_certificate(case: Case) -> None:
    """Raise `Failed` if the client sends a command under TLS."""
    lines = [line for line in case.lines if line.is_secure]
    if lines:
        raise Failed(f"the client accepted the certificate, and sent {lines[0].verb}")


def _expect_no_secret(case: Case) -> None:
    case.need("EHLO")
    for line in case.of("AUTH"):
        if not line.is_secure and _mechanism(line.text) in _PLAINTEXT_SECRETS:
            # A client that is not set up for TLS may be set up to send its password in plaintext.
            severity = Severity.WARNING if case.tls == "none" else _SECURITY
            raise Judged(f"the client sent AUTH {_mechanism(line.text)} without TLS", severity)


def _mechanism(text: str) -> str:
    return [*text.upper().split(), ""][1]


def _expect_offered_mechanism(case: Case) -> None:
    case.need("EHLO")
    others = {_mechanism(line.text) for line in case.of("AUTH")} - {"XUNKNOWN"}
    if others:
        raise Failed(f"the client used a mechanism that is not offered: {', '.join(sorted(others))}")


def _expect_no_unoffered_auth(case: Case) -> None:
    case.need("EHLO")
    if case.of("AUTH"):
        raise Failed("the client sent AUTH, which is not offered")


def _expect_no_login(case: Case) -> None:
    case.need("EHLO")
    if not case.of("AUTH"):
        raise NotApplicable("the client does not log in")


_WRONG_LOGIN = {"AUTH": b"535 5.7.8 Wrong password\r\n", "MAIL": b"530 5.7.0 Log in first\r\n"}

SECURITY: tuple[ClientCheck, ...] = (
    client_check(
        "tls-stripped",
        "Without an offer of STARTTLS, nothing is sent in plaintext",
        "RFC 3207 6",
        "neither AUTH nor MAIL; the client reports a failure",
        Script(starttls="never", offers_auth_in_plaintext=True),
        expect_nothing_in_plaintext,
        severity=_SECURITY,
        needs=("starttls",),
    ),
    client_check(
        "tls-refused",
        "After a refusal of STARTTLS, nothing is sent in plaintext",
        "RFC 3207 6",
        "neither AUTH nor MAIL; the client reports a failure",
        Script(answers={"STARTTLS": b"454 4.7.0 TLS is not available\r\n"}, offers_auth_in_plaintext=True),
        expect_nothing_in_plaintext,
        severity=_SECURITY,
        needs=("starttls",),
    ),
    client_check(
        "tls-no-ehlo",
        "A server without EHLO cannot switch TLS off",
        "RFC 3207 6",
        "neither AUTH nor MAIL; the client reports a failure",
        Script(answers={"EHLO": b"502 5.5.1 What is EHLO?\r\n"}),
        expect_nothing_in_plaintext,
        severity=_SECURITY,
        needs=("starttls",),
    ),
    client_check(
        "tls-injection",
        "Replies that arrive in plaintext after the 220 to STARTTLS are not used under TLS",
        "RFC 3207 4.2",
        "the client leaves, or waits for the reply to EHLO under TLS",
        Script(starttls="always", answers={"STARTTLS": _inject}, watches=("EHLO",)),
        _expect_real_hello,
        severity=_SECURITY,
        needs=("none", "starttls"),
    ),
    client_check(
        "tls-new-hello",
        "EHLO is the first command under TLS",
        "RFC 3207 4.2",
        "EHLO after the handshake",
        Script(starttls="always"),
        expect_new_hello,
        severity=Severity.WARNING,
        needs=("none", "starttls"),
    ),
    client_check(
        "tls-forgets-extensions",
        "Extensions that were offered in plaintext are forgotten under TLS",
        "RFC 3207 4.2",
        "MAIL without parameters",
        Script(starttls="always", answers={"EHLO": _hide_extensions}),
        _expect_extensions_forgotten,
        needs=("none", "starttls"),
    ),
    client_check(
        "tls-authority",
        "A certificate of an unknown authority is refused",
        "RFC 8314 5.3",
        "no command under TLS; the client reports a failure",
        Script(certificate="unknown authority"),
        expect_nothing_with_certificate,
        severity=_SECURITY,
        needs=("starttls", "implicit"),
    ),
    client_check(
        "tls-name",
        "A certificate with another name is refused",
        "RFC 8314 5.3",
        "no command under TLS; the client reports a failure",
        Script(certificate="wrong name"),
        expect_nothing_with_certificate,
        severity=_SECURITY,
        needs=("starttls", "implicit"),
    ),
    client_check(
        "auth-plaintext",
        "Passwords are not sent in plaintext if STARTTLS is offered",
        "RFC 8314 3",
        "STARTTLS before AUTH PLAIN or AUTH LOGIN",
        Script(starttls="always", offers_auth_in_plaintext=True),
        _expect_no_secret,
        severity=_SECURITY,
        needs=("none", "starttls"),
    ),
    client_check(
        "auth-not-offered",
        "AUTH is sent only if it is offered",
        "RFC 4954 4",
        "no AUTH",
        Script(mechanisms=()),
        _expect_no_unoffered_auth,
    ),
    client_check(
        "auth-mechanism",
        "Only a mechanism that is offered is used",
        "RFC 4954 4",
        "no AUTH with another mechanism than XUNKNOWN",
        Script(mechanisms=("XUNKNOWN",)),
        _expect_offered_mechanism,
    ),
    client_check(
        "auth-refused",
        "After a refused login the client reports a failure",
        "RFC 4954 6",
        "no message; the client reports a failure",
        Script(answers=_WRONG_LOGIN),
        _expect_no_login,
    ),
)
