"""Broken clients are found, with a short dialogue; correct clients have no finding."""

import threading
from collections.abc import Callable

import pytest

from smtpcore_adapters.check.clients import ClientListener, ClientNotEnded, ClientSetup, Run
from smtpcore_adapters.testing.fuzz.clients import (
    Behaviour,
    CannotFuzz,
    ClientFailed,
    ClientFuzzer,
    ClientReport,
    ClientSettings,
    Violation,
    _engine,
    _generation,
    fuzz_client,
    lines_of,
)
from smtpcore_adapters.testing.fuzz.clients._laws import INJECTED_REPLY_USED
from tests.adapters.check.clients import broken_clients as broken
from tests.adapters.check.clients.broken_clients import Correct
from tests.adapters.testing.fuzz.clients.helpers import MESSAGE, evidence_of, fuzz, listener_for
from tests.long import long

QUICK: dict[Callable[..., Correct], str] = {
    broken.StartsWithMail: "order",
    broken.GivesBadName: "form",
    broken.AlwaysDeclaresSize: "offers",
    broken.PipelinesUnasked: "pipelining",
    broken.SendsMessageWithData: "pipelining",
    broken.LeavesWithoutQuit: "quit",
    broken.IgnoresRefusedMail: "refusals",
    broken.IgnoresRefusedHelo: "refusals",
    broken.IgnoresRefusedData: "body",
    broken.SendsMessageWithoutRecipients: "body",
    broken.CallsRefusalSuccess: "report",
    broken.IgnoresEnd: "report",
    broken.IgnoresDeferral: "report",
    broken.IgnoresRefusedRecipient: "report",
    broken.IgnoresSize: "size",
    broken.SendsBareLf: "form",
    broken.DoublesNoDots: "dots",
    broken.SendsEightBits: "offers",
    broken.SendsUtf8Sender: "offers",
}
"""Broken clients that one of the first behaviours finds, each with the law that it breaks."""

SLOW: dict[Callable[..., Correct], str] = {
    broken.IgnoresGreeting: "refusals",
    broken.IgnoresNoService: "refusals",
    broken.GivesLongName: "form",
    broken.EndsCommandsWithLf: "form",
    broken.PutsSpaceBeforePath: "form",
    broken.PipelinesHello: "pipelining",
    broken.ReadsOneLineOfGreeting: "delivery",
    broken.RejectsUnknownKeywords: "delivery",
    broken.ReadsWholeReplies: "delivery",
    broken.NeedsText: "delivery",
    broken.KnowsNoContinuation: "delivery",
    broken.KnowsOnly250: "delivery",
    broken.ReadsEndlessLine: "bounds",
    broken.AcceptsEarlyReplies: "report",
    broken.SendsMessageAfter421: "refusals",
    broken.CallsCloseSuccess: "report",
    broken.Ignores421: "report",
    broken.CallsIntermediateReplySuccess: "report",
    broken.CallsMissingReplySuccess: "report",
    broken.NeedsReplyToQuit: "report",
    broken.NeedsSuccessOfQuit: "report",
    broken.SendsBareCr: "form",
    broken.SendsLongLines: "form",
    broken.SendsUtf8Header: "offers",
    broken.SendsUtf8Recipient: "offers",
    broken.KnowsNoHelo: "fallback",
    broken.TalksAfterQuit: "order",
    broken.DoublesNoSingleDot: "dots",
    broken.SendsTwice: "once",
}

WITH_TLS: dict[Callable[..., Correct], str] = {
    broken.SendsNoNewHello: "tls",
    broken.KeepsExtensions: "offers",
    broken.LogsInUnasked: "auth",
}
SLOW_WITH_TLS: dict[Callable[..., Correct], str] = {
    broken.FallsBackToPlaintext: "tls",
    broken.IgnoresRefusedStarttls: "tls",
    broken.FallsBackWithoutEhlo: "tls",
    broken.UsesInjectedReplies: "tls",
    broken.AcceptsAnyAuthority: "tls",
    broken.AcceptsAnyName: "tls",
    broken.LogsInBeforeTls: "tls",
    broken.IgnoresMechanisms: "auth",
    broken.CallsRefusedLoginSuccess: "report",
}

MAX_LINES = 12


def _check(client: Correct, law: str) -> None:
    report = fuzz(client, client.tls, law=law)
    lines = next(finding.lines for finding in report.findings if finding.violation.law == law)

    assert len(lines) <= MAX_LINES, lines
    # The system decides how many octets ReadsWholeReplies reads at once, and whether octets of a client that does not
    # wait arrive before a reply, so a second run may show nothing.
    others = [violation for violation in report.unstable if violation.law != "pipelining"]
    assert others == [] or isinstance(client, broken.ReadsWholeReplies)


@pytest.mark.parametrize("client", QUICK)
def test_broken_client_is_found_with_a_short_dialogue(client: Callable[..., Correct]) -> None:
    _check(client(), QUICK[client])


@long
@pytest.mark.parametrize("client", SLOW)
def test_other_broken_client_is_found_with_a_short_dialogue(client: Callable[..., Correct]) -> None:
    _check(client(), SLOW[client])


@pytest.mark.parametrize("client", [*WITH_TLS, *(pytest.param(client, marks=long) for client in SLOW_WITH_TLS)])
def test_broken_client_with_tls_is_found_with_a_short_dialogue(client: Callable[..., Correct]) -> None:
    tables = WITH_TLS | SLOW_WITH_TLS
    _check(client("starttls", logs_in=client in broken.BROKEN_WITH_LOGIN), tables[client])


def test_each_broken_client_of_the_checks_is_fuzzed_too() -> None:
    tables = (broken.BROKEN_CONNECTIONS, broken.BROKEN_TRANSACTIONS, broken.BROKEN_WITH_TLS, broken.BROKEN_WITH_LOGIN)
    clients = {client for table in tables for client in table}
    fuzzed = QUICK | SLOW | WITH_TLS | SLOW_WITH_TLS

    assert clients <= set(fuzzed)


def test_behaviours_are_drawn_after_the_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_generation, "openings", lambda tls: iter(()))

    assert fuzz(Correct(), examples=3).findings == []


@pytest.mark.parametrize("lmtp", [False, True])
def test_correct_client_has_no_finding(*, lmtp: bool) -> None:
    report = fuzz(Correct(lmtp=lmtp), lmtp=lmtp, examples=30)

    assert (report.findings, report.unstable, report.notes) == ([], [], [])
    assert report.sessions == 31


@long
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_correct_client_has_no_finding_in_a_long_run(tls: str) -> None:
    report = fuzz(Correct(tls, logs_in=tls != "none"), tls, seconds=10, examples=10_000)  # type: ignore[arg-type]

    assert (report.findings, report.unstable) == ([], [])


# The engine


def test_several_faults_of_a_client_are_found_in_one_run() -> None:
    class Broken(broken.SendsBareLf, broken.LeavesWithoutQuit):
        pass

    laws = {finding.violation.law for finding in fuzz(Broken(), examples=4).findings}

    assert laws == {"form", "quit"}


def test_findings_of_a_law_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    class UsesTwoExtensions(Correct):
        def mail(self) -> None:
            self.after_mail(self.ask(b"MAIL FROM:<a@c.example> SIZE=100 X=1"))

    monkeypatch.setattr(_engine, "_MAX_FINDINGS_OF_LAW", 1)

    assert len(fuzz(UsesTwoExtensions(), examples=3).findings) == 1


def test_violation_that_a_second_run_does_not_show_is_unstable() -> None:
    class Changes(Correct):
        runs = 0

        def quit(self) -> None:
            self.runs += 1
            if self.runs != 2:
                super().quit()

    report = fuzz(Changes(), examples=3)

    assert ([violation.law for violation in report.unstable], report.findings) == (["quit"], [])


def test_unstable_violation_is_confirmed_by_a_later_behaviour() -> None:
    class Changes(Correct):
        runs = 0

        def quit(self) -> None:
            self.runs += 1
            if self.runs in (1, 3):
                super().quit()

    report = fuzz(Changes(), law="quit")

    assert [finding.violation.law for finding in report.findings] == ["quit"]
    assert report.unstable == []


def test_exception_of_a_client_is_a_finding() -> None:
    class Crashes(Correct):
        def rcpt(self, code: int) -> None:
            if code == 550:
                raise ValueError
            super().rcpt(code)

    finding = fuzz(Crashes(), law="bounds").findings[0]

    assert finding.violation.text == "the client raised ValueError"
    assert finding.title == "The client ends with a result, and reads no endless reply"
    assert finding.lines[-1] == "-- the client reported a failure"


def test_client_that_does_not_end_is_a_finding() -> None:
    def hang(run: Run) -> bool:
        Correct()(run)
        raise ClientNotEnded

    report = fuzz(hang, law="bounds", examples=1)

    assert [finding.violation.text for finding in report.findings] == [
        "the client did not end after its last connection was closed"
    ]


def test_client_that_cannot_be_started_is_an_error() -> None:
    def fail(run: Run) -> bool:
        raise ClientFailed("no such program")

    with pytest.raises(ClientFailed):
        fuzz(fail)


def test_client_that_never_connects_is_an_error() -> None:
    with pytest.raises(CannotFuzz, match="the client did not connect"):
        fuzz_client(lambda run: True, ClientSettings(examples=1))


def test_run_stops_if_the_client_no_longer_connects() -> None:
    correct = Correct()

    class Stops(Correct):
        runs = 0

        def __call__(self, run: Run) -> bool:
            self.runs += 1
            return self.runs < 2 and correct(run)

    report = fuzz(Stops(), examples=100)

    assert report.notes == ["stopped: the client did not connect in 20 runs in a row"]
    assert report.sessions == 21


def test_client_that_delivers_nothing_is_noted() -> None:
    class Leaves(Correct):
        def mail(self) -> None:
            self.leave()

    report = fuzz(Leaves(), examples=1)

    assert report.notes == ["the client did not deliver its message to an ordinary server: the client sent QUIT"]


def test_recipients_of_a_result_are_printed() -> None:
    class Claims(Correct):
        def __call__(self, run: Run) -> bool:
            super().__call__(run)
            return ["b@s.example", "c@s.example"]  # type: ignore[return-value]

    finding = fuzz(Claims(), law="report", examples=2).findings[0]

    assert finding.lines[-1] == "-- the client reported success for: b@s.example, c@s.example"


@pytest.mark.parametrize(("size", "text"), [(1, "single octets"), (3, "segments of 3 octets")])
def test_parts_of_a_behaviour_that_octets_do_not_show_are_printed(size: int, text: str) -> None:
    behaviour = Behaviour(segment_size=size, certificate="wrong name")
    lines = lines_of(evidence_of(*MESSAGE, behaviour=behaviour))

    assert lines[:2] == [f"-- replies are sent in {text}", "-- the certificate of the server has a wrong name"]


@pytest.mark.parametrize("law", ["order", "dots", "once", "bounds", "report", "offers"])
def test_long_dialogue_of_a_fault_at_the_end_of_a_session_is_brief(law: str) -> None:
    evidence = evidence_of(*MESSAGE, behaviour=Behaviour(segment_size=5))
    is_brief = law in ("order", "dots", "once", "bounds")
    lines = lines_of(evidence, Violation(law, "", "QUIT", ""))

    assert ("-- the usual replies to EHLO, MAIL, RCPT and DATA" in lines) == is_brief
    assert len(lines) == (7 if is_brief else 15)
    assert len(lines_of(evidence)) == 15


def test_dialogue_of_a_used_reply_ends_with_the_command_that_shows_the_fault() -> None:
    used = Violation("tls", "", "STARTTLS", INJECTED_REPLY_USED)
    evidence = evidence_of(b"NOOP\r\nNOOP\r\nRSET\r\n")
    assert lines_of(evidence, used)[1:] == [
        "C: NOOP",
        "S: 250 2.0.0 OK  (the client did not wait)",
        "C: NOOP",
        "-- and so on",
    ]
    waiting = evidence_of(*MESSAGE)
    assert lines_of(waiting, used) == lines_of(waiting, Violation("tls", "", "STARTTLS", ""))


# Clients that connect by themselves


def _wait(client: Callable[[Run], object], connections: int, seconds: float = 60.0) -> ClientReport:
    with ClientListener(ClientSetup(pause=0)) as listener:
        run = Run(host="127.0.0.1", port=listener.port, authority=listener.authority)

        def connect() -> None:
            for _ in range(connections):
                client(run)

        thread = threading.Thread(target=connect)
        thread.start()
        report = ClientFuzzer(listener, None, ClientSettings(examples=1, seconds=seconds)).run()
        thread.join()
    return report


def test_client_that_connects_by_itself_is_judged_without_a_result() -> None:
    report = _wait(Correct(), 2)

    assert (report.sessions, report.findings) == (2, [])


def test_run_ends_if_no_further_client_connects() -> None:
    assert _wait(Correct(), 1, seconds=0.3).sessions == 1


def test_run_without_any_client_is_an_error() -> None:
    with pytest.raises(CannotFuzz, match="no client connected"):
        ClientFuzzer(listener_for(), None, ClientSettings(seconds=0.01)).run()
