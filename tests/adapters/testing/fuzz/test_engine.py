"""The fuzzer probes the server, confirms and reduces violations, and never waits for a server that is gone."""

import time
from collections.abc import Callable

import pytest

from smtpcore_adapters.testing.fuzz import (
    CannotFuzz,
    Experiment,
    Fuzzer,
    Law,
    Peer,
    Plan,
    Report,
    Settings,
    Violation,
    group_by_law,
)
from smtpcore_adapters.testing.fuzz import _engine as engine
from smtpcore_adapters.testing.fuzz import _laws as laws
from smtpcore_adapters.testing.steps import AuthStep, LineStep, Step

from .runs import RECIPIENTS, find, fuzzer_for, run
from .servers import Inbox, LfDotLf, QuitGets250, RsetForgetsHello, SilentOnEmptyLine, SmallServer


class Greets(SmallServer):
    text = b""

    def __init__(self) -> None:
        super().__init__()
        self.output[:] = self.text
        self.is_over = not self.text


def greeting(text: bytes) -> type[SmallServer]:
    return type("Greets", (Greets,), {"text": text})


class RefusesHello(SmallServer):
    def do_EHLO(self, rest: bytes) -> None:
        self.reply("502 What?")


class SilentAfterGreeting(SmallServer):
    def command(self, line: bytes) -> None:
        pass


@pytest.mark.parametrize(
    ("server", "error"),
    [
        (greeting(b""), r"the server sent no greeting \(dropped\)"),
        (greeting(b"* OK IMAP\r\n"), r"the greeting is not that of an SMTP server: '\* OK IMAP'"),
        (greeting(b"554 No\r\n"), "'554 No'"),
        (RefusesHello, "EHLO is needed: the reply was 502"),
        (SilentAfterGreeting, "EHLO is needed: no reply came"),
    ],
)
def test_server_that_cannot_be_fuzzed_is_an_error(server: type[SmallServer], error: str) -> None:
    with pytest.raises(CannotFuzz, match=error):
        run(server)


@pytest.mark.parametrize(
    ("login", "error"),
    [
        ((LineStep(b"EHLO c"), AuthStep("PLAIN", b"=")), "AUTH got 500"),
        ((LineStep(b"EHLO c"), LineStep(b"QUIT"), LineStep(b"NOOP")), "NOOP failed"),
    ],
)
def test_failed_login_is_an_error(login: tuple[Step, ...], error: str) -> None:
    with pytest.raises(CannotFuzz, match=f"the sessions cannot be prepared: {error}"):
        run(SmallServer, login=login)


def refuse() -> Peer:
    raise ConnectionRefusedError(111, "Connection refused")


def test_unreachable_server_is_an_error() -> None:
    with pytest.raises(CannotFuzz, match="cannot connect: Connection refused"):
        Fuzzer(refuse, Settings()).run()


class RefusesEveryone(SmallServer):
    def may_add_recipient(self) -> bool:
        return False


def test_refused_recipient_is_noted() -> None:
    report = run(RefusesEveryone, examples=60)

    assert report.notes == ["the recipient u@s.example is refused: most laws need one"]
    assert report.findings == []


def test_replies_that_change_from_session_to_session_skip_the_comparing_laws() -> None:
    class Greylists(RsetForgetsHello):
        seen = 0

        def do_NOOP(self, rest: bytes) -> None:
            type(self).seen += 1
            self.reply("250 OK" if type(self).seen > 1 else "451 Later")

    report = run(Greylists)

    assert report.notes == ["the replies to the same session differ: laws that compare sessions are skipped"]
    assert "reset" not in {finding.violation.law for finding in report.findings}


def test_violation_that_a_second_run_does_not_show_is_unstable() -> None:
    class Once(QuitGets250):
        seen = 0

        def do_QUIT(self, rest: bytes) -> None:
            type(self).seen += 1
            self.reply("250 Bye" if type(self).seen == 4 else "221 Bye")
            self.is_over = True

    report = run(Once, examples=3)

    assert ([violation.law for violation in report.unstable], report.findings) == (["codes"], [])


class Slow(SmallServer):
    """Delays its replies by two seconds after an error."""

    is_slow = False

    def unknown(self, line: bytes) -> None:
        self.is_slow = True
        super().unknown(line)

    def receive(self, timeout: float) -> bytes:
        if self.is_slow and timeout < 2:
            raise TimeoutError
        return super().receive(timeout)


def test_first_session_decides_whether_the_server_can_be_fuzzed() -> None:
    fuzzer = fuzzer_for(SilentAfterGreeting)
    with pytest.raises(CannotFuzz, match="EHLO is needed"):
        fuzzer.run()

    assert fuzzer.report.sessions == 1


class ClosesLate(SmallServer):
    waits = 0.5

    def do_QUIT(self, rest: bytes) -> None:
        self.reply("221 Bye")

    def receive(self, timeout: float) -> bytes:
        if not self.output and timeout > self.waits:
            return b""
        return super().receive(timeout)


def test_server_that_closes_late_after_quit_has_no_finding() -> None:
    report = run(ClosesLate, examples=3)

    assert report.findings == []
    assert [violation.text for violation in report.unstable] == ["the connection stays open after QUIT"]


def test_server_that_delays_replies_after_errors_has_no_finding() -> None:
    report = run(Slow, examples=150)

    assert report.findings == []
    assert {violation.text for violation in report.unstable} == {"no reply within the time limit"}


def test_silence_after_many_refusals_is_only_noted() -> None:
    class Silent(SmallServer):
        errors = 0

        def unknown(self, line: bytes) -> None:
            self.errors += 1
            if self.errors < 6:
                super().unknown(line)

    fuzzer = fuzzer_for(Silent)
    for _ in range(2):
        assert fuzzer.try_experiment(Experiment(Plan((fuzzer.hello, *[LineStep(b"XYZZY")] * 6)))) is None

    assert fuzzer.report.notes == [
        "the server gives no replies or late replies after several refusals: this is not examined"
    ]
    assert fuzzer.report.unstable == []


def test_slow_reply_does_not_hide_another_violation() -> None:
    class Slow(QuitGets250):
        def receive(self, timeout: float) -> bytes:
            if timeout < 1.0 and self.sender == b"slow@c.example":
                raise TimeoutError
            return super().receive(timeout)

    fuzzer = fuzzer_for(Slow)
    fuzzer.probe()
    finding = fuzzer.try_experiment(Experiment(Plan((LineStep(b"EHLO c"), LineStep(b"MAIL FROM:<slow@c.example>")))))

    assert [violation.verb for violation in fuzzer.report.unstable] == ["MAIL"]
    assert finding
    assert finding.violation.law == "codes"


def test_replay_waits_for_a_slow_server() -> None:
    steps = (LineStep(b"EHLO c"), LineStep(b"XYZZY"))
    for server, text in ((Slow, None), (SilentAfterGreeting, "no reply within the time limit")):
        fuzzer = fuzzer_for(server)
        if server is Slow:
            fuzzer.probe()
        _, violation = fuzzer.replay(Experiment(Plan(steps)))
        assert (violation.text if violation else None) == text


class SlowOrSilent(Slow):
    def do_NOOP(self, rest: bytes) -> None:
        if not self.is_slow:
            super().do_NOOP(rest)
        self.is_slow = True


def test_silence_is_reduced_only_as_far_as_the_server_stays_silent() -> None:
    steps = (LineStep(b"EHLO c"), LineStep(b"HELP"), LineStep(b"NOOP"), LineStep(b"NOOP"))
    fuzzer = fuzzer_for(SlowOrSilent)
    fuzzer.probe()
    finding = fuzzer.try_experiment(Experiment(Plan(steps)))

    assert finding
    assert finding.violation.text == "no reply within the time limit"
    assert finding.experiment.plan.steps == steps


def test_law_that_a_correct_server_breaks_too_is_reported_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge_all(evidence: laws.Evidence) -> list[Violation]:
        return [Violation("wrong", "RFC 0", "EHLO", "a wrong law")]

    monkeypatch.setattr(laws, "LAWS", (Law("wrong", "A wrong law", "RFC 0", judge_all),))
    report = run(SmallServer, examples=2)

    assert [finding.violation.text for finding in report.wrong_laws] == ["a wrong law"]
    assert report.findings == []


def test_each_kind_of_violation_is_found_once_and_the_findings_of_a_law_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_MAX_FINDINGS_OF_LAW", 1)

    class Several(SilentOnEmptyLine):
        def do_NOOP(self, rest: bytes) -> None:
            pass

    assert len([finding for finding in run(Several).findings if finding.violation.law == "count"]) == 1


def test_saved_experiments_are_played_first() -> None:
    finding, _ = find(LfDotLf, "count")
    report = fuzzer_for(LfDotLf, examples=1).run([finding.experiment])

    assert [each.violation.signature for each in report.findings] == [finding.violation.signature]
    assert report.faults == report.findings


def test_run_ends_after_its_seconds() -> None:
    started = time.monotonic()
    report = run(SmallServer, seconds=0.05, examples=None)

    assert time.monotonic() - started < 5
    assert report.findings == []


def test_rate_is_limited() -> None:
    started = time.monotonic()
    run(SmallServer, max_rate=200.0, examples=7)

    assert time.monotonic() - started >= 9 / 200


class Stuck(SmallServer):
    count = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        if type(self).count > 3:
            self.output[:] = b"421 Too many connections\r\n"
            self.is_over = True


def test_server_that_refuses_all_sessions_ends_the_run() -> None:
    report = run(Stuck)

    assert report.notes == ["stopped: 20 sessions in a row ended before the first reply"]
    assert report.findings == []


def test_session_with_a_proxy_header_needs_a_connection_that_can_send_it() -> None:
    fuzzer = fuzzer_for(SmallServer)
    with pytest.raises(CannotFuzz, match="begins with a PROXY header"):
        fuzzer.gather(Experiment(Plan((fuzzer.hello,), header=b"")))


def test_server_that_dies_after_a_malformed_proxy_header_is_found_in_the_next_session() -> None:
    def refuse_with(header: bytes) -> Peer:
        raise ConnectionRefusedError

    fuzzer = Fuzzer(refuse, Settings(proxy=1), connect_with=refuse_with)

    assert fuzzer.try_experiment(Experiment(Plan((fuzzer.hello,), header=b""))) is None
    with pytest.raises(CannotFuzz, match="accepts no more connections"):
        fuzzer.try_experiment(Experiment(Plan((fuzzer.hello,))))


# A server that dies


class Dying:
    """Connects to a server that dies at its sixth session, and can start it again."""

    def __init__(self, *, restarts: bool = True) -> None:
        self.sessions = 0
        self.starts = 0
        self.restarts = restarts

    def connect(self) -> Peer:
        self.sessions += 1
        if self.sessions >= 6:
            raise ConnectionRefusedError
        server = type("Served", (SmallServer,), {"delivered": Inbox().messages})()
        assert isinstance(server, SmallServer)
        return server

    def start(self) -> bool:
        self.starts += 1
        self.sessions = 0
        return self.restarts


def fuzz_dying(server: Dying, restart: Callable[[], bool] | None, examples: int = 10) -> Report:
    fuzzer = Fuzzer(server.connect, Settings(examples=examples, recipients=RECIPIENTS), restart=restart)
    try:
        return fuzzer.run()
    finally:
        assert server.sessions <= 6


def test_server_that_dies_is_a_finding_with_the_previous_session() -> None:
    server = Dying()
    report = fuzz_dying(server, server.start)
    (finding,) = report.findings

    assert (finding.violation.law, finding.violation.text) == ("alive", "the server accepts no more connections")
    assert [step.verb for step in finding.experiment.plan.steps].count("EHLO") == 2
    assert server.starts > 1


def test_first_session_after_the_probe_may_find_a_dead_server() -> None:
    server = Dying()
    server.sessions = 2
    report = fuzz_dying(server, server.start, examples=1)

    assert len(report.findings) == 1


def test_server_that_does_not_start_again_ends_the_run() -> None:
    server = Dying(restarts=False)
    with pytest.raises(CannotFuzz, match="the start command does not help"):
        fuzz_dying(server, server.start)


def test_server_that_is_lost_without_a_start_command_is_an_error_and_a_finding() -> None:
    fuzzer = Fuzzer(Dying().connect, Settings(examples=10, recipients=RECIPIENTS))
    with pytest.raises(CannotFuzz, match="the server accepts no more connections"):
        fuzzer.run()

    (finding,) = fuzzer.report.findings
    assert finding.violation.law == "alive"
    assert fuzzer.report.seconds > 0


def test_server_that_dies_during_the_reduction_keeps_the_finding() -> None:
    class Counts(LfDotLf):
        count = 0

        def __init__(self) -> None:
            super().__init__()
            type(self).count += 1
            if type(self).count == 20:
                raise ConnectionRefusedError

    finding = run(Counts, examples=12).findings[0]
    assert finding.violation.law == "count"


def test_findings_are_grouped_in_the_order_of_the_laws() -> None:
    findings = [find(QuitGets250, "codes")[0], find(SilentOnEmptyLine, "count")[0]]
    groups = group_by_law(findings)

    assert list(groups) == ["count", "codes"]
