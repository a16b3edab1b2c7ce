"""The laws that every server has to obey, as a table with one function for each law."""

# A law looks at recordings only. It never predicts a policy: a server may refuse any sender, recipient or message. The
# wording of each law raised no false alarm on the servers of `docs/fuzzing.md`. A law reports the first violation of a
# session, because a server that has lost its place answers everything else wrongly too.

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from .._proxied import CLIENTS
from ..steps import AuthStep, BodyStep, ChunkStep, TlsStep
from ._logins import LoginStep
from ._plans import Experiment, Kind
from ._player import End, Exchange, Recording
from ._sinks import differences


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the laws judge: an experiment, its recordings, and the delivered messages."""

    experiment: Experiment
    """The experiment."""
    recordings: tuple[Recording, ...]
    """A recording for each plan."""
    lmtp: bool = False
    """Whether the protocol is LMTP."""
    deliveries: tuple[list[bytes] | None, ...] = ()
    """The messages delivered during each recording, if the fuzzer can see them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A breach of a law."""

    law: str
    """The name of the law."""
    section: str
    """The section of an RFC."""
    verb: str
    """The verb of the step."""
    text: str
    """The behaviour of the server."""
    recording: int = 0
    """The number of the recording."""
    place: int = 0
    """The number of the exchange in the recording."""
    is_warning: bool = False
    """Whether the behaviour is only inadvisable. Default: false."""

    @property
    def signature(self) -> tuple[str, str, str]:
        """The law, the verb, and the text without numbers: the same for the same defect."""
        return self.law, self.verb, re.sub(r"[0-9]+", "N", self.text)


Judge = Callable[[Evidence], list[Violation]]


@dataclass(frozen=True, slots=True)
class Law:
    """A law."""

    name: str
    """The name."""
    title: str
    """The correct behaviour."""
    section: str
    """The section of the RFC."""
    judge: Judge = field(repr=False)
    """Returns the violations."""


def judge(evidence: Evidence) -> Violation | None:
    """Return the first violation of the evidence, or None."""
    found = [violation for law in LAWS for violation in law.judge(evidence)]
    # A lost count makes later replies look wrong, so at the same place the order of the table decides.
    first = min(found, key=lambda violation: (violation.is_warning, violation.recording, violation.place), default=None)
    pair = _PAIRS.get(evidence.experiment.kind)
    is_only_in_first = not any(violation.recording for violation in found)
    if first is None or pair is None or not is_only_in_first or first.law == pair[0]:
        return first

    law, section, cause = pair
    return replace(first, law=law, section=section, text=f"{cause}: {first.text}")


_PAIRS = {
    Kind.CUTS: ("cuts", "RFC 5321 2.3.8", "cut into segments"),
    Kind.PIPELINING: ("pipelining", "RFC 2920 3.2", "in a group"),
}
"""Experiments whose sessions differ in segments only: the law, its section, and the difference."""


# Laws of one session


def _each(check: Callable[[Recording, Evidence], Violation | None]) -> Judge:
    def judge_each(evidence: Evidence) -> list[Violation]:
        found: list[Violation] = []
        for number, recording in enumerate(evidence.recordings):
            violation = check(recording, evidence)
            if violation:
                found.append(replace(violation, recording=number))
        return found

    return judge_each


def _last(recording: Recording) -> tuple[str, int]:
    """Return the verb and place of the exchange whose reply was read last; the rest of its group may follow it."""
    if recording.awaited is None:
        return "the connection", 0
    return recording.exchanges[recording.awaited].step.verb, recording.awaited


def _form(recording: Recording, evidence: Evidence) -> Violation | None:
    if recording.plan.header is not None:
        return None  # no session has begun

    groups = [(-1, "the connection", [recording.greeting] if recording.greeting else [])]
    groups += [(n, exchange.step.verb, exchange.replies) for n, exchange in enumerate(recording.exchanges)]
    for place, verb, replies in groups:
        for reply in replies:
            if reply.faults:
                return Violation("form", "RFC 5321 4.2", verb, reply.faults[0], place=max(place, 0))
    for place, verb, replies in groups:
        for reply in replies:
            if max(map(len, reply.lines)) > _MAX_REPLY_LINE:
                text = f"a line of a reply has more than {_MAX_REPLY_LINE} octets"
                return Violation("form", "RFC 5321 4.5.3.1.5", verb, text, place=max(place, 0), is_warning=True)

    return None


_MAX_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5, CR LF included


def _count(recording: Recording, evidence: Evidence) -> Violation | None:
    verb, place = _last(recording)
    section = "RFC 2033 4.2" if evidence.lmtp and verb in ("DATA", "BDAT") else "RFC 5321 4.2"
    match recording.end:
        case End.SILENT:
            return Violation("count", section, verb, "no reply within the time limit", place=place)
        case End.FLOOD:
            return Violation("count", section, verb, "endless output", place=place)
        case End.SURPLUS:
            return _surplus(recording, section)
        case End.LEFT_OPEN:
            text = "the connection stays open after QUIT"
            return Violation("count", "RFC 5321 4.1.1.10", verb, text, place=place)
        case _:
            return None


def _surplus(recording: Recording, section: str) -> Violation:
    cause, place = _suspect(recording.exchanges)
    if any(isinstance(exchange.step, TlsStep) and exchange.step.injected for exchange in recording.exchanges):
        text = "a command that was sent in plaintext after STARTTLS was answered"
        return Violation("injection", "RFC 3207 4.2", "STARTTLS", text, place=place)

    return Violation("count", section, cause, "a reply that no command asked for", place=place)


def _suspect(exchanges: Sequence[Exchange]) -> tuple[str, int]:
    """Return the verb and place of the step that most likely has the surplus reply.

    It is the last step with a body, because the lines of a body are answered if the server loses its place. Without
    such a step, it is the last step before QUIT.
    """
    places = [n for n, exchange in enumerate(exchanges) if exchange.step.verb != "QUIT"] or [0]
    bodies = [n for n in places if isinstance(exchanges[n].step, BodyStep | ChunkStep)] if exchanges else []
    place = (bodies or places)[-1]
    return exchanges[place].step.verb if exchanges else "the connection", place


_search_too_many = re.compile(rb"too many", re.IGNORECASE).search


def _silent_end(recording: Recording, evidence: Evidence) -> Violation | None:
    verb, place = _last(recording)
    if recording.end is End.TLS_FAILED:
        step = recording.exchanges[place].step
        if isinstance(step, TlsStep) and step.injected:
            return None  # the server may take injected octets for a part of the handshake
        return Violation("end", "RFC 3207 4", verb, "the TLS handshake failed after 220", place=place)
    if recording.end is not End.DROPPED:
        return None

    previous = recording.replies[-1] if recording.replies else None
    if previous and (previous.code in (221, 421, 521) or (previous is recording.greeting and previous.code >= 500)):
        return None
    if previous and previous.code >= 500 and _search_too_many(previous.text):
        text = "the connection was closed after too many errors, without a 421"
        return Violation("end", "RFC 5321 3.8", verb, text, place=place, is_warning=True)

    return Violation("end", "RFC 5321 3.8", verb, "the connection was closed without 221 or 421", place=place)


def _sequence(recording: Recording, evidence: Evidence) -> Violation | None:
    for place, exchange in enumerate(recording.exchanges):
        if exchange.breach:
            section = next((_SECTIONS[word] for word in _SECTIONS if word in exchange.breach), "RFC 5321 3.3")
            return Violation("sequence", section, exchange.step.verb, exchange.breach, place=place)

    return None


_SECTIONS = {"STARTTLS": "RFC 3207 4.2", "XCLIENT": "XCLIENT_README"}
_INTERMEDIATE = {"DATA": 354, "AUTH": 334}


def _codes(recording: Recording, evidence: Evidence) -> Violation | None:
    for place, exchange in enumerate(recording.exchanges):
        verb = exchange.step.verb
        for number, code in enumerate(exchange.codes):
            is_first = number == 0
            text = ""
            if code // 100 == 3 and code != _INTERMEDIATE.get(verb) and verb not in _INTERMEDIATE:
                text = f"{code} is no reply to this command"
            elif verb == "QUIT" and code // 100 == 2 and code != 221:
                text = f"the reply to QUIT was {code}"
            elif verb == "XCLIENT" and code // 100 == 2 and code != 220:
                text = f"the reply to XCLIENT was {code}"
            elif verb == "DATA" and is_first and code // 100 == 2:
                text = f"the reply to DATA was {code}"
            elif verb == "DATA" and not is_first and code // 100 == 3:
                text = f"the reply to the end of a message was {code}"
            if text:
                return Violation("codes", "RFC 5321 4.3.2", verb or "a command", text, place=place)

    return None


def _alive(recording: Recording, evidence: Evidence) -> Violation | None:
    for place, exchange in enumerate(recording.exchanges):
        if exchange.step.pieces == (b"RSET\r\n",) and exchange.codes and exchange.codes[0] not in (250, 421):
            is_greeted = any(code // 100 == 2 for each in recording.exchanges[:place] for code in _hello_codes(each))
            if is_greeted:
                text = f"the reply to RSET was {exchange.codes[0]}"
                return Violation("alive", "RFC 5321 4.1.1.5", "RSET", text, place=place)

    return None


_WORDS = re.compile(rb"^[A-Za-z]+(?: (?:FROM|TO):)?", re.IGNORECASE)
"""The verb and the keyword of a command."""


def _case(recording: Recording, evidence: Evidence) -> Violation | None:
    accepted: dict[bytes, bytes] = {}
    for place, exchange in enumerate(recording.exchanges):
        line = exchange.sent[0] if exchange.sent else b""
        key = _WORDS.sub(lambda match: match[0].upper(), line)
        if exchange.codes[:1] == [250]:
            accepted.setdefault(key, line)
        elif exchange.codes and exchange.codes[0] in (500, 501, 502) and accepted.get(key, line) != line:
            text = f"a command got {exchange.codes[0]} in lower case, but was accepted in upper case"
            return Violation("case", "RFC 5321 2.4", exchange.step.verb, text, place=place)

    return None


def _hello_codes(exchange: Exchange) -> list[int]:
    return exchange.codes if exchange.step.verb in ("EHLO", "LHLO", "HELO") else []


_match_known = re.compile(
    rb"MAIL FROM:<[a-z]+@[a-z.]+>(( BODY=8BITMIME| SMTPUTF8| SIZE=[0-9]{1,5})+)", re.IGNORECASE
).fullmatch
_KEYWORDS = {b"BODY=8BITMIME": "8BITMIME", b"SMTPUTF8": "SMTPUTF8"}
_NOT_IMPLEMENTED = (500, 502, 504, 555)


def _offers(recording: Recording, evidence: Evidence) -> Violation | None:
    accepted: set[bytes] = set()
    for place, exchange in enumerate(recording.exchanges):
        if not exchange.codes or not exchange.offers:
            continue
        text = _breach_of_offer(exchange, exchange.codes[0], accepted)
        if exchange.codes[0] == 250:
            accepted.add(exchange.sent[0])
        if text:
            return Violation("offers", "RFC 5321 4.1.1.11", exchange.step.verb, text, place=place)

    return None


def _breach_of_offer(exchange: Exchange, code: int, accepted: Collection[bytes]) -> str:
    verb, offers = exchange.step.verb, exchange.offers
    line = exchange.sent[0].partition(b"\r\n")[0] if exchange.sent else b""
    match = _match_known(line)
    needed = {_KEYWORDS.get(word, "SIZE") for word in match[1].upper().split()} if match else set[str]()
    keyword = {"BDAT": "CHUNKING"}.get(verb, verb)
    is_accepted = code // 100 in (2, 3)
    is_sender_fine = line.partition(b" BODY")[0].partition(b" SIZE")[0].partition(b" SMTPUTF8")[0] + b"\r\n" in accepted
    is_refused = code in _NOT_IMPLEMENTED or (code == 501 and is_sender_fine)
    if needed and needed <= offers and is_refused:
        return f"{' and '.join(sorted(needed))} is offered, but the parameter got {code}"
    is_in_sequence = verb not in ("AUTH", "XCLIENT") or (
        exchange.in_transaction is False and not exchange.is_authenticated
    )
    if _is_well_formed(exchange) and is_in_sequence and keyword in offers and code in (500, 502):
        return f"{keyword} is offered, but {verb} got {code}"
    if line == b"MAIL FROM:<a@c.example> X=1" and is_accepted and "X" not in offers:
        return "a parameter that is not offered was accepted"
    if verb in ("AUTH", "XCLIENT") and is_accepted and verb not in offers:
        return f"{verb} was accepted, but is not offered"

    return ""


def _is_well_formed(exchange: Exchange) -> bool:
    """Return whether a command of an extension has no mistake."""
    match exchange.step:
        case ChunkStep() | TlsStep():
            return True
        case LoginStep(mechanism=mechanism):
            return mechanism in exchange.mechanisms
        case step:
            return step in CLIENTS


def _auth(recording: Recording, evidence: Evidence) -> Violation | None:
    """RFC 4954 section 4: 503 after a login and in a transaction, 501 for a cancelled or malformed response."""
    has_logged_in = False
    for place, exchange in enumerate(recording.exchanges):
        verb, codes = exchange.step.verb, exchange.codes
        text, is_warning = _breach_of_auth(exchange) if verb == "AUTH" and codes else ("", False)
        if has_logged_in and verb == "MAIL" and codes == [503]:
            # A security layer, which no mechanism here has, would end the session that EHLO has begun.
            text = "the reply to MAIL after a login was 503"
        if text:
            return Violation("auth", "RFC 4954 4", verb, text, place=place, is_warning=is_warning)
        has_logged_in = verb == "AUTH" and codes[-1:] == [235] and exchange.in_transaction is False

    return None


def _breach_of_auth(exchange: Exchange) -> tuple[str, bool]:
    """Return the breach, and whether it is only inadvisable because the command was refused with another code."""
    step, codes = exchange.step, exchange.codes
    if isinstance(step, LoginStep) and step.is_wrong and codes[-1] == 235:
        return "a wrong password was accepted", False

    where = "after a login" if exchange.is_authenticated else "in a transaction" if exchange.in_transaction else ""
    if where and codes[0] in (235, 334):
        return f"AUTH was accepted {where}", False
    if where and _is_well_formed(exchange) and codes[0] // 100 == 5 and codes[0] != 503:
        return f"the reply to AUTH {where} was {codes[0]}, not 503", True

    for response, code in zip(exchange.sent[1:], codes[1:], strict=False):
        if response == b"*\r\n":
            if code // 100 in (2, 3):
                return f"a cancelled AUTH got {code}", False
            if code // 100 == 5 and code != 501:
                return f"a cancelled AUTH got {code}, not 501", True
        elif isinstance(step, AuthStep) and code // 100 in (2, 3) and not _match_base64(response):
            return f"a response with characters outside of base64 got {code}", True  # RFC 4648 3.3

    return "", False


_match_base64 = re.compile(rb"[A-Za-z0-9+/=]*\r\n").fullmatch


def _proxy(recording: Recording, evidence: Evidence) -> Violation | None:
    if recording.plan.header is None:
        return None

    for place, exchange in enumerate(recording.exchanges):
        if 250 in exchange.codes:
            kind = "malformed" if recording.plan.header else "missing"
            text = f"a session began with a {kind} PROXY header"
            return Violation("proxy", "PROXY 2", exchange.step.verb, text, place=place)

    return None


_search_internals = re.compile(
    rb"Traceback|\b[A-Za-z]+(?:Error|Exception)\b|\.py\b|\bat 0x[0-9a-f]{6}|NullPointer|panic:|node:internal|\.js:[0-9]"
).search


def _internals(recording: Recording, evidence: Evidence) -> Violation | None:
    sent = b"".join(piece for exchange in recording.exchanges for piece in exchange.sent)
    for place, exchange in enumerate(recording.exchanges):
        for reply in exchange.replies:
            match = _search_internals(reply.text)
            if match and match[0] not in sent:
                text = f"a reply shows internals of the program: {match[0].decode('latin-1')}"
                return Violation("internals", "CWE-209", exchange.step.verb, text, place=place, is_warning=True)

    return None


# Laws of two sessions


_SYNTAX_OR_SEQUENCE = (500, 501, 502, 503, 504, 555)
"""Refusals that are not a policy (RFC 5321 4.2.2, 4.1.1.11)."""


def _same_codes(kind: Kind, law: str, section: str, cause: str) -> Judge:
    def compare(evidence: Evidence) -> list[Violation]:
        if evidence.experiment.kind is not kind or len(evidence.recordings) < 2:
            return []

        one, other = evidence.recordings
        ones, others = one.exchanges, other.exchanges
        if kind is Kind.RESET:
            # QUIT follows the last step.
            count = len(evidence.experiment.steps_after_reset()) + 1
            complete = len(one.plan.steps) + 1, len(other.plan.steps) + 1
            if (len(ones), len(others)) != complete:
                return []  # a session ended early, which other laws judge
            ones, others = ones[-count:], others[-count:]

        for place, (left, right) in enumerate(zip(ones, others, strict=False), len(one.exchanges) - len(ones)):
            codes = left.codes + right.codes
            if not left.codes or not right.codes or left.codes == right.codes or 421 in codes:
                continue
            if kind is Kind.RESET and any(code >= 400 and code not in _SYNTAX_OR_SEQUENCE for code in codes):
                return []  # a server may limit what it accepts in a session; later replies are consequences
            text = f"{cause}: {_words(left.codes)} instead of {_words(right.codes)}"
            return [Violation(law, section, left.step.verb, text, place=place)]

        return []

    return compare


def _words(codes: Sequence[int]) -> str:
    return " ".join(map(str, codes))


# Laws of deliveries


def _delivery(evidence: Evidence) -> list[Violation]:
    found: list[Violation] = []
    for number, (recording, delivered) in enumerate(zip(evidence.recordings, evidence.deliveries, strict=False)):
        if delivered is None or recording.end in (End.LOOSE, End.SURPLUS):
            continue
        text = differences(recording.messages, delivered)
        if text:
            _, place = _suspect(recording.exchanges)
            found.append(Violation("delivery", "RFC 5321 4.2.5", "DATA", text, number, place))

    return found


LAWS: tuple[Law, ...] = (
    Law("form", "Each line of a reply has a code, a separator, text and CR LF", "RFC 5321 4.2", _each(_form)),
    Law("count", "Each command gets one reply in time; in LMTP each recipient", "RFC 5321 4.2", _each(_count)),
    Law("end", "The server closes the connection only after 221 or 421", "RFC 5321 3.8", _each(_silent_end)),
    Law("alive", "RSET gets 250 after any line, and a new session is greeted", "RFC 5321 4.1.1.5", _each(_alive)),
    Law("sequence", "Only what follows an accepted command is accepted", "RFC 5321 3.3", _each(_sequence)),
    Law("codes", "The class of a reply suits the command", "RFC 5321 4.3.2", _each(_codes)),
    Law("case", "The case of verbs and keywords has no meaning", "RFC 5321 2.4", _each(_case)),
    Law("offers", "Offered extensions are accepted, others refused", "RFC 5321 4.1.1.11", _each(_offers)),
    Law(
        "cuts",
        "Segments do not change the replies",
        "RFC 5321 2.3.8",
        _same_codes(Kind.CUTS, *_PAIRS[Kind.CUTS]),
    ),
    Law(
        "pipelining",
        "Pipelined groups get the same replies as single commands",
        "RFC 2920 3.2",
        _same_codes(Kind.PIPELINING, *_PAIRS[Kind.PIPELINING]),
    ),
    Law(
        "reset",
        "After RSET a session is like after EHLO",
        "RFC 5321 4.1.1.5",
        _same_codes(Kind.RESET, "reset", "RFC 5321 4.1.1.5", "after RSET"),
    ),
    Law("delivery", "An accepted message is delivered whole, no other is", "RFC 5321 4.2.5", _delivery),
    Law("auth", "AUTH is accepted once, outside of a transaction", "RFC 4954 4", _each(_auth)),
    Law("proxy", "A session begins only after a valid PROXY header", "PROXY 2", _each(_proxy)),
    Law("internals", "No reply shows a traceback or the name of an exception", "CWE-209", _each(_internals)),
)
"""All laws. `injection` is a violation of the law `count`."""
