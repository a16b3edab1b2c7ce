"""Logins within sessions: the password reaches the server only, and mistakes in each response are tried."""

from base64 import b64encode

import pytest

from smtpcore_adapters.testing.fuzz import (
    CannotFuzz,
    Credentials,
    Evidence,
    Experiment,
    Fuzzer,
    LoginStep,
    Plan,
    Settings,
    dialogue,
)
from smtpcore_adapters.testing.fuzz._logins import failed_logins, fails, logins
from smtpcore_adapters.testing.steps import AuthStep, LineStep, Step

from .runs import CREDENTIALS, HELLO, MAIL, NOOP, fuzzer_for, play_at, run
from .servers import SmallAuthServer, SmallServer

TIM = Credentials("tim", "tans taaf")
LOGIN = LoginStep("LOGIN", has_initial=False)


def test_step_has_words_in_place_of_the_password() -> None:
    assert LoginStep().pieces == (b"AUTH PLAIN (user)(password)\r\n",)
    assert LoginStep(is_wrong=True).pieces == (b"AUTH PLAIN (user)(wrong password)\r\n",)
    assert LOGIN.pieces == (b"AUTH LOGIN\r\n", b"(user)\r\n", b"(password)\r\n")
    assert (LoginStep().verb, LoginStep().continues, LOGIN.continues) == ("AUTH", 0, 334)
    assert "tans taaf" not in repr(TIM)


@pytest.mark.parametrize(
    ("step", "sent"),
    [
        (LoginStep(), AuthStep("PLAIN", b64encode(b"\0tim\0tans taaf"))),
        (LoginStep(is_wrong=True), AuthStep("PLAIN", b64encode(b"\0tim\0tans taafx"))),
        (LoginStep(has_initial=False), AuthStep("PLAIN", None, (b64encode(b"\0tim\0tans taaf"),))),
        (LoginStep("LOGIN"), AuthStep("LOGIN", b64encode(b"tim"), (b64encode(b"tans taaf"),))),
        (LOGIN, AuthStep("LOGIN", None, (b64encode(b"tim"), b64encode(b"tans taaf")))),
    ],
)
def test_player_sends_the_password(step: LoginStep, sent: AuthStep) -> None:
    assert step.with_secrets(TIM) == sent


def test_recording_of_a_login_has_no_password() -> None:
    recording = play_at(SmallAuthServer, HELLO, LOGIN, MAIL).recordings[0]

    assert [exchange.codes for exchange in recording.exchanges] == [[250], [334, 334, 235], [250], [221]]
    assert "C: (password)" in dialogue(recording)
    assert recording.exchanges[2].is_authenticated
    assert b64encode(b"password") not in b"".join(entry.octets for entry in recording.log)


def test_login_without_a_known_password_is_an_error() -> None:
    with pytest.raises(CannotFuzz, match="needs a user and a password"):
        play_at(SmallServer, HELLO, LOGIN)


def test_only_offered_mechanisms_are_used() -> None:
    assert logins(["PLAIN"]) == [LoginStep(), LoginStep(has_initial=False)]
    assert logins(["CRAM-MD5"]) == []
    assert {step.pieces[0] for step in failed_logins([])} == {b"AUTH XYZZY\r\n", b"AUTH\r\n"}
    assert any(step.pieces[0] == b"AUTH CRAM-MD5 !\r\n" for step in failed_logins(["CRAM-MD5", "PLAIN", "LOGIN"]))


def test_failing_logins_are_known() -> None:
    assert fails(AuthStep("X"))
    assert fails(LoginStep(is_wrong=True))
    assert not fails(LoginStep())
    assert not fails(LineStep(b"NOOP"))


# A server that offers AUTH only before a login, and replies slowly


class HidesAuth(SmallAuthServer):
    def do_EHLO(self, rest: bytes) -> None:
        self.offers = SmallServer.offers if self.is_authenticated else SmallAuthServer.offers
        super().do_EHLO(rest)


class LogsInTwiceAndHidesAuth(HidesAuth):
    def may_log_in(self) -> bool:
        return self.has_hello and self.sender is None


PREPARED = (HELLO, AuthStep("PLAIN", b64encode(b"\0user\0password")))


def test_sessions_that_test_auth_begin_without_the_login_before_each_session() -> None:
    assert run(HidesAuth, login=PREPARED).findings == []
    findings = run(LogsInTwiceAndHidesAuth, login=PREPARED).findings

    assert "auth" in {finding.violation.law for finding in findings}
    assert not any(finding.experiment.plan.is_logged_in for finding in findings)


def test_failing_logins_are_skipped_if_the_server_delays_its_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer = fuzzer_for(SmallAuthServer, seconds=1000.0)
    monkeypatch.setattr(fuzzer, "_auth_seconds", 1000.0)
    played: list[Step] = []
    gather = fuzzer.gather

    def record(experiment: Experiment, factor: float = 1.0) -> Evidence:
        played.extend(experiment.plan.steps)
        return gather(experiment, factor)

    monkeypatch.setattr(fuzzer, "gather", record)
    report = fuzzer.run()

    assert report.notes == ["the server delays the replies to failed logins: further ones are skipped"]
    assert not any(map(fails, played))


def test_saved_session_with_a_login_is_skipped_without_a_password() -> None:
    saved = [Experiment(Plan((HELLO, LOGIN))), Experiment(Plan((HELLO,), header=b"")), Experiment(Plan((HELLO, NOOP)))]
    report = Fuzzer(SmallServer, Settings(examples=1)).run(saved)

    assert report.notes == [
        "a saved session is skipped: it needs a login",
        "a saved session is skipped: it needs PROXY",
    ]
    assert Fuzzer(SmallAuthServer, Settings(examples=1, credentials=CREDENTIALS)).run(saved[:1]).notes == []
