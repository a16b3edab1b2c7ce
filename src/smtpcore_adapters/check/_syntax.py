"""Whether lines are understood that are right, and refused that are wrong."""

from ._checks import Check, Probe, Stage, answered, check, expect, one_reply
from ._findings import Failed, Severity

_WARNING = Severity.WARNING

# What says "I do not understand this", in contrast to "there is no such mailbox".
_NOT_UNDERSTOOD = "500 501 502 503 504 555"


def _same_as_recipient(id: str, title: str, section: str, line: str) -> Check:
    def probe(given: Probe) -> None:
        wire = given.at(Stage.RCPT)
        local_part, _, domain = given.target.recipient.rpartition("@")
        spelt = local_part if local_part.startswith('"') else f'"{local_part}"'
        seen = wire.ask(line.format(quoted=spelt, local_part=local_part, domain=domain, upper=domain.upper()))
        if seen.code // 100 == 5:
            raise Failed(f"answered {seen}, though the recipient is accepted in another spelling")

    return check(id, title, section, "2yz, as the recipient gets it")(probe)


@check("verb-vrfy", "VRFY is implemented", "RFC 5321 4.5.1", "a reply that does not say that it is not")
def _vrfy(probe: Probe) -> None:
    seen = probe.at(Stage.READY).ask(f"VRFY {probe.target.recipient}")
    if seen.code in (500, 502):
        raise Failed(f"answered {seen}")


_ROWS = (
    # Verbs and their arguments
    answered("verb-unknown", "An unknown verb is refused", "RFC 5321 4.2.4", "XSMTPCORECHECK", "5yz"),
    answered("verb-empty", "An empty line is refused", "RFC 5321 4.1.1", "", "5yz", severity=_WARNING),
    answered("verb-case", "Verbs are known in any letter case", "RFC 5321 2.4", "nOoP", "250"),
    answered("verb-mail-case", "So is FROM:", "RFC 5321 2.4", "mAiL fRoM:<{sender}>", "250"),
    answered(
        "verb-trailing-space", "Spaces behind a command do no harm", "RFC 5321 4.1.1", "RSET ", "250", severity=_WARNING
    ),
    answered("verb-noop-argument", "NOOP may have an argument", "RFC 5321 4.1.1.9", "NOOP hello", "250"),
    answered("verb-rset-argument", "RSET has no argument", "RFC 5321 4.1.1", "RSET now", "5yz", severity=_WARNING),
    answered("verb-quit-argument", "QUIT has no argument", "RFC 5321 4.1.1", "QUIT now", "5yz", severity=_WARNING),
    answered(
        "verb-data-argument",
        "DATA has no argument",
        "RFC 5321 4.1.1",
        "DATA now",
        "5yz",
        at=Stage.RCPT,
        severity=_WARNING,
    ),
    answered("verb-vrfy-empty", "VRFY needs an argument", "RFC 5321 4.1.1.6", "VRFY", "5yz", severity=_WARNING),
    # EHLO and HELO
    answered(
        "hello-empty", "EHLO needs an argument", "RFC 5321 4.1.1.1", "EHLO", "5yz", at=Stage.CONNECTED, lmtp=False
    ),
    answered(
        "hello-helo-empty", "HELO needs an argument", "RFC 5321 4.1.1.1", "HELO", "5yz", at=Stage.CONNECTED, lmtp=False
    ),
    answered(
        "hello-malformed",
        "EHLO needs a domain",
        "RFC 5321 4.1.1.1",
        "EHLO @@",
        "5yz",
        at=Stage.CONNECTED,
        severity=_WARNING,
        lmtp=False,
    ),
    answered(
        "hello-literal",
        "EHLO takes an address literal",
        "RFC 5321 4.1.3",
        "EHLO [127.0.0.1]",
        "250",
        at=Stage.CONNECTED,
        lmtp=False,
    ),
    answered(
        "hello-literal-ipv6",
        "EHLO takes an IPv6 literal",
        "RFC 5321 4.1.3",
        "EHLO [IPv6:::1]",
        "250",
        at=Stage.CONNECTED,
        lmtp=False,
    ),
    # Paths
    answered("path-unclosed", "A path needs both brackets", "RFC 5321 4.1.2", "MAIL FROM:<{sender}", "5yz"),
    answered(
        "path-bare", "A path needs its brackets", "RFC 5321 4.1.2", "MAIL FROM:{sender}", "5yz", severity=_WARNING
    ),
    answered("path-missing", "MAIL needs a path", "RFC 5321 4.1.1.2", "MAIL FROM:", "5yz"),
    answered("path-no-from", "MAIL needs FROM:", "RFC 5321 4.1.1.2", "MAIL <{sender}>", "5yz"),
    answered(
        "path-space", "A local part has no spaces", "RFC 5321 4.1.2", "MAIL FROM:<a b@smtpcore-check.example>", "5yz"
    ),
    answered(
        "path-two-ats",
        "A local part has no second @",
        "RFC 5321 4.1.2",
        "MAIL FROM:<a@b@smtpcore-check.example>",
        "5yz",
        severity=_WARNING,
    ),
    answered(
        "path-8bit",
        "Octets beyond ASCII are refused",
        "RFC 5321 4.1.2",
        b"MAIL FROM:<\xff@smtpcore-check.example>",
        "5yz",
    ),
    answered(
        "path-nul",
        "NUL is refused in an address",
        "RFC 5321 4.1.2",
        b"MAIL FROM:<a\x00b@smtpcore-check.example>",
        "5yz",
    ),
    answered("path-rcpt-null", "A recipient is not null", "RFC 5321 4.1.1.3", "RCPT TO:<>", "5yz", at=Stage.MAIL),
    answered(
        "path-rcpt-two",
        "RCPT names one recipient",
        "RFC 5321 4.1.1.3",
        "RCPT TO:<{recipient}>,<{recipient}>",
        "5yz",
        at=Stage.MAIL,
    ),
    answered("path-null-sender", "The null sender is accepted", "RFC 5321 4.5.5", "MAIL FROM:<>", "250"),
    answered(
        "path-postmaster", "Postmaster needs no domain", "RFC 5321 4.5.1", "RCPT TO:<Postmaster>", "2yz", at=Stage.MAIL
    ),
    answered(
        "path-postmaster-case",
        "Postmaster may be written in any case",
        "RFC 5321 4.5.1",
        "RCPT TO:<pOSTmASTER@{domain}>",
        "2yz",
        at=Stage.MAIL,
    ),
    answered(
        "path-literal",
        "An address literal is understood",
        "RFC 5321 4.1.3",
        "MAIL FROM:<a@[127.0.0.1]>",
        "2yz 4yz 5yz",
        refused=_NOT_UNDERSTOOD,
    ),
    answered(
        "path-literal-ipv6",
        "An IPv6 literal is understood",
        "RFC 5321 4.1.3",
        "MAIL FROM:<a@[IPv6:::1]>",
        "2yz 4yz 5yz",
        refused=_NOT_UNDERSTOOD,
    ),
    answered(
        "path-quoted-space",
        "A quoted space is understood",
        "RFC 5321 4.1.2",
        'RCPT TO:<"a b"@{domain}>',
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=_NOT_UNDERSTOOD,
    ),
    answered(
        "path-quoted-at",
        "A quoted @ is understood",
        "RFC 5321 4.1.2",
        'RCPT TO:<"a@b"@{domain}>',
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=_NOT_UNDERSTOOD,
    ),
    answered(
        "path-quoted-bracket",
        "A quoted > is understood",
        "RFC 5321 4.1.2",
        'RCPT TO:<"a>b"@{domain}>',
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=_NOT_UNDERSTOOD,
    ),
    answered(
        "path-source-route",
        "A source route is understood",
        "RFC 5321 4.1.1.3",
        "RCPT TO:<@smtpcore-check.example:{recipient}>",
        "2yz 4yz 5yz",
        at=Stage.MAIL,
        refused=_NOT_UNDERSTOOD,
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
        "It is refused with 555",
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
        "A space stands before a parameter",
        "RFC 5321 4.1.1.2",
        "MAIL FROM:<{sender}>SIZE=1",
        "5yz",
        severity=_WARNING,
    ),
    answered(
        "param-twice",
        "A parameter is given once",
        "RFC 5321 4.1.1.11",
        "MAIL FROM:<{sender}> SIZE=1 SIZE=2",
        "5yz",
        needs="SIZE",
        severity=_WARNING,
    ),
    answered(
        "param-body-unknown",
        "An unknown BODY is refused",
        "RFC 6152 3",
        "MAIL FROM:<{sender}> BODY=9BIT",
        "5yz",
        needs="8BITMIME",
    ),
    answered(
        "param-body-case",
        "BODY is known in any letter case",
        "RFC 6152 3",
        "MAIL FROM:<{sender}> body=8bitmime",
        "250",
        needs="8BITMIME",
    ),
    # Line ends
    one_reply(
        "line-bare-lf", "A bare LF ends no command", "RFC 5321 2.3.8", [b"NOOP\nNOOP\r\n"], "2yz 5yz", at=Stage.READY
    ),
    one_reply(
        "line-bare-cr", "A bare CR ends no command", "RFC 5321 2.3.8", [b"NOOP\rNOOP\r\n"], "2yz 5yz", at=Stage.READY
    ),
)


@check("param-helo", "Parameters are for who has said EHLO", "RFC 5321 2.2.1", "5yz", severity=_WARNING, lmtp=False)
def _after_helo(probe: Probe) -> None:
    probe.need(probe.at(Stage.READY), "SIZE")
    wire = probe.at(Stage.CONNECTED)
    expect(wire.greet("HELO"), "250")
    expect(wire.ask(f"{probe.mail} SIZE=1"), "5yz")


SYNTAX: tuple[Check, ...] = (
    *_ROWS,
    _vrfy,
    _after_helo,
    _same_as_recipient("path-quoted", "A local part may be quoted", "RFC 5321 4.1.2", "RCPT TO:<{quoted}@{domain}>"),
    _same_as_recipient(
        "path-domain-case", "Domains know no letter case", "RFC 5321 2.4", "RCPT TO:<{local_part}@{upper}>"
    ),
)
