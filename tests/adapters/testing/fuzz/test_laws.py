"""Each broken server is found with the law that it breaks and a short session, and a correct server has no finding."""

from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Config
from smtpcore.sasl import CheckPassword
from smtpcore_adapters import Timeouts
from smtpcore_adapters.testing.fuzz import (
    LAWS,
    End,
    Experiment,
    Kind,
    LoginStep,
    Plan,
    Report,
    Target,
    fuzz_server,
    judge,
    lines_sent,
)
from smtpcore_adapters.testing.fuzz._engine import Settings
from smtpcore_adapters.testing.steps import AuthStep, LineStep, Step, TlsStep
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import BACKENDS, running
from tests.long import long

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET, find, fuzzer_for, play_at, run
from .servers import (
    BROKEN,
    LMTP_SERVERS,
    LfDotLf,
    SmallAuthServer,
    SmallProxyServer,
    SmallServer,
    SmallXclientServer,
    served,
)

MOST_LINES = 12


@pytest.mark.parametrize("server", BROKEN, ids=lambda server: server.__name__)
def test_broken_server_is_found_and_the_session_is_short(server: type[SmallServer]) -> None:
    finding, report = find(server, BROKEN[server])

    assert max(map(lines_sent, finding.recordings)) <= MOST_LINES
    assert finding.runs <= 120
    assert finding.title
    assert report.sessions < 500


class SmallLmtpServer(SmallServer):
    lmtp = True


class SmallTlsServer(SmallServer):
    offers = (*SmallServer.offers, "STARTTLS")


CORRECT = (SmallServer, SmallLmtpServer, SmallTlsServer, SmallAuthServer, SmallXclientServer, SmallProxyServer)


@pytest.mark.parametrize("server", CORRECT, ids=lambda server: server.__name__)
def test_correct_server_has_no_finding(server: type[SmallServer]) -> None:
    report = run(server)

    assert (report.findings, report.unstable, report.wrong_laws) == ([], [], [])


@long
@pytest.mark.parametrize("server", CORRECT, ids=lambda server: server.__name__)
def test_correct_server_has_no_finding_in_a_long_run(server: type[SmallServer]) -> None:
    report = run(server, examples=2000, seconds=60.0)

    assert (report.findings, report.unstable, report.wrong_laws) == ([], [], [])


def test_broken_server_is_found_over_a_socket() -> None:
    LfDotLf.delivered = []
    with served(LfDotLf) as port:
        target = Target(host="127.0.0.1", port=port, sender="a@c.example", recipient="u@s.example")
        report = fuzz_server(target, Settings(examples=12))

    assert [finding.violation.law for finding in report.findings] == ["count"]


VARIANTS: dict[str, dict[str, Any]] = {
    "SMTP": {},
    "LMTP": {"lmtp": True},
    "AUTH, XCLIENT": {"trusted": ["127.0.0.1"], "with_login": True, "timeouts": Timeouts(auth_delay=0)},
    "AUTH, PROXY": {"proxies": ["127.0.0.1"], "with_login": True, "timeouts": Timeouts(auth_delay=0)},
}
"""Servers with other options."""


def fuzz_adapter(
    backend: str, settings: Settings, *, lmtp: bool = False, with_login: bool = False, **options: Any
) -> Report:
    """Fuzz our own server on an adapter."""
    config = Config(hostname="s.example", lmtp=lmtp, plaintext_auth=with_login, max_auth_failures=None)
    app = accepting(MessageStore())
    if with_login:
        app.on("auth")(lambda session, asked: isinstance(asked, CheckPassword) and asked.matches("tans taaf"))
    with running(backend, app, config=config, **options) as server:
        host, port = server.server.address
        target = Target(host=host, port=port, sender="a@c.example", recipient="u@s.example", lmtp=lmtp)
        if with_login:
            target = replace(target, user="tim", password="tans taaf")
        return fuzz_server(target, replace(settings, proxy=2 if "proxies" in options else None))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_own_server_has_no_finding(backend: str, variant: str) -> None:
    report = fuzz_adapter(backend, Settings(examples=6), **VARIANTS[variant])

    assert (report.findings, report.wrong_laws, report.notes) == ([], [], [])


@long
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_own_server_has_no_finding_in_a_long_run(backend: str, variant: str) -> None:
    report = fuzz_adapter(backend, Settings(seconds=15.0), **VARIANTS[variant])

    assert (report.findings, report.wrong_laws) == ([], [])


def test_each_law_has_a_broken_server() -> None:
    assert set(BROKEN.values()) == {law.name for law in LAWS} | {"injection"}
    assert set(LMTP_SERVERS) <= set(BROKEN)


# Replies that are permitted


class Greets421(SmallServer):
    def __init__(self) -> None:
        super().__init__()
        self.output[:3] = b"554"
        self.is_over = True


class Closes(SmallServer):
    text = "421 Closing"

    def do_NOOP(self, rest: bytes) -> None:
        self.reply(self.text)
        self.is_over = True


class TooMany(Closes):
    text = "500 Too many errors"


class ShutsDown(Closes):
    def do_NOOP(self, rest: bytes) -> None:
        self.reply("250 OK")
        self.reply("421 Closing")
        self.is_over = True


class Drops(Closes):
    text = "250 OK"


@pytest.mark.parametrize(
    ("server", "law"),
    [(Closes, None), (ShutsDown, None), (TooMany, "end"), (Drops, "end")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_server_may_close_after_421(server: type[SmallServer], law: str | None) -> None:
    violation = judge(play_at(server, HELLO, NOOP, RSET))

    assert (violation.law if violation else None) == law
    assert violation is None or violation.is_warning is (server is TooMany)


def test_server_may_close_after_a_554_greeting() -> None:
    from smtpcore_adapters.testing.fuzz import Evidence, Experiment, Plan
    from smtpcore_adapters.testing.fuzz._player import play

    plan = Plan((HELLO,))

    assert judge(Evidence(Experiment(plan), (play(plan, Greets421, 1.0),))) is None


class BadHandshake(SmallTlsServer):
    def start_tls(self, timeout: float) -> None:
        raise OSError


def test_failed_handshake_after_220_is_found() -> None:
    violation = judge(play_at(BadHandshake, HELLO, TlsStep(), HELLO))

    assert violation
    assert violation.text == "the TLS handshake failed after 220"


def test_handshake_may_fail_after_injected_octets() -> None:
    assert judge(play_at(BadHandshake, HELLO, TlsStep(b"NOOP\r\n"))) is None


class Gets354(SmallServer):
    def do_NOOP(self, rest: bytes) -> None:
        self.body = bytearray()
        self.reply("354 Go")

    def end_body(self) -> None:
        self.body = None
        self.reply("354 More")

    def do_HELP(self, rest: bytes) -> None:
        self.reply("334 Go")


@pytest.mark.parametrize("line", [b"NOOP", b"HELP"])
def test_intermediate_reply_to_a_plain_command_is_found(line: bytes) -> None:
    violation = judge(play_at(Gets354, HELLO, LineStep(line)))

    assert violation
    assert violation.law == "codes"


def test_354_to_the_end_of_a_message_is_found() -> None:
    violation = judge(play_at(Gets354, HELLO, MAIL, RCPT, BODY))

    assert violation
    assert violation.text == "the reply to the end of a message was 354"


class NoParameters(SmallServer):
    def do_MAIL(self, rest: bytes) -> None:
        if b" " in rest:
            self.reply("555 Parameter?")
        else:
            super().do_MAIL(rest)


def test_refused_parameter_of_an_offered_extension_is_found() -> None:
    violation = judge(play_at(NoParameters, HELLO, LineStep(b"MAIL FROM:<a@c.example> BODY=8BITMIME SIZE=10")))

    assert violation
    assert violation.text == "8BITMIME and SIZE is offered, but the parameter got 555"


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((MAIL, LoginStep()), "the reply to AUTH in a transaction was 502, not 503"),
        ((LoginStep(), LoginStep()), "the reply to AUTH after a login was 502, not 503"),
        ((AuthStep("LOGIN", None, (b"!",)),), "a response with characters outside of base64 got 334"),
        ((AuthStep("LOGIN", None, (b"*",)),), "a cancelled AUTH got 535, not 501"),
        ((LoginStep(),), None),
    ],
)
def test_code_of_a_refused_auth_that_the_rfc_does_not_have_is_a_warning(
    steps: tuple[Step, ...], text: str | None
) -> None:
    violation = judge(play_at(OtherCodes, HELLO, *steps))

    assert (violation.text if violation else None) == text
    assert violation is None or violation.is_warning


class OtherCodes(SmallAuthServer):
    def do_AUTH(self, rest: bytes) -> None:
        if self.may_log_in():
            super().do_AUTH(rest)
        else:
            self.reply("502 Not now")

    def cancel(self) -> None:
        self.reply("535 Cancelled")

    def malformed(self) -> None:
        self.responses = []
        self.reply("334 More")


def test_invalid_proxy_header_may_be_answered_by_anything_but_acceptance() -> None:
    class Refuses(SmallProxyServer):
        def take(self) -> bool:
            line, end, _ = self.input.partition(b"\r\n")
            del self.input[: len(line) + 2]
            self.reply("220 small" if line == b"PROXY" else "554 No")
            return bool(end)

    fuzzer = fuzzer_for(Refuses)
    for steps in ((), (HELLO,)):
        evidence = fuzzer.gather(Experiment(Plan(steps, header=b"PROXY\r\n")))
        assert judge(evidence) is None
        assert evidence.recordings[0].end is End.LOOSE


def test_endless_output_after_an_invalid_proxy_header_is_found() -> None:
    class Floods(SmallProxyServer):
        def take(self) -> bool:
            self.output += b"250 OK\r\n" * 200_000
            return False

    violation = judge(fuzzer_for(Floods).gather(Experiment(Plan((HELLO,), header=b"PROXY\r\n"))))

    assert violation
    assert violation.text == "endless output"


class AcceptsOneMessage(SmallServer):
    code = 452

    def end_body(self) -> None:
        super().end_body()
        self.is_full = True

    is_full = False

    def do_MAIL(self, rest: bytes) -> None:
        if self.is_full:
            self.reply(f"{self.code} One message only")
        else:
            super().do_MAIL(rest)


@pytest.mark.parametrize(("code", "is_found"), [(452, False), (550, False), (503, True)])
def test_limit_of_a_session_does_not_break_the_law_of_rset(code: int, *, is_found: bool) -> None:
    server = type("Limited", (AcceptsOneMessage,), {"code": code})
    violation = judge(play_at(server, HELLO, MAIL, RCPT, BODY, RSET, MAIL, RCPT, kind=Kind.RESET))

    assert (violation is not None) is is_found


def test_command_of_a_group_that_closes_the_connection_is_named() -> None:
    class ClosesOnRcpt(SmallServer):
        def do_RCPT(self, rest: bytes) -> None:
            self.is_over = True

    violation = judge(play_at(ClosesOnRcpt, HELLO, MAIL, RCPT, RSET, BODY, kind=Kind.PIPELINING, pipelined=True))

    assert violation
    assert (violation.law, violation.verb) == ("end", "RCPT")


def test_reset_is_judged_only_if_both_sessions_are_complete() -> None:
    assert judge(play_at(Closes, HELLO, NOOP, RSET, NOOP, kind=Kind.RESET)) is None


def test_signature_has_no_numbers() -> None:
    violation = judge(play_at(NoParameters, HELLO, LineStep(b"MAIL FROM:<a@c.example> SIZE=10")))

    assert violation
    assert violation.signature == ("offers", "MAIL", "SIZE is offered, but the parameter got N")
