"""Run experiments against a server, judge them by the laws, and reduce the findings."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Literal

from ..steps import BodyStep, LineStep, Step
from ._dialogue import dialogues
from ._early import EarlyConnections
from ._laws import LAWS, Evidence, Violation, judge
from ._logins import Credentials, LoginStep, fails
from ._model import SessionModel
from ._peers import CannotFuzz, Connect, ConnectWith
from ._plans import Experiment, Kind, Plan
from ._player import End, Recording, play
from ._reduction import Reduction
from ._reference import Reference
from ._sinks import Sink

if TYPE_CHECKING:
    from ._generation import Generator

_MIN_DEADLINE = 0.2
"""Seconds."""
_FACTOR = 20
"""The ratio of the deadline and the median latency of a reply."""
_AUTH_DEADLINE = 20.0
"""Seconds to wait for a reply to AUTH, because many servers delay the reply to a failed login."""
_AUTH_SHARE = 0.2
"""Part of the time of a run that may be spent on waiting for replies to AUTH."""
_SLOW_GREETING = 0.03
"""Seconds that a greeting takes, from which on connections are opened early."""
_EARLY = 8
"""Number of connections that are opened early."""
_MANY_REFUSALS = 5
"""Refusals in a session from which on silence is not a finding: Postfix, for example, then waits 13 seconds."""
_PROBES = 3
_MAX_FINDINGS_OF_LAW = 5
_MAX_FAILURES = 20
"""Maximum sessions in a row without a reply to the first command."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A confirmed violation, with the smallest experiment that shows it."""

    violation: Violation
    """The violation."""
    experiment: Experiment
    """The experiment."""
    recordings: tuple[Recording, ...]
    """The recordings of the experiment."""
    runs: int
    """The number of experiments that the reduction took."""

    @property
    def title(self) -> str:
        """The law in words."""
        return next((law.title for law in LAWS if law.name == self.violation.law), "Plaintext is dropped before TLS")

    @property
    def lines(self) -> list[str]:
        """The dialogue of one recording, or of two recordings with their differences marked."""
        return dialogues(self.recordings)


@dataclass(slots=True)
class Report:
    """The result of a run."""

    findings: list[Finding] = field(default_factory=list)
    """The findings, in the order in which they were found."""
    unstable: list[Violation] = field(default_factory=list)
    """The violations that a second run did not show."""
    wrong_laws: list[Finding] = field(default_factory=list)
    """The violations that a correct server in memory shows too: errors of this program."""
    notes: list[str] = field(default_factory=list)
    """Remarks about the server and the run."""
    sessions: int = 0
    """The number of sessions."""
    seconds: float = 0.0
    """The duration."""

    @property
    def faults(self) -> list[Finding]:
        """The findings that are more than warnings."""
        return [finding for finding in self.findings if not finding.violation.is_warning]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a run."""

    seconds: float = 60.0
    """The duration in seconds. Default: 60."""
    examples: int | None = None
    """Maximum number of experiments. Default: no limit."""
    seed: int = 0
    """The seed of the generated sessions. Default: 0."""
    sender: str = "a@c.example"
    """The sender of most messages."""
    recipients: tuple[str, ...] = ()
    """The recipients of the messages. Default: Postmaster."""
    hello: str = "c.example"
    """The name in EHLO."""
    lmtp: bool = False
    """Whether the server speaks LMTP. Default: SMTP."""
    login: tuple[Step, ...] = ()
    """The steps before each session, for STARTTLS and AUTH. Default: none."""
    credentials: Credentials | None = None
    """The user and the password for logins within sessions. Default: only logins that fail."""
    proxy: Literal[1, 2] | None = None
    """The version of the PROXY header that begins each connection. Default: no header."""
    max_rate: float | None = None
    """Maximum sessions in a second. Default: no limit."""
    timeout: float = 10.0
    """Maximum seconds to wait for a reply, if the server is slow. Default: 10."""
    delivery_timeout: float = 2.0
    """Maximum seconds to wait for the delivery of a message. Default: 2."""


Progress = Callable[[Report], None]
"""Called after each experiment."""


class Fuzzer:
    """Tests one server."""

    def __init__(
        self,
        connect: Connect,
        settings: Settings,
        *,
        sink: Sink | None = None,
        restart: Callable[[], bool] | None = None,
        progress: Progress | None = None,
        connect_with: ConnectWith | None = None,
    ) -> None:
        self.report: Report = Report()
        """The result so far."""
        self._connect = connect
        self._connect_with = connect_with
        self.settings: Settings = replace(settings, recipients=settings.recipients or ("Postmaster",))
        """The settings."""
        self._sink = sink
        self._restart = restart
        self._progress = progress
        self._deadline = settings.timeout
        self._greeting_deadline = settings.timeout
        self._greeting_seconds = 0.0
        self._early = EarlyConnections(connect, _EARLY)
        self._is_deterministic = True
        self._offers: frozenset[str] = frozenset()
        self._mechanisms: frozenset[str] = frozenset()
        self._known: set[tuple[str, str, str]] = set()
        self._previous: Experiment | None = None
        self._started = time.monotonic()
        self._next_session = 0.0
        self._failures = 0
        self._auth_seconds = 0.0

    # The run

    def run(self, saved: Iterable[Experiment] = ()) -> Report:
        """Run the saved and then generated experiments until the time is over.

        Raises:
            CannotFuzz: as `probe` does, or the server accepts no more connections. `report` has the findings so far,
                the last of them with the sessions after which the server was lost.
        """
        self.probe()
        if self._greeting_seconds > _SLOW_GREETING:
            self._connect = self._early
        experiments = self._experiments(saved)
        number = 0
        try:
            while number != self.settings.examples and self._may_continue():
                self.try_experiment(next(experiments))
                number += 1
                if self._progress:
                    self._progress(self.report)
        finally:
            self._early.close()
            self.report.seconds = time.monotonic() - self._started

        return self.report

    def _experiments(self, saved: Iterable[Experiment]) -> Iterator[Experiment]:
        from ._hypothesis import drawn

        generator = self.generator(self._offers)
        yield from filter(self._can_play, saved)
        drawn_later = drawn(generator.experiments(), self.settings.seed)
        yield from filter(self._is_worth_time, chain(generator.openings(), drawn_later))

    def generator(self, offers: frozenset[str]) -> "Generator":
        """Return the generator of experiments for a server that offers `offers`. `probe` must have been called."""
        from ._generation import Generator  # needs hypothesis

        settings = self.settings
        return Generator(
            offers=offers,
            hello=self.hello,
            sender=settings.sender,
            recipients=settings.recipients,
            lmtp=settings.lmtp,
            mechanisms=self._mechanisms,
            has_credentials=settings.credentials is not None,
            has_proxy=settings.proxy is not None and self._connect_with is not None,
        )

    def _is_worth_time(self, experiment: Experiment) -> bool:
        """Return whether an experiment has no failing logins, or the server replies to these soon enough."""
        if not any(fails(step) for step in experiment.plan.steps):
            return True
        if self._auth_seconds < self.settings.seconds * _AUTH_SHARE:
            return True
        self._note("the server delays the replies to failed logins: further ones are skipped")
        return False

    def _can_play(self, experiment: Experiment) -> bool:
        """Return whether a saved experiment can be played without further options, and note if it cannot."""
        plan = experiment.plan
        lacks_login = self.settings.credentials is None and any(isinstance(step, LoginStep) for step in plan.steps)
        lacks_proxy = self.settings.proxy is None and plan.header is not None
        if lacks_login or lacks_proxy:
            self.report.notes.append(f"a saved session is skipped: it needs {'a login' if lacks_login else 'PROXY'}")
        return not lacks_login and not lacks_proxy

    def _may_continue(self) -> bool:
        is_stuck = self._failures >= _MAX_FAILURES
        if is_stuck:
            self.report.notes.append(f"stopped: {_MAX_FAILURES} sessions in a row ended before the first reply")
        return not is_stuck and time.monotonic() - self._started < self.settings.seconds

    @property
    def hello(self) -> LineStep:
        """The EHLO or LHLO of most sessions."""
        return LineStep(f"{'LHLO' if self.settings.lmtp else 'EHLO'} {self.settings.hello}".encode())

    # The probe

    def probe(self) -> frozenset[str]:
        """Measure the latency, see whether the replies are always the same, and return the offered extensions.

        Raises:
            CannotFuzz: the server cannot be reached, does not speak the protocol, or refuses EHLO.
        """
        settings = self.settings
        rcpt = LineStep(f"RCPT TO:<{settings.recipients[0]}>".encode())
        steps = (
            self.hello,
            LineStep(f"MAIL FROM:<{settings.sender}>".encode()),
            rcpt,
            BodyStep(b"Subject: smtpcore fuzz\r\n\r\nprobe\r\n"),
            LineStep(b"NOOP"),
        )
        try:
            first = self._play(Plan(steps))
            self._check_protocol(first)
            recordings = [first, *(self._play(Plan(steps)) for _ in range(_PROBES - 1))]
        except OSError as exc:
            raise CannotFuzz(f"cannot connect: {exc.strerror or exc}") from exc

        self._greeting_seconds = median(recording.greeting_seconds for recording in recordings)
        self._deadline = self._deadline_for(median(recording.slowest for recording in recordings))
        self._greeting_deadline = self._deadline_for(self._greeting_seconds)
        self._offers, self._mechanisms = _offers_of(first)
        if any(step.verb == "AUTH" for step in settings.login):
            # Many servers offer AUTH only before a login.
            _, self._mechanisms = _offers_of(self._play(Plan((self.hello,), is_logged_in=False)))
        codes = [[exchange.codes for exchange in recording.exchanges] for recording in recordings]
        if any(each != codes[0] for each in codes):
            self._is_deterministic = False
            self.report.notes.append("the replies to the same session differ: laws that compare sessions are skipped")
        if not any(exchange.codes[:1] == [250] for exchange in first.exchanges if exchange.step == rcpt):
            self.report.notes.append(f"the recipient {settings.recipients[0]} is refused: most laws need one")
        return self._offers

    def _deadline_for(self, latency: float) -> float:
        return min(max(_MIN_DEADLINE, _FACTOR * latency), self.settings.timeout)

    def _check_protocol(self, recording: Recording) -> None:
        greeting = recording.greeting
        if recording.failed_login:
            raise CannotFuzz(f"the sessions cannot be prepared: {recording.failed_login}")
        if greeting is None:
            raise CannotFuzz(f"the server sent no greeting ({recording.end.value})")
        if greeting.code != 220:
            line = greeting.lines[0].decode("latin-1").strip()[:80]
            raise CannotFuzz(f"the greeting is not that of an SMTP server: {line!a}")

        codes = recording.exchanges[0].codes if recording.exchanges else []
        if codes != [250]:
            seen = f"the reply was {codes[0]}" if codes else "no reply came"
            raise CannotFuzz(f"{self.hello.verb} is needed: {seen}")

    # One experiment

    def try_experiment(self, experiment: Experiment) -> Finding | None:
        """Play an experiment; confirm, reduce and record its first violation. Return the new finding, or None."""
        if not self._is_deterministic and experiment.kind is not Kind.SINGLE:
            experiment = replace(experiment, kind=Kind.SINGLE)
        try:
            evidence = self.gather(experiment)
            violation = judge(evidence)
            if violation is None or violation.signature in self._known:
                return None
            if _is_silence(violation) and _refusals(evidence.recordings[violation.recording]) >= _MANY_REFUSALS:
                self._note("the server gives no replies or late replies after several refusals: this is not examined")
                return None

            return self._examine(experiment, violation)
        except OSError:
            return self._lose_server(experiment)
        finally:
            self._previous = experiment

    def replay(self, experiment: Experiment) -> tuple[Evidence, Violation | None]:
        """Play a saved experiment after `probe`, and return its recordings and violation, if there is any."""
        evidence = self.gather(experiment, factor=2.0)
        violation = judge(evidence)
        if violation and _is_silence(violation):
            evidence = self.gather(experiment, self._patience(violation))
            violation = judge(evidence)
        return evidence, violation

    def _note(self, text: str) -> None:
        if text not in self.report.notes:
            self.report.notes.append(text)

    def gather(self, experiment: Experiment, factor: float = 1.0) -> Evidence:
        """Play the sessions of an experiment. Raise `OSError` if the server cannot be reached."""
        recordings: list[Recording] = []
        deliveries: list[list[bytes] | None] = []
        for plan in experiment.plans():
            if self._sink:
                self._sink.begin()
            recording = self._play(plan, factor)
            recordings.append(recording)
            wanted = len({content for content, is_plain in recording.messages if is_plain})
            timeout = self.settings.delivery_timeout * min(factor, 2.0)
            deliveries.append(self._sink.take(wanted, timeout) if self._sink else None)

        return Evidence(experiment, tuple(recordings), self.settings.lmtp, tuple(deliveries))

    def gather_patiently(self, experiment: Experiment) -> Evidence:
        """Play the sessions of an experiment, and wait for each reply as long as the settings permit."""
        return self.gather(experiment, max(2.0, self.settings.timeout / self._deadline))

    def _play(self, plan: Plan, factor: float = 1.0) -> Recording:
        self._keep_rate()
        self.report.sessions += 1
        recording = self._play_once(plan, factor)
        if recording.greeting is None and self._connect is self._early and plan.header is None:
            # A connection that was open for some time says nothing about the server, which may have been restarted.
            self._early.close()
            recording = self._play_once(plan, factor)
        self._auth_seconds += recording.auth_seconds
        self._failures = 0 if any(exchange.replies for exchange in recording.exchanges) else self._failures + 1
        return recording

    def _play_once(self, plan: Plan, factor: float) -> Recording:
        settings = self.settings
        most = max(settings.timeout, 1.0)
        try:
            return play(
                plan,
                self._connect if plan.header is None else self._connecting_with(plan.header),
                min(self._deadline * factor, most),
                lmtp=settings.lmtp,
                login=settings.login,
                credentials=settings.credentials,
                auth_deadline=_AUTH_DEADLINE,
                greeting_deadline=min(self._greeting_deadline * factor, most),
            )
        except OSError:
            if plan.header is None:
                raise
            return Recording(plan, end=End.LOOSE)  # after an invalid header, the TLS handshake fails

    def _connecting_with(self, header: bytes) -> Connect:
        if self._connect_with is None:
            raise CannotFuzz("the session begins with a PROXY header, which this connection does not have")

        return partial(self._connect_with, header)

    def _keep_rate(self) -> None:
        if self.settings.max_rate:
            time.sleep(max(self._next_session - time.monotonic(), 0))
            self._next_session = time.monotonic() + 1 / self.settings.max_rate

    # A violation

    def _examine(self, experiment: Experiment, violation: Violation, factor: float = 0.0) -> Finding | None:
        signature = violation.signature
        self._known.add(signature)
        factor = max(factor, self._patience(violation))
        evidence = self.gather(experiment, factor)
        confirmed = judge(evidence)
        if confirmed is None or confirmed.signature != signature:
            self.report.unstable.append(violation)
            # A slow reply in the first run may have hidden another violation.
            is_new = confirmed is not None and confirmed.signature not in self._known
            return self._examine(experiment, confirmed, factor) if confirmed and is_new else None
        if self._is_wrong_law(evidence, confirmed):
            self.report.wrong_laws.append(Finding(confirmed, experiment, evidence.recordings, 0))
            return None
        if self._count(violation.law) >= _MAX_FINDINGS_OF_LAW:
            return None

        finding = self._reduce(experiment, evidence, confirmed)
        self.report.findings.append(finding)
        return finding

    def _patience(self, violation: Violation) -> float:
        """Return the ratio of the time limits of a second run and of the first run."""
        # A slow machine looks like a silent server, and so does a server that delays its replies after some errors.
        least = self.settings.timeout if _is_silence(violation) else 1.0
        return max(2.0, least / self._deadline)

    def _count(self, law: str) -> int:
        return sum(finding.violation.law == law for finding in self.report.findings)

    def _is_wrong_law(self, evidence: Evidence, violation: Violation) -> bool:
        """Return whether a correct server, which accepts the same, breaks the law too."""
        lmtp, credentials = self.settings.lmtp, self.settings.credentials
        if evidence.experiment.plan.header is not None:
            return False  # the server in memory has no PROXY headers

        def connect() -> Reference:
            return Reference(self._offers, evidence.recordings, lmtp=lmtp, credentials=credentials)

        plans = evidence.experiment.plans()
        recordings = tuple(play(plan, connect, 1.0, lmtp=lmtp, credentials=credentials) for plan in plans)
        found = judge(Evidence(evidence.experiment, recordings, lmtp))
        return found is not None and found.law == violation.law

    def _reduce(self, experiment: Experiment, evidence: Evidence, violation: Violation) -> Finding:
        best = evidence, violation

        def shows(candidate: Experiment) -> bool:
            nonlocal best
            gathered = self.gather(candidate, factor=2.0 if _is_silence(violation) else 1.0)
            found = judge(gathered)
            if found is None or found.signature != violation.signature:
                return False

            best = gathered, found
            return True

        reduction = Reduction(experiment, shows)
        try:
            reduction.run()
            if _is_silence(violation) and reduction.experiment != experiment:
                # The steps that were left out may have changed a silent server into a slow one.
                final = self.gather(reduction.experiment, self._patience(violation))
                found = judge(final)
                best = (final, found) if found and found.signature == violation.signature else (evidence, violation)
        except OSError:
            pass  # the server died
        return Finding(best[1], best[0].experiment, best[0].recordings, reduction.runs)

    def _lose_server(self, experiment: Experiment) -> Finding | None:
        """Record that the server accepts no more connections, and start it again. Raise `CannotFuzz` if that fails."""
        text = "the server accepts no more connections"
        finding = self._record_loss(experiment, Violation("alive", "RFC 5321 3.1", "the connection", text))
        if self._restart is None:
            raise CannotFuzz(text)
        if not self._restart():
            raise CannotFuzz(f"{text}, and the start command does not help")
        return finding

    def _record_loss(self, experiment: Experiment, violation: Violation) -> Finding | None:
        if violation.signature in self._known:
            return None

        self._known.add(violation.signature)
        # The server may have died after the previous session, so both sessions are in the finding.
        before = self._previous.plan.steps if self._previous else ()
        joined = replace(experiment, plan=replace(experiment.plan, steps=(*before, *experiment.plan.steps)))
        finding = Finding(violation, joined, (), 0)
        self.report.findings.append(finding)
        return finding


def _is_silence(violation: Violation) -> bool:
    """Return whether the violation may be a delay: no reply, or no end of the connection."""
    return "no reply" in violation.text or "stays open" in violation.text


def _refusals(recording: Recording) -> int:
    return sum(reply.code >= 400 for reply in recording.replies)


def _offers_of(recording: Recording) -> tuple[frozenset[str], frozenset[str]]:
    """Return the extensions and the mechanisms of AUTH in the first reply of a session."""
    model = SessionModel()
    model.take_offers(recording.exchanges[0].replies[0].lines[1:] if recording.exchanges[0].replies else ())
    return model.offers, model.mechanisms


def group_by_law(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each law, in the order of the laws."""
    names = list(dict.fromkeys([*(law.name for law in LAWS), *(finding.violation.law for finding in findings)]))
    groups = {name: [each for each in findings if each.violation.law == name] for name in names}
    return {name: group for name, group in groups.items() if group}
