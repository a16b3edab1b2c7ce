"""Checks of syntax: valid lines are accepted, malformed lines are refused."""

from ._checks import (
    SYNTAX_ERRORS,
    Check,
    Probe,
    Stage,
    answered,
    check,
    expect,
    expect_nothing_more,
    matches,
    one_reply,
)
from ._findings import Severity
from ._raw_client import ServerClosed

_WARNING = Severity.WARNING


def _same_as_recipient(id: str, title: str, section: str, line: str) -> Check:
    def probe(given: Probe) -> None:
        client = given.at(Stage.MAIL)
        local_part, _, domain = given.target.recipient.rpartition("@")
        spelt = local_part if local_part.startswith('"') else f'"{local_part}"'
        seen = client.ask(line.format(quoted=spelt, local_part=local_part, domain=domain, upper=domain.upper()))
        expect(seen, "2yz")

    expected = "2yz, the same as for the plain form of the address"
    return check(id, title, section, expected, control=Stage.RCPT)(probe)


@check("verb-vrfy", "VRFY is implemented", "RFC 5321 4.5.1", "a reply other than 500 and 502")
def _vrfy(probe: Probe) -> None:
    seen = probe.at(Stage.READY).ask(f"VRFY {probe.target.recipient}")
    if seen.code in (500, 502):
        expect(seen, "2yz")


_ROWS = (
    # Verbs and their arguments
    answered("verb-unknown", "An unknown verb is refused", "RFC 5321 4.2.4", "XSMTPCORECHECK", "5yz"),
    answered("verb-empty", "An empty line is refused", "RFC 5321 4.1.1", "", "5yz", severity=_WARNING),
    answered("verb-case", "Verbs are accepted in any letter case", "RFC 5321 2.4", "nOoP", "250"),
    answered("verb-mail-case", "FROM: is accepted in any letter case", "RFC 5321 2.4", "mAiL fRoM:<{sender}>", "250"),
    answered(
        "verb-trailing-space",
        "Spaces after a command are ignored",
        "RFC 5321 4.1.1",
        "RSET ",
        "250",
        severity=_WARNING,
    ),
    answered("verb-noop-argument", "NOOP may have an argument", "RFC 5321 4.1.1.9", "NOOP hello", "250"),
    answered(
        "verb-rset-argument", "RSET with an argument is refused", "RFC 5321 4.1.1", "RSET now", "5yz", severity=_WARNING
    ),
    answered(
        "verb-quit-argument", "QUIT with an argument is refused", "RFC 5321 4.1.1", "QUIT now", "5yz", severity=_WARNING
    ),
    answered(
        "verb-data-argument",
        "DATA with an argument is refused",
        "RFC 5321 4.1.1",
        "DATA now",
        "5yz",
        at=Stage.RCPT,
        severity=_WARNING,
    ),
    answered(
        "verb-vrfy-empty", "VRFY without an argument is refused", "RFC 5321 4.1.1.6", "VRFY", "5yz", severity=_WARNING
    ),
    # EHLO and HELO
    answered(
        "hello-empty",
        "EHLO without an argument is refused",
        "RFC 5321 4.1.1.1",
        "EHLO",
        "5yz",
        at=Stage.CONNECTED,
        lmtp=False,
    ),
    answered(
        "hello-helo-empty",
        "HELO without an argument is refused",
        "RFC 5321 4.1.1.1",
        "HELO",
        "5yz",
        at=Stage.CONNECTED,
        lmtp=False,
    ),
    answered(
        "hello-malformed",
        "EHLO with a malformed domain is refused",
        "RFC 5321 4.1.1.1",
        "EHLO @@",
        "5yz",
        at=Stage.CONNECTED,
        severity=_WARNING,
        lmtp=False,
    ),
    answered(
        "hello-literal",
        "EHLO with an address literal is accepted",
        "RFC 5321 4.1.3",
        "EHLO [127.0.0.1]",
        "250",
        at=Stage.CONNECTED,
        lmtp=False,
        objections=SYNTAX_ERRORS,
    ),
    answered(
        "hello-literal-ipv6",
        "EHLO with an IPv6 literal is accepted",
        "RFC 5321 4.1.3",
        "EHLO [IPv6:::1]",
        "250",
        at=Stage.CONNECTED,
        lmtp=False,
        objections=SYNTAX_ERRORS,
    ),
    # Paths
    answered("path-unclosed", "A path without its > is refused", "RFC 5321 4.1.2", "MAIL FROM:<{sender}", "5yz"),
    answered(
        "path-bare",
        "A path without angle brackets is refused",
        "RFC 5321 4.1.2",
        "MAIL FROM:{sender}",
        "5yz",
        severity=_WARNING,
    ),
    answered("path-missing", "MAIL FROM: without a path is refused", "RFC 5321 4.1.1.2", "MAIL FROM:", "5yz"),
    answered("path-no-from", "MAIL without FROM: is refused", "RFC 5321 4.1.1.2", "MAIL <{sender}>", "5yz"),
    answered(
        "path-space",
        "A local part with an unquoted space is refused",
        "RFC 5321 4.1.2",
        "MAIL FROM:<a b@{sender_domain}>",
        "5yz",
    ),
    answered(
        "path-two-ats",
        "A local part with an unquoted @ is refused",
        "RFC 5321 4.1.2",
        "MAIL FROM:<a@b@{sender_domain}>",
        "5yz",
        severity=_WARNING,
    ),
    answered(
        "path-8bit",
        "An address with octets beyond ASCII is refused",
        "RFC 5321 4.1.2",
        b"MAIL FROM:<\xff@smtpcore-check.example>",
        "5yz",
    ),
    answered(
        "path-nul",
        "An address with a NUL is refused",
        "RFC 5321 4.1.2",
        b"MAIL FROM:<a\x00b@smtpcore-check.example>",
        "5yz",
    ),
    answered("path-rcpt-null", "A null recipient is refused", "RFC 5321 4.1.1.3", "RCPT TO:<>", "5yz", at=Stage.MAIL),
    answered(
        "path-rcpt-two",
        "RCPT with two recipients is refused",
        "RFC 5321 4.1.1.3",
        "RCPT TO:<{recipient}>,<{recipient}>",
        "5yz",
        at=Stage.MAIL,
    ),
    answered("path-null-sender", "The null sender is accepted", "RFC 5321 4.5.5", "MAIL FROM:<>", "250"),
    answered(
        "path-postmaster",
        "Postmaster without a domain is accepted",
        "RFC 5321 4.5.1",
        "RCPT TO:<Postmaster>",
        "2yz",
        at=Stage.MAIL,
    ),
    answered(
        "path-postmaster-case",
        "Postmaster is accepted in any letter case",
        "RFC 5321 4.5.1",
        "RCPT TO:<pOSTmASTER@{domain}>",
        "2yz",
        at=Stage.MAIL,
    ),
    answered(
        "path-literal",
        "An address literal is not a syntax error",
        "RFC 5321 4.1.3",
        "MAIL FROM:<a@[127.0.0.1]>",
        "2yz 4yz 5yz",
        refused=SYNTAX_ERRORS,
    ),
    answered(
        "path-literal-ipv6",
        "An IPv6 literal is not a syntax error",
        "RFC 5321 4.1.3",
        "MAIL FROM:<a@[IPv6:::1]>",
        "2yz 4yz 5yz",
        refused=SYNTAX_ERRORS,
    ),
    answered(
        "path-quoted-space",
        "A quoted space is not a syntax error",
        "RFC 5321 4.1.2",
        'RCPT TO:<"a b"@{domain}>',
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=SYNTAX_ERRORS,
    ),
    answered(
        "path-quoted-at",
        "A quoted @ is not a syntax error",
        "RFC 5321 4.1.2",
        'RCPT TO:<"a@b"@{domain}>',
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=SYNTAX_ERRORS,
    ),
    answered(
        "path-quoted-bracket",
        "A quoted > is not a syntax error",
        "RFC 5321 4.1.2",
        'RCPT TO:<"a>b"@{domain}>',
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=SYNTAX_ERRORS,
    ),
    answered(
        "path-source-route",
        "A source route is not a syntax error",
        "RFC 5321 4.1.1.3",
        "RCPT TO:<@{domain}:{recipient}>",
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=SYNTAX_ERRORS,
        severity=_WARNING,
    ),
    # Parameters
    answered(
        "param-unknown",
        "An unknown parameter of MAIL is refused",
        "RFC 5321 4.1.1.11",
        "MAIL FROM:<{sender}> XSMTPCORECHECK=1",
        "5yz",
    ),
    answered(
        "param-unknown-code",
        "The code for an unknown parameter of MAIL is 555",
        "RFC 5321 4.1.1.11",
        "MAIL FROM:<{sender}> XSMTPCORECHECK=1",
        "555",
        severity=_WARNING,
    ),
    answered(
        "param-unknown-rcpt",
        "An unknown parameter of RCPT is refused",
        "RFC 5321 4.1.1.11",
        "RCPT TO:<{recipient}> XSMTPCORECHECK=1",
        "5yz",
        at=Stage.MAIL,
    ),
    answered(
        "param-glued",
        "A parameter without a space before it is refused",
        "RFC 5321 4.1.1.2",
        "MAIL FROM:<{sender}>SIZE=1",
        "5yz",
        severity=_WARNING,
    ),
    answered(
        "param-twice",
        "A repeated parameter is refused",
        "RFC 5321 4.1.1.11",
        "MAIL FROM:<{sender}> SIZE=1 SIZE=2",
        "5yz",
        needs="SIZE",
        severity=_WARNING,
    ),
    answered(
        "param-body-unknown",
        "An unknown value of BODY is refused",
        "RFC 6152 3",
        "MAIL FROM:<{sender}> BODY=9BIT",
        "5yz",
        needs="8BITMIME",
    ),
    answered(
        "param-body-case",
        "BODY is accepted in any letter case",
        "RFC 6152 3",
        "MAIL FROM:<{sender}> body=8bitmime",
        "250",
        needs="8BITMIME",
    ),
    # Line ends
    one_reply(
        "line-bare-cr",
        "A bare CR does not end a command",
        "RFC 5321 2.3.8",
        [b"NOOP\rNOOP\r\n"],
        "2yz 5yz",
        at=Stage.READY,
    ),
)


@check("param-helo", "Parameters are refused after HELO", "RFC 5321 2.2.1", "5yz", severity=_WARNING, lmtp=False)
def _after_helo(probe: Probe) -> None:
    probe.need(probe.at(Stage.READY), "SIZE")
    client = probe.at(Stage.CONNECTED)
    probe.prepare_hello(client, "HELO")
    expect(client.ask(f"{probe.mail} SIZE=1"), "5yz")


@check(
    "line-bare-lf",
    "A bare LF does not end a command",
    "RFC 5321 2.3.8",
    "5yz to the line that LF ends, or one reply to both lines",
    severity=Severity.SECURITY,
)
def _bare_lf(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    client.send(b"NOOP\nNOOP\r\n")
    try:
        seen = expect(client.reply(), "2yz 5yz")
    except ServerClosed:
        return
    if matches(seen.code, "2yz"):
        expect_nothing_more(client)


SYNTAX: tuple[Check, ...] = (
    *_ROWS,
    _bare_lf,
    _vrfy,
    _after_helo,
    _same_as_recipient(
        "path-quoted", "A quoted local part is accepted", "RFC 5321 4.1.2", "RCPT TO:<{quoted}@{domain}>"
    ),
    _same_as_recipient(
        "path-domain-case",
        "A domain is accepted in any letter case",
        "RFC 5321 2.4",
        "RCPT TO:<{local_part}@{upper}>",
    ),
)
