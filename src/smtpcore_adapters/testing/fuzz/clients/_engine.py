"""Run a client against generated behaviours, judge each run by the laws, and reduce the findings."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from ....check.clients import Client, ClientFailed, ClientListener, ClientNotEnded, Run
from .._laws import Violation
from .._peers import CannotFuzz
from ._behaviour import Behaviour
from ._dialogue import NOT_WAITED, dialogue_of
from ._laws import CLIENT_LAWS, INJECTED_REPLY_USED, ClientEvidence, used_by, violations_of
from ._reduction import BehaviourReduction

_MAX_FINDINGS_OF_LAW = 5
_MAX_FAILURES = 20
"""Maximum runs in a row in which the client does not connect."""
_REPORTED = {True: "success", False: "a failure"}


@dataclass(frozen=True, slots=True)
class ClientFinding:
    """A confirmed violation, with the simplest behaviour of the server that shows it."""

    violation: Violation
    """The violation."""
    behaviour: Behaviour
    """The behaviour of the server."""
    evidence: ClientEvidence
    """The run of the client."""
    runs: int
    """The number of runs of the client that the reduction took."""

    @property
    def title(self) -> str:
        """The law in words."""
        return next(law.title for law in CLIENT_LAWS if law.name == self.violation.law)

    @property
    def lines(self) -> list[str]:
        """The dialogue, and the result that the client reported."""
        return lines_of(self.evidence, self.violation)


def lines_of(evidence: ClientEvidence, violation: Violation | None = None) -> list[str]:
    """Return the lines of a dialogue and of the reported result.

    For a violation, QUIT is left out if it has no use. If more than 12 lines are left and the violation is at the end
    of a session, the accepted commands before a message are in one line, and so is a connection like an earlier one.
    """
    lines = _lines_of(evidence, violation)
    is_at_end = violation is not None and (violation.law in _AT_END or violation.signature[:2] == _ABOUT_A_RECIPIENT)
    return _lines_of(evidence, violation, is_brief=True) if is_at_end and len(lines) > _MAX_LINES else lines


_MAX_LINES = 12
_AT_END = ("order", "dots", "once", "bounds", "quit")
"""Laws for which the accepted commands before a message do not matter."""
_ABOUT_A_RECIPIENT = ("report", "RCPT")
"""Law and verb of violations for which only RCPT and the message matter."""


def _lines_of(evidence: ClientEvidence, violation: Violation | None, *, is_brief: bool = False) -> list[str]:
    law = violation.law if violation else ""
    needs_quit = violation is None or violation.verb == "QUIT" or law in ("bounds", "once")
    needed = {"QUIT", *(answer.key for answer in evidence.behaviour.answers), violation.verb if violation else ""}
    shown = dialogue_of(evidence.visits, with_quit=needs_quit, is_brief=is_brief, needed=needed)
    if violation and violation.text == INJECTED_REPLY_USED:
        shown = _up_to_early_command(shown)
    lines = [*_hidden(evidence.behaviour), *shown]
    if law not in ("", "report", "delivery", "bounds", "once"):
        return lines
    if isinstance(evidence.result, bool):
        lines.append(f"-- the client reported {_REPORTED[evidence.result]}")
    elif evidence.result is not None:
        lines.append(f"-- the client reported success for: {', '.join(evidence.result) or 'no recipient'}")
    return lines


def _up_to_early_command(lines: list[str]) -> list[str]:
    """Leave out what follows the first command for which the client did not wait."""
    number = next((number for number, line in enumerate(lines) if line.endswith(NOT_WAITED)), len(lines))
    return [*lines[: number + 2], "-- and so on"] if number + 2 < len(lines) else lines


def _hidden(behaviour: Behaviour) -> Iterator[str]:
    """Yield a line for each part of a behaviour that the octets of a dialogue do not show."""
    size = behaviour.segment_size
    if size:
        yield f"-- replies are sent in {f'segments of {size}' if size > 1 else 'single'} octets"
    if behaviour.certificate != "valid":
        yield f"-- the certificate of the server has {_CERTIFICATES[behaviour.certificate]}"


_CERTIFICATES = {"unknown authority": "an unknown authority", "wrong name": "a wrong name"}


@dataclass(slots=True)
class ClientReport:
    """The result of a run."""

    findings: list[ClientFinding] = field(default_factory=list[ClientFinding])
    """The findings, in the order in which they were found."""
    unstable: list[Violation] = field(default_factory=list[Violation])
    """The violations that no second run of the same behaviour showed."""
    notes: list[str] = field(default_factory=list[str])
    """Remarks about the client and the run."""
    sessions: int = 0
    """The number of runs of the client."""
    seconds: float = 0.0
    """The duration."""

    @property
    def faults(self) -> list[ClientFinding]:
        """The findings that are more than warnings."""
        return [finding for finding in self.findings if not finding.violation.is_warning]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """The settings of a run."""

    seconds: float = 60.0
    """The duration in seconds. Default: 60."""
    examples: int | None = None
    """Maximum number of behaviours. Default: no limit."""
    seed: int = 0
    """The seed of the generated behaviours. Default: 0."""


class _NoClient(CannotFuzz):
    """No client connected before the end of the run."""


class ClientFuzzer:
    """Tests one client, or the clients that connect: `with ClientListener(setup) as listener: ClientFuzzer(listener)`.

    A `setup` with `pause=0` is faster, because the behaviours have pauses of their own.
    """

    def __init__(
        self,
        listener: ClientListener,
        client: Client | None = None,
        settings: ClientSettings | None = None,
        *,
        progress: Callable[[ClientReport], None] | None = None,
    ) -> None:
        self.report: ClientReport = ClientReport()
        """The result so far."""
        self.settings: ClientSettings = settings or ClientSettings()
        """The settings."""
        self.listener: ClientListener = listener
        """The listener."""
        self._client = client
        self._progress = progress
        self._known: set[tuple[str, str, str]] = set()
        self._uses: frozenset[str] | None = None
        self._started = time.monotonic()
        self._failures = 0
        self._error = ""

    def run(self, saved: Iterable[Behaviour] = ()) -> ClientReport:
        """Run the client with the saved and then generated behaviours until the time is over.

        Raises:
            CannotFuzz: the client does not connect.
            ClientFailed: the client cannot be started.
        """
        self._started = time.monotonic()
        behaviours = self._behaviours(saved)
        number = 0
        try:
            self.probe()
            while number != self.settings.examples and self._may_continue():
                self.try_behaviour(next(behaviours))
                number += 1
                if self._progress:
                    self._progress(self.report)
        except _NoClient:
            if not self.report.sessions:
                raise

        self.report.seconds = time.monotonic() - self._started
        return self.report

    def _behaviours(self, saved: Iterable[Behaviour]) -> Iterator[Behaviour]:
        from .._hypothesis import drawn
        from ._generation import behaviours, openings

        tls = self.listener.setup.tls
        yield from saved
        yield from openings(tls)
        yield from drawn(behaviours(tls), self.settings.seed)

    def _may_continue(self) -> bool:
        is_stuck = self._failures >= _MAX_FAILURES
        if is_stuck:
            self.report.notes.append(f"stopped: the client did not connect in {_MAX_FAILURES} runs in a row")
        return not is_stuck and self._left() > 0

    def _left(self) -> float:
        return self._started + self.settings.seconds - time.monotonic()

    def probe(self) -> None:
        """See how the client delivers its message to a server with the common extensions. Raise `CannotFuzz`."""
        from ._generation import STANDARD

        evidence = self.gather(STANDARD)
        if evidence is None:
            raise CannotFuzz("the client did not connect")
        if evidence.delivered:
            self._uses = used_by(evidence.visits)
        else:
            ended = evidence.visits[-1].ended
            self.report.notes.append(f"the client did not deliver its message to an ordinary server: {ended}")

    def gather(self, behaviour: Behaviour) -> ClientEvidence | None:
        """Start the client, and return None if it does not connect; or wait for a client, and raise `CannotFuzz`."""
        setup, script = self.listener.setup, behaviour.script()
        self.report.sessions += 1
        if self._client is None:
            visit = self.listener.wait_for(script, max(self._left(), 0))
            if visit is None:
                self.report.sessions -= 1
                raise _NoClient("no client connected")
            return ClientEvidence(behaviour, [visit], setup.tls, setup.lmtp, uses=self._uses)

        self._error = ""
        attempt = self.listener.attempt(self._run_client, script)
        self._failures = 0 if attempt.visits else self._failures + 1
        if not attempt.visits:
            return None

        return ClientEvidence(
            behaviour, attempt.visits, setup.tls, setup.lmtp, attempt.has_ended, attempt.result, self._error, self._uses
        )

    def _run_client(self, run: Run) -> bool | Collection[str] | None:
        assert self._client, "clients that connect by themselves are not started"
        try:
            return self._client(run)
        except (ClientFailed, ClientNotEnded):
            raise
        except Exception as exc:
            self._error = type(exc).__name__
            return False

    def try_behaviour(self, behaviour: Behaviour) -> ClientFinding | None:
        """Run the client once; confirm, reduce and record its first violation. Return the new finding, or None."""
        for violation in violations_of(self.gather(behaviour)):
            if violation.signature in self._known:
                continue

            again = self.gather(behaviour)
            confirmed = _found(violation, again)
            self.report.unstable = [each for each in self.report.unstable if each.signature != violation.signature]
            if again is None or confirmed is None:
                self.report.unstable.append(violation)  # a later behaviour may confirm it
                continue

            self._known.add(violation.signature)
            if sum(finding.violation.law == violation.law for finding in self.report.findings) >= _MAX_FINDINGS_OF_LAW:
                return None

            finding = self._reduced(behaviour, again, confirmed)
            self.report.findings.append(finding)
            return finding

        return None

    def _reduced(self, behaviour: Behaviour, evidence: ClientEvidence, violation: Violation) -> ClientFinding:
        gathered = {behaviour: evidence}

        def length_of(candidate: Behaviour) -> int | None:
            found = self.gather(candidate)
            shown = _found(violation, found)
            if found is None or shown is None:
                return None

            gathered[candidate] = found
            return len(_lines_of(found, shown))

        reduction = BehaviourReduction(behaviour, len(_lines_of(evidence, violation)), length_of)
        best = gathered[reduction.run()]
        shown = _found(violation, best)
        assert shown, "each accepted candidate shows the violation"
        return ClientFinding(shown, reduction.behaviour, best, reduction.runs)


def _found(violation: Violation, evidence: ClientEvidence | None) -> Violation | None:
    """Return the violation of `evidence` with the same signature."""
    return next((each for each in violations_of(evidence) if each.signature == violation.signature), None)
