"""The laws that every client has to obey, as a table with one function for each law."""

# A law looks at the visits of one run of a client only. It never requires that a client uses an extension, or that it
# tries again. Many judgements are those of `check --listen`; the others need the generated replies.

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ....check import Severity
from ....check._findings import Failed, Inconclusive, NotApplicable
from ....check.clients import Case, Line, Sent, Tls, Visit
from ....check.clients._client_checks import Judged
from ....check.clients._connections import (
    COMMANDS,
    expect_bound,
    expect_command_length,
    expect_hello_first,
    expect_hello_name,
    expect_line_ends,
    expect_nothing_after_quit,
    expect_paths,
)
from ....check.clients._listener import MAX_VISITS
from ....check.clients._security import (
    expect_new_hello,
    expect_nothing_in_plaintext,
    expect_nothing_with_certificate,
)
from ....check.clients._transactions import AFTER_DATA, expect_crlf, expect_doubled_dots, expect_short_lines
from ....check.clients._visit import code_of
from .._laws import Violation
from ._behaviour import MECHANISMS, Behaviour, code_of_reply
from ._turns import Transaction, Turn, transactions_of, turns_of

_GROUPED = ("MAIL", "RCPT", "RSET", "END", "BDAT")
"""Commands that may have others after them in a pipelined group (RFC 2920 3.1, RFC 3030 section 2)."""
_SECRETS = ("PLAIN", "LOGIN")
_CLOSING = 421

_PARAMETERS = {
    "BODY": ("8BITMIME", "BINARYMIME"),
    "RET": ("DSN",),
    "ENVID": ("DSN",),
    "NOTIFY": ("DSN",),
    "ORCPT": ("DSN",),
    "BY": ("DELIVERBY",),
    "HOLDFOR": ("FUTURERELEASE",),
    "HOLDUNTIL": ("FUTURERELEASE",),
    "SOLICIT": ("NO-SOLICITING",),
}
"""Extensions that define a parameter, if the parameter has another name than the extension."""


@dataclass(frozen=True)
class ClientEvidence:
    """Everything that the laws judge: the behaviour of the server, and one run of a client."""

    behaviour: Behaviour
    """The behaviour of the server."""
    visits: Sequence[Visit]
    """The connections of the client, at least one."""
    tls: Tls = "none"
    """The TLS that the client is set up to require. Default: none."""
    lmtp: bool = False
    """Whether the protocol is LMTP. Default: SMTP."""
    has_ended: bool = True
    """Whether the client ended in time."""
    result: bool | Collection[str] | None = None
    """The result that the client reported: whether the message was sent, or the recipients for whom it was sent."""
    error: str = ""
    """The name of the exception that the client raised; empty (the default) without an exception."""
    uses: frozenset[str] | None = None
    """The verbs and parameters that the client used when it delivered its message; None if it never delivered."""

    @cached_property
    def sessions(self) -> list[list[Turn]]:
        """The turns of each visit."""
        return [turns_of(visit) for visit in self.visits]

    @cached_property
    def transactions(self) -> list[Transaction]:
        """The transactions of all visits."""
        return [transaction for turns in self.sessions for transaction in transactions_of(turns)]

    @property
    def delivered(self) -> list[str]:
        """The recipients for whom the server accepted the message, in order."""
        return [path for each in self.transactions for path in each.delivered(lmtp=self.lmtp)]

    @property
    def turns(self) -> Iterator[Turn]:
        """The turns of all visits in which the server has not yet sent a malformed reply."""
        return (turn for turns in self.sessions for turn in turns if not turn.is_lost)

    @property
    def malformed(self) -> list[bytes]:
        """The octets of the server that are not one well-formed reply; plaintext before TLS is left out."""
        sent = [entry for visit in self.visits for entry in visit.log if isinstance(entry, Sent)]
        return [each.octets for each in sent if not code_of_reply(each.octets) and each.key != "STARTTLS"]

    @property
    def has_surplus(self) -> bool:
        """Whether the server sent more than one reply at once, so that later replies are early."""
        return any(map(code_of, self.malformed))

    def case(self) -> Case:
        """Return the visits without malformed replies, as the functions of the checks need them."""
        visits = [visit for visit, turns in zip(self.visits, self.sessions, strict=True) if not turns[-1].is_lost]
        return Case(visits=visits, tls=self.tls, reported=None, has_delivered=True)


Judge = Callable[[ClientEvidence], Iterator[Violation]]


@dataclass(frozen=True, slots=True)
class ClientLaw:
    """A law."""

    name: str
    """The name."""
    title: str
    """The correct behaviour."""
    section: str
    """The section of the RFC."""
    judge: Judge = field(repr=False)
    """Yields the violations; an empty section stands for the section of the law."""
    is_last: bool = False
    """Whether a violation makes the rest of a session meaningless, so that later laws are not judged. Default: no."""


def violations_of(evidence: ClientEvidence | None) -> list[Violation]:
    """Return the violations in the order of the laws, faults before warnings; none without evidence."""
    found: list[Violation] = []
    if evidence is None:
        return found
    for law in CLIENT_LAWS:
        broken = [replace(each, law=law.name, section=each.section or law.section) for each in law.judge(evidence)]
        found += broken
        if broken and law.is_last:
            break

    return sorted(found, key=lambda violation: violation.is_warning)


def _broken(verb: str, text: str, section: str = "", *, is_warning: bool = False) -> Violation:
    return Violation("", section, verb, text, is_warning=is_warning)


def _by_checks(*checks: tuple[str, str, Callable[[Case], None]]) -> Judge:
    """Return a judge that calls functions of `check --listen`; each has a section of an RFC and a verb."""

    def judge(evidence: ClientEvidence) -> Iterator[Violation]:
        case = evidence.case()
        if not case.visits:
            return
        for section, verb, check in checks:
            try:
                check(case)
            except Failed as exc:
                is_warning = isinstance(exc, Judged) and exc.severity is Severity.WARNING
                yield _broken(verb, str(exc), section, is_warning=is_warning)
            except (Inconclusive, NotApplicable):
                pass

    return judge


# The end of a client

_SESSION = "the session"
"""In place of a verb, if no command is at fault."""


def _bounds(evidence: ClientEvidence) -> Iterator[Violation]:
    if not evidence.has_ended:
        yield _broken(_SESSION, "the client did not end after its last connection was closed")
    if evidence.error:
        yield _broken(_SESSION, f"the client raised {evidence.error}")
    if len(evidence.visits) == MAX_VISITS:
        yield _broken(_SESSION, f"the client connected {MAX_VISITS} times")
    for visit in evidence.visits:
        if visit.ended.startswith(("the client sent more than", "the connection lasted")):
            yield _broken(_SESSION, visit.ended)
    for violation in _by_checks(("", _SESSION, expect_bound))(evidence):
        yield replace(violation, is_warning=True)


# TLS and AUTH


def _tls(evidence: ClientEvidence) -> Iterator[Violation]:
    checks: list[tuple[str, str, Callable[[Case], None]]] = []
    if evidence.tls == "starttls":
        checks.append(("RFC 3207 6", "STARTTLS", expect_nothing_in_plaintext))
    if evidence.tls != "none" and evidence.behaviour.certificate != "valid":
        checks.append(("RFC 8314 5.3", "STARTTLS", expect_nothing_with_certificate))
    yield from _by_checks(*checks)(evidence)
    for turns in evidence.sessions:
        yield from _injected(turns)
    for violation in _by_checks(("", "STARTTLS", expect_new_hello))(evidence):
        yield replace(violation, is_warning=True)


INJECTED_REPLY_USED = "a reply that arrived before TLS was used under TLS"
"""A violation that the command after EHLO shows, because the client does not wait for the reply to EHLO."""


def _injected(turns: Sequence[Turn]) -> Iterator[Violation]:
    is_injected = any(
        turn.verb == "STARTTLS" and turn.replies and turn.code and not code_of_reply(turn.replies[0].octets)
        for turn in turns
    )
    hello = next((turn for turn in turns if turn.verb == "EHLO" and turn.replies and turn.replies[0].is_secure), None)
    if is_injected and hello and hello.replies[0].has_early_input:
        yield _broken("STARTTLS", INJECTED_REPLY_USED)


def _auth(evidence: ClientEvidence) -> Iterator[Violation]:
    for turn in evidence.turns:
        if turn.verb != "AUTH":
            continue
        mechanism = [*turn.text.upper().split(), ""][1]
        if "AUTH" not in turn.offers:
            yield _broken("AUTH", "AUTH is not offered")
        elif mechanism not in turn.offers["AUTH"].upper().split():
            yield _broken("AUTH", f"the mechanism {mechanism} is not offered")
        if mechanism in _SECRETS and "STARTTLS" in turn.offers:
            # A client that is not set up for TLS may be set up to send its password in plaintext.
            yield _broken("AUTH", f"AUTH {mechanism} without TLS", "RFC 8314 3", is_warning=evidence.tls == "none")


# Extensions


def _offers(evidence: ClientEvidence) -> Iterator[Violation]:
    for turn in evidence.turns:
        if turn.verb in ("MAIL", "RCPT"):
            yield from _parameters(turn)
        elif turn.verb == "BDAT" and "CHUNKING" not in turn.offers:
            yield _broken("BDAT", "BDAT without an offer of CHUNKING", "RFC 3030 2")
    for each in evidence.transactions:
        if each.end and not each.end.is_lost:
            yield from _body_offers(each.end, each.mail.offers)


def _parameters(turn: Turn) -> Iterator[Violation]:
    if "SMTPUTF8" not in turn.offers and turn.sent and not turn.sent.octets.isascii():
        yield _broken(turn.verb, "an address beyond ASCII without an offer of SMTPUTF8", "RFC 6531 3.2")
    for name in _names_in(turn.text):
        if not any(keyword in turn.offers for keyword in _PARAMETERS.get(name, (name,))):
            yield _broken(turn.verb, f"the parameter {name} of an extension that is not offered")


def _body_offers(turn: Turn, offers: Collection[str]) -> Iterator[Violation]:
    octets = turn.sent.octets if turn.sent else b""
    header, _, _ = octets.partition(b"\r\n\r\n")
    if not header.isascii() and "SMTPUTF8" not in offers:
        yield _broken("END", "a header beyond ASCII without an offer of SMTPUTF8", "RFC 6531 3.2")
    elif not octets.isascii() and not {"8BITMIME", "BINARYMIME"} & set(offers):
        yield _broken("END", "a message beyond ASCII without an offer of 8BITMIME", "RFC 6152 3")


def _size(evidence: ClientEvidence) -> Iterator[Violation]:
    for each in evidence.transactions:
        size = each.mail.offers.get("SIZE", "")
        octets = each.end.sent.octets if each.end and each.end.sent and not each.end.is_lost else b""
        if size.isdecimal() and 0 < int(size) < len(octets):
            yield _broken("END", "a message larger than the offered SIZE", is_warning=True)


# Pipelining


def _pipelining(evidence: ClientEvidence) -> Iterator[Violation]:
    for turns in evidence.sessions:
        for turn, following in zip(turns, [*turns[1:], None], strict=True):
            may_follow = turn.verb in _GROUPED and "PIPELINING" in turn.offers
            # Lines that are no commands are the rest of a body that ended too early.
            is_command = following is None or following.verb in (*COMMANDS, "BDAT", "END")
            if not turn.has_early_input or turn.is_lost or may_follow:
                continue
            if is_command and turn.verb in (*_ANSWERED, *_GROUPED):
                is_greeting = turn.verb == "GREETING"
                section = "RFC 5321 4.3.1" if is_greeting else ""
                yield _broken(turn.verb, _TOO_EARLY.get(turn.verb, _BEFORE_REPLY), section, is_warning=is_greeting)


_ANSWERED = ("GREETING", "EHLO", "HELO", "STARTTLS", "AUTH", "DATA", "NOOP", "VRFY")
_BEFORE_REPLY = "the next octets were sent before the reply"
_TOO_EARLY = {
    "GREETING": "octets were sent before the greeting",
    "DATA": "the message was sent before the reply to DATA",
}


# Refusals


def _refusals(evidence: ClientEvidence) -> Iterator[Violation]:
    for visit, turns in zip(evidence.visits, evidence.sessions, strict=True):
        yield from _after_greeting(visit, turns)
        yield from _after_hello(turns)
        yield from _after_closing(visit, turns)
        for transaction in transactions_of(turns):
            yield from _after_refused_mail(turns, transaction)


def _after_greeting(visit: Visit, turns: Sequence[Turn]) -> Iterator[Violation]:
    if not turns[0].is_refused:
        return

    verbs = [turn.verb for turn in turns[1:]] + [word.decode("latin-1").upper() for word in visit.rest.split()[:1]]
    others = [verb for verb in verbs if verb != "QUIT"]
    if others:
        is_warning = turns[0].code != _CLOSING
        yield _broken(others[0], f"{others[0]} after a refusal in place of the greeting", is_warning=is_warning)


def _after_hello(turns: Sequence[Turn]) -> Iterator[Violation]:
    hellos = [turn for turn in turns if turn.verb in ("EHLO", "HELO")]
    if hellos and all(hello.is_refused for hello in hellos) and any(turn.verb == "MAIL" for turn in turns):
        yield _broken("MAIL", "MAIL after a refusal of EHLO and HELO", "RFC 5321 4.1.1.1")


def _after_closing(visit: Visit, turns: Sequence[Turn]) -> Iterator[Violation]:
    for turn in turns[1:]:
        # A group of commands may have been on its way when the 421 was sent.
        may_have_sent = turn.verb in _GROUPED and "PIPELINING" in turn.offers
        if turn.is_refused and turn.code == _CLOSING and not may_have_sent:
            verbs = [each.verb for each in turns[turn.number + 1 :]]
            verbs += [word.decode("latin-1").upper() for word in visit.rest.split()[:1]]
            others = [verb for verb in verbs if verb in ("MAIL", "RCPT", "DATA", "BDAT")]
            if others and not turn.replies[0].has_early_input:
                yield _broken(others[0], f"{others[0]} after a 421", "RFC 5321 3.8", is_warning=True)


def _after_refused_mail(turns: Sequence[Turn], transaction: Transaction) -> Iterator[Violation]:
    mail = transaction.mail
    following = turns[mail.number + 1 : mail.number + 2]
    if mail.is_refused and "PIPELINING" not in mail.offers and following and following[0].verb in ("RCPT", "DATA"):
        yield _broken(following[0].verb, f"{following[0].verb} after a refusal of MAIL")


# The message


def _body(evidence: ClientEvidence) -> Iterator[Violation]:
    for visit, turns in zip(evidence.visits, evidence.sessions, strict=True):
        yield from _unasked_body(visit, turns)
        for transaction in transactions_of(turns):
            rcpts, end = transaction.rcpts, transaction.end
            has_octets = bool(end and end.sent and end.sent.octets)
            if has_octets and rcpts and all(rcpt.is_refused for rcpt in rcpts):
                text = "a message was sent although all recipients were refused"
                yield _broken("END", text, "RFC 2920 3.1", is_warning=True)


def _unasked_body(visit: Visit, turns: Sequence[Turn]) -> Iterator[Violation]:
    for turn in turns:
        if turn.verb != "DATA" or turn.is_lost or not turn.replies or turn.code == _SEND_BODY:
            continue
        following = turns[turn.number + 1 : turn.number + 2]
        words = [following[0].verb] if following else [word.decode("latin-1") for word in visit.rest.split()[:1]]
        if words and words[0].upper() not in (*AFTER_DATA, *COMMANDS):
            yield _broken("DATA", "the message was sent without a 354")


_SEND_BODY = 354


# The fallback to HELO


def _fallback(evidence: ClientEvidence) -> Iterator[Violation]:
    # A client that needs an extension, TLS or AUTH has no use for HELO.
    if evidence.lmtp or evidence.tls == "starttls" or evidence.uses is None or evidence.uses - _OPTIONAL:
        return
    if any(turn.verb == "HELO" for turns in evidence.sessions for turn in turns):
        return
    for visit, turns in zip(evidence.visits, evidence.sessions, strict=True):
        is_unknown = any(turn.verb == "EHLO" and turn.is_refused and turn.code in _UNKNOWN for turn in turns)
        if is_unknown and visit.ended != _CLOSED:
            yield _broken("EHLO", "no HELO follows a reply that EHLO is not known", is_warning=True)


_OPTIONAL = {"SIZE", "BDAT"}
_UNKNOWN = (500, 502)  # RFC 5321 4.2.2: unrecognized, not implemented
_CLOSED = "the server closed the connection"


# Results


def _report(evidence: ClientEvidence) -> Iterator[Violation]:
    delivered, result = evidence.delivered, evidence.result
    if result is None:
        return
    # No RFC requires a client to notice an early reply.
    cause = ": an early reply was taken for the reply to the message" if evidence.has_surplus else ""
    if result and not delivered:
        text = "the client reported success, but no message was accepted"
        yield _broken("END", f"{text}{cause}", is_warning=evidence.has_surplus)
    elif not isinstance(result, bool) and set(result) - set(delivered):
        text = "the client reported success for a recipient for whom no message was accepted"
        yield _broken("RCPT", f"{text}{cause}", is_warning=evidence.has_surplus)
    elif not isinstance(result, bool) and set(delivered) - set(result) and not evidence.malformed:
        yield _broken("RCPT", "the client reported a failure for a recipient for whom the message was accepted")
    elif result is True and not evidence.malformed and _refused(evidence):
        # A single result cannot say more, and no RFC defines it: swaks reports success if any recipient is accepted.
        yield _broken("RCPT", "the client reported success, but a recipient was refused", is_warning=True)
    elif not result and delivered and not evidence.malformed and not _has_refused_recipients(evidence):
        text = "the client reported a failure, but its message was accepted"
        yield _broken("END", text, is_warning=True)


def _has_refused_recipients(evidence: ClientEvidence) -> bool:
    wanted = {rcpt.path for each in evidence.transactions for rcpt in each.rcpts}
    return wanted != set(evidence.delivered)


def _refused(evidence: ClientEvidence) -> set[str]:
    """Return the recipients for whom the server accepted no message, and refused RCPT or, in LMTP, the message."""
    return {
        rcpt.path
        for each in evidence.transactions
        for rcpt in each.rcpts
        if rcpt.is_refused or (each.end and each.end.replies and rcpt.is_accepted)
    } - set(evidence.delivered)


def _once(evidence: ClientEvidence) -> Iterator[Violation]:
    seen: set[str] = set()
    for each in evidence.transactions:
        delivered = set() if each.mail.is_lost else set(each.delivered(lmtp=evidence.lmtp))
        if delivered & seen:
            yield _broken("END", "the message was sent again to a recipient after it was accepted")
        seen |= delivered


def _delivery(evidence: ClientEvidence) -> Iterator[Violation]:
    if (
        evidence.uses is None
        or evidence.delivered
        or not _must_deliver(evidence.behaviour, evidence.uses, evidence.tls)
    ):
        return

    last = [turn for turn in evidence.sessions[-1] if turn.verb != "QUIT"][-1]
    replies = [entry.octets for visit in evidence.visits for entry in visit.log if isinstance(entry, Sent)]
    is_warning = any(not line[3:].strip() for octets in replies for line in octets.split(b"\r\n")[:-1])
    text = "the client did not deliver its message to a server that accepts it"
    yield _broken(last.verb, f"{text} with a code without text" if is_warning else text, is_warning=is_warning)


def _must_deliver(behaviour: Behaviour, uses: frozenset[str], tls: Tls) -> bool:
    """Return whether a client that uses these verbs and parameters has no reason to keep its message."""
    is_offered = {_KEYWORD_OF.get(word, word) for word in uses} <= (behaviour.keywords | {"STARTTLS"})
    has_mechanism = "AUTH" not in uses or set(MECHANISMS) <= set(behaviour.mechanisms)
    # A client that starts TLS by itself may refuse the certificate.
    is_secure = behaviour.certificate == "valid" and behaviour.starttls != ("always" if tls == "none" else "never")
    sizes = [int(line[5:]) for line in behaviour.offers if line.upper().startswith("SIZE ") and line[5:].isdecimal()]
    is_large = all(size == 0 or size >= _LARGE for size in sizes)
    is_harmless = all(answer.is_harmless for answer in behaviour.answers)
    return is_offered and has_mechanism and is_secure and is_large and is_harmless


_KEYWORD_OF = {"BODY": "8BITMIME", "BDAT": "CHUNKING", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
_LARGE = 1_000_000
"""Octets of a SIZE that each message of a test satisfies."""


def _quit(evidence: ClientEvidence) -> Iterator[Violation]:
    if evidence.malformed or evidence.result is False:
        return
    for visit, turns in zip(evidence.visits, evidence.sessions, strict=True):
        has_quit = any(turn.verb == "QUIT" for turn in turns) or visit.rest[:4].upper() == b"QUIT"
        # After a 421 the server is about to close the connection.
        is_closing = any(reply.octets.startswith(b"421") for turn in turns for reply in turn.replies)
        if visit.accepted and not has_quit and not is_closing and visit.ended == _LEFT:
            yield _broken("QUIT", "the client closed the connection without QUIT")


_LEFT = "the client closed the connection"


def used_by(visits: Sequence[Visit]) -> frozenset[str]:
    """Return the verbs of extensions and the parameters of MAIL and RCPT that a client used."""
    lines = [line for visit in visits for line in visit.lines]
    verbs = {line.verb for line in lines if line.verb in ("STARTTLS", "AUTH", "BDAT")}
    return frozenset(verbs | {name for line in lines for name in _parameter_names(line)})


def _parameter_names(line: Line) -> list[str]:
    if line.verb not in ("MAIL", "RCPT"):
        return []

    return _names_in(line.text)


def _names_in(text: str) -> list[str]:
    """Return the names of the parameters in a line of MAIL or RCPT; none if the path has no brackets."""
    _, bracket, parameters = text.rpartition(">")
    return [parameter.partition("=")[0].upper() for parameter in parameters.split()] if bracket else []


CLIENT_LAWS: tuple[ClientLaw, ...] = (
    ClientLaw("tls", "Plaintext is neither used nor continued if TLS is required or has begun", "RFC 3207 4.2", _tls),
    ClientLaw("auth", "Only offered mechanisms are used, and passwords are sent under TLS", "RFC 4954 4", _auth),
    ClientLaw(
        "form",
        "Commands and messages have the syntax of SMTP",
        "RFC 5321 2.3.8",
        _by_checks(
            ("RFC 5321 2.3.8", "", expect_line_ends),
            ("RFC 5321 4.1.1.1", "EHLO", expect_hello_name),
            ("RFC 5321 3.3", "MAIL", expect_paths),
            ("RFC 5321 4.5.3.1.4", "", expect_command_length),
            ("RFC 5321 2.3.8", "END", expect_crlf),
            ("RFC 5321 4.5.3.1.6", "END", expect_short_lines),
        ),
    ),
    ClientLaw(
        "order",
        "EHLO is first, and QUIT is last",
        "RFC 5321 4.1.4",
        _by_checks(("", "EHLO", expect_hello_first), ("RFC 5321 4.1.1.10", "QUIT", expect_nothing_after_quit)),
    ),
    ClientLaw(
        "dots",
        "Dots at the start of lines are doubled",
        "RFC 5321 4.5.2",
        _by_checks(("", "END", expect_doubled_dots)),
        is_last=True,
    ),
    ClientLaw("offers", "Only extensions of the last reply to EHLO are used", "RFC 5321 4.1.1.11", _offers),
    ClientLaw(
        "pipelining",
        "Commands wait for replies, except in groups of PIPELINING",
        "RFC 2920 3.1",
        _pipelining,
        is_last=True,
    ),
    ClientLaw("refusals", "Commands do not follow a refusal of what they need", "RFC 5321 3.3", _refusals),
    ClientLaw(
        "body", "A message is sent only after a 354, and an accepted recipient", "RFC 5321 4.1.1.4", _body, is_last=True
    ),
    ClientLaw("report", "The client reports what the server accepted", "RFC 5321 4.2.1", _report),
    ClientLaw("once", "An accepted message is not sent again", "RFC 5321 4.1.1.4", _once),
    ClientLaw("bounds", "The client ends with a result, and reads no endless reply", "RFC 5321 4.5.3.2", _bounds),
    ClientLaw("delivery", "Well-formed positive replies of any shape deliver the message", "RFC 5321 4.2", _delivery),
    ClientLaw("quit", "A session ends with QUIT", "RFC 5321 4.1.1.10", _quit),
    ClientLaw("fallback", "HELO follows if the server does not know EHLO", "RFC 5321 3.2", _fallback),
    ClientLaw("size", "A message is not larger than the offered SIZE", "RFC 1870 4", _size),
)
"""All laws of clients, causes before their consequences."""
