"""Checks of the form of replies."""

import re
from collections.abc import Iterator
from itertools import islice

from ._checks import Check, Probe, Stage, check
from ._findings import Failed, Inconclusive, NotApplicable, Severity
from ._raw_client import RawClient, RawReply, ServerClosed, ServerSilent, printable

_match_domain = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[!-Z^-~]+\])"
).fullmatch
_match_keyword = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?: +[!-~]+)* *").fullmatch
_match_enhanced = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)").match

_MAX_REPLY_LINE = 512


def _sample(probe: Probe) -> Iterator[tuple[str, RawReply]]:
    """Return replies of each kind: to the connection, EHLO, accepted and refused commands, and QUIT.

    Raise `Inconclusive` if the server does not reply to one of them.
    """
    target = probe.target
    try:
        # A server may limit the connections of a client: close the first connection before the second is opened.
        fresh = RawClient(target)
        try:
            yield "", fresh.reply()
            yield target.hello, fresh.greet()
        finally:
            fresh.close()

        client = probe.at(Stage.READY)
        for line in (
            *("NOOP", "RSET", "XSMTPCORECHECK"),
            *(probe.mail, probe.rcpt, probe.mail, "RSET", probe.rcpt, "QUIT"),
        ):
            yield line, client.ask(line)
    except (ServerClosed, ServerSilent) as exc:
        raise Inconclusive(str(exc)) from exc


def _accepted(seen: RawReply, code: int) -> RawReply:
    if seen.code != code:
        raise Inconclusive(f"the server refuses the session: {seen}")

    return seen


@check("reply-line-ends", "Each line of a reply ends in CR LF", "RFC 5321 2.3.8", "CR LF, and no other CR or LF")
def _line_ends(probe: Probe) -> None:
    for _, seen in _sample(probe):
        for line in seen.lines:
            if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                raise Failed(f"this line has another CR or LF than its final CR LF: {printable(line)}")


@check("reply-length", "A line of a reply has at most 512 octets", "RFC 5321 4.5.3.1.5", "at most 512 octets")
def _length(probe: Probe) -> None:
    for _, seen in _sample(probe):
        longest = max(map(len, seen.lines))
        if longest > _MAX_REPLY_LINE:
            raise Failed(f"a line has {longest} octets")


@check(
    "reply-form",
    "All lines of a reply have the same valid code",
    "RFC 5321 4.2",
    "three digits, 2yz to 5yz, on each line",
)
def _form(probe: Probe) -> None:
    for _, seen in _sample(probe):
        codes = {line[:3] for line in seen.lines}
        if len(codes) > 1 or re.fullmatch(rb"[2-5][0-5][0-9]", seen.lines[0][:3]) is None:
            raise Failed(f"this reply is malformed: {seen}")
        if any(line[3:4] not in b" -\r\n" for line in seen.lines):
            raise Failed(f"the code is not followed by a space or a hyphen: {seen}")


@check(
    "reply-names-host",
    "The greeting and the reply to EHLO begin with the server's domain",
    "RFC 5321 4.2",
    "a domain or an address literal as the first word",
    severity=Severity.WARNING,
)
def _names_host(probe: Probe) -> None:
    for line, seen in islice(_sample(probe), 2):
        _accepted(seen, 250 if line else 220)
        word = seen.texts[0].partition(" ")[0]
        if _match_domain(word) is None:
            raise Failed(f"the {'reply to ' + line if line else 'greeting'} begins with {word!r}")


@check(
    "reply-keywords",
    "The reply to EHLO lists well-formed keywords, each once",
    "RFC 5321 4.1.1.1",
    "a keyword of letters, digits and hyphens on each line after the first",
)
def _keywords(probe: Probe) -> None:
    _, seen = next(islice(_sample(probe), 1, None))
    _accepted(seen, 250)
    for text in seen.texts[1:]:
        if _match_keyword(text) is None:
            raise Failed(f"this keyword is malformed: {text!r}")

    keywords = [text.upper().split(" ")[0] for text in seen.texts[1:]]
    if len(set(keywords)) < len(keywords):
        raise Failed(f"a keyword is listed twice: {' '.join(keywords)}")


@check(
    "reply-enhanced",
    "With ENHANCEDSTATUSCODES each reply has an enhanced status code of its class",
    "RFC 2034 4",
    "x.y.z after each 2yz, 4yz and 5yz, except in the greeting and in the reply to EHLO",
)
def _enhanced(probe: Probe) -> None:
    sample = _sample(probe)
    _, hello = next(islice(sample, 1, None))
    _accepted(hello, 250)
    if "ENHANCEDSTATUSCODES" not in map(str.upper, hello.texts):
        raise NotApplicable("ENHANCEDSTATUSCODES is not offered")

    for line, seen in sample:
        for text in seen.texts:
            match = _match_enhanced(text)
            if match is None or match[1] != str(seen.code)[0]:
                raise Failed(f"the reply to {line} was: {seen}")


REPLIES: tuple[Check, ...] = (_line_ends, _length, _form, _names_host, _keywords, _enhanced)
