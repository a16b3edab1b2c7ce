"""The checks pass on our own server, find the known faults of other servers, and each check can fail."""

import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from smtpcore import Bodies, Config
from smtpcore_adapters import Address, App
from smtpcore_adapters.check import CHECKS, CannotCheck, Check, Finding, Outcome, Severity, Target, choose, run_checks
from smtpcore_adapters.check._checks import Probe
from smtpcore_adapters.check._raw_client import RawClient, ServerClosed, ServerSilent, printable
from smtpcore_adapters.users import Users
from tests.adapters.check.faulty_servers import (
    CONTEXT,
    Peer,
    accept_everything,
    refuse_almost_everything,
    scripted,
    serving,
)
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import BACKENDS, running

CONFIG = Config(hostname="s.example", bodies=Bodies.CHUNKS, max_message_size=65_536)


def target_of(address: Address, **options: Any) -> Target:
    given = {"sender": "a@c.example", "recipient": "b@s.example", "insecure": True, "timeout": 10.0, **options}
    return Target(host=address.host, port=address.port, **given)


def failed(findings: list[Finding]) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is Outcome.FAIL}


def with_outcome(findings: list[Finding], outcome: Outcome) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is outcome}


# smtpcore's own server


def own_app() -> App:
    return accepting(MessageStore())


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_server_passes_all_checks_on_each_adapter(backend: str) -> None:
    with running(backend, own_app(), config=CONFIG, tls=CONTEXT) as server:
        findings = list(run_checks(target_of(server.server.address)))

    assert not failed(findings)
    assert not with_outcome(findings, Outcome.INCONCLUSIVE)
    only_with_auth = {check.id for check in choose(["auth"])} - {"auth-offered-plaintext", "auth-taken-plaintext"}
    assert with_outcome(findings, Outcome.NOT_APPLICABLE) == only_with_auth | {
        check.id for check in CHECKS if check.lmtp
    }


def test_own_lmtp_server_passes_all_checks() -> None:
    config = Config(hostname="s.example", bodies=Bodies.CHUNKS, max_message_size=65_536, lmtp=True)
    with running("asyncio", own_app(), config=config, tls=CONTEXT) as server:
        findings = list(run_checks(target_of(server.server.address, lmtp=True)))

    assert not failed(findings)
    assert not with_outcome(findings, Outcome.INCONCLUSIVE)
    assert with_outcome(findings, Outcome.NOT_APPLICABLE) >= {check.id for check in CHECKS if check.lmtp is False}


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_own_server_passes_the_checks_for_tls_and_auth(tls: str) -> None:
    app = own_app()
    app.include(Users({"tim": "secret"}))
    checks = choose(["tls", "auth", "reply", "chunking", "seq-rset", "data-segment"])
    with running("asyncio", app, config=CONFIG, tls=CONTEXT, implicit_tls=tls == "implicit") as server:
        target = target_of(server.server.address, tls=tls, user="tim", password="secret")
        findings = list(run_checks(target, checks))

    assert not failed(findings)
    assert not with_outcome(findings, Outcome.INCONCLUSIVE)
    before_tls = {"auth-offered-plaintext", "auth-taken-plaintext", *(check.id for check in choose(["tls"]))}
    assert with_outcome(findings, Outcome.NOT_APPLICABLE) == (before_tls if tls == "implicit" else set())
    assert "secret" not in repr(findings)
    assert target.credentials.decode() not in repr(findings)


# Other servers


@contextmanager
def process(script: str, package: str) -> Iterator[Address]:
    """Run a server that prints its port."""
    pytest.importorskip(package)
    running = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout
        yield Address("127.0.0.1", int(running.stdout.readline()))
    finally:
        running.kill()
        running.communicate()


AIOSMTPD = """
import asyncio
from aiosmtpd.smtp import SMTP

class Handler:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), hostname="s.example"), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def test_checks_find_the_known_faults_of_aiosmtpd() -> None:
    with process(AIOSMTPD, "aiosmtpd.smtp") as address:
        findings = list(run_checks(target_of(address)))

    # aiosmtpd ends commands at a bare LF, hardly validates addresses, and accepts a null recipient.
    assert failed(findings) >= {"line-bare-lf", "path-unclosed", "path-space", "path-nul", "path-rcpt-null"}
    assert not failed(findings) & {check.id for check in choose(["smuggling", "reply", "limit"])}


TWISTED = """
import sys
from twisted.internet import defer, reactor
from twisted.mail import smtp
from zope.interface import implementer

@implementer(smtp.IMessage)
class Message:
    lineReceived = connectionLost = lambda *arguments: None
    eomReceived = lambda self: defer.succeed(None)

@implementer(smtp.IMessageDelivery)
class Delivery:
    receivedHeader = lambda *arguments: b"Received: here"
    validateFrom = lambda self, helo, origin: origin
    validateTo = lambda self, user: Message

class Factory(smtp.SMTPFactory):
    def buildProtocol(self, address):
        protocol = smtp.ESMTP()
        protocol.delivery, protocol.host = Delivery(), b"s.example"
        return protocol

port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
"""


def test_checks_find_the_known_faults_of_twisted() -> None:
    with process(TWISTED, "twisted.mail") as address:
        findings = list(run_checks(target_of(address)))

    # After a line of more than 16 KiB Twisted parses the rest of the message as commands; it ignores parameters.
    assert failed(findings) >= {"limit-text-line-over", "limit-text-line-far-over", "param-unknown", "hello-empty"}
    assert failed(findings) >= {"verb-case", "verb-vrfy", "path-literal", "limit-command-line"}


# Faulty servers


def run_on(serve: Callable[[Peer], None], checks: Sequence[Check] = CHECKS, **options: Any) -> list[Finding]:
    with serving(serve) as address:
        return list(run_checks(target_of(address, **{"timeout": 0.3, **options}), checks))


def test_each_check_can_fail() -> None:
    # These checks wait for a server that sends nothing. All others get a timeout that a busy machine does not reach.
    silent = choose(["seq-goodbye", "data-empty", "chunking-dot", "chunking-refused"])
    others = [check for check in CHECKS if check not in silent]
    runs = [
        partial(run_on, accept_everything, silent, timeout=1.0),
        partial(run_on, refuse_almost_everything, silent, timeout=1.0),
        partial(run_on, accept_everything, others, timeout=10.0),
        partial(run_on, refuse_almost_everything, others, timeout=10.0),
        partial(run_on, accept_everything, choose(["lmtp"]), lmtp=True),
        partial(run_on, refuse_almost_everything, choose(["lmtp"]), lmtp=True),
        partial(run_on, partial(accept_everything, hides_auth=True), choose(["auth"])),
        partial(run_on, accept_everything, choose(["auth"]), tls="starttls", user="tim"),
    ]
    with ThreadPoolExecutor(len(runs)) as pool:
        found = [finding for findings in pool.map(lambda run: run(), runs) for finding in findings]

    assert {check.id for check in CHECKS} - failed(found) == set()


# Single checks


def outcome_of(name: str, serve: Callable[[Peer], None], **options: Any) -> tuple[Outcome, str]:
    (finding,) = [finding for finding in run_on(serve, choose([name]), **options) if finding.id == name]
    return finding.outcome, finding.note


def test_finding_states_octets_sent_reply_expected_and_reply_seen() -> None:
    with serving(scripted({"RCPT": "250 fine\r\n"})) as address:
        (finding,) = run_checks(target_of(address), choose(["seq-rcpt-first"]))

    assert finding == Finding(
        id="seq-rcpt-first",
        title="RCPT before MAIL is refused",
        severity=Severity.FAULT,
        section="RFC 5321 4.1.4",
        outcome=Outcome.FAIL,
        expected="5yz",
        sent="RCPT TO:<b@s.example>\\r\\n",
        seen="250 fine",
        note="the reply was: 250 fine",
    )
    assert finding.is_fault


def test_failed_check_of_severity_warning_is_not_a_fault() -> None:
    with serving(scripted({})) as address:
        (finding,) = run_checks(target_of(address), choose(["seq-mail-first"]))

    assert finding.outcome is Outcome.FAIL
    assert not finding.is_fault


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"": ""}, "the server closed the connection"),
        ({"": "554 no\r\n"}, "the reply to the connection was: 554 no"),
        ({"": "HTTP/1.1 400 Bad Request\r\n"}, "a line that is not a reply: HTTP/1.1 400"),
        ({"": "220 x\r\n", "EHLO": "421 busy\r\n"}, "the reply to EHLO was: 421 busy"),
        ({"": "220 x\r\n", "EHLO": ""}, "EHLO smtpcore-check.example"),
        ({"": "x" * 70_000}, "has more than 65536 octets"),
        ({"": "220-" + "x" * 60_000 + "\r\n220-" + "x" * 60_000 + "\r\n"}, "has more than 65536 octets"),
        ({"": "220"}, "no reply within 0.3 seconds"),
    ],
)
def test_run_fails_if_the_peer_does_not_act_like_an_smtp_server(replies: dict[str, str], why: str) -> None:
    with pytest.raises(CannotCheck, match="port") as failure:
        run_on(scripted(replies))

    assert why in str(failure.value)


def test_run_fails_if_the_connection_is_refused() -> None:
    with serving(scripted({})) as address:
        pass
    with pytest.raises(CannotCheck, match="refused"):
        list(run_checks(target_of(address)))


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_untrusted_certificate_is_rejected_unless_insecure_is_set(tls: str) -> None:
    with (
        running("asyncio", own_app(), config=CONFIG, tls=CONTEXT, implicit_tls=tls == "implicit") as server,
        pytest.raises(CannotCheck, match="certificate"),
    ):
        list(run_checks(target_of(server.server.address, tls=tls, insecure=False)))


def test_check_is_inconclusive_if_a_preparing_command_fails() -> None:
    assert outcome_of("seq-rset", scripted({"RCPT": "550 no such user\r\n"})) == (
        Outcome.INCONCLUSIVE,
        "the reply to RCPT was: 550 no such user",
    )
    assert outcome_of("data-header", scripted({"DATA": "354 go\r\n", "MAIL": ""}))[0] is Outcome.INCONCLUSIVE


def test_limit_check_is_inconclusive_if_the_command_is_refused_for_another_reason() -> None:
    assert outcome_of("limit-domain", scripted({"MAIL": "450 no such domain\r\n"}))[0] is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("size", "name", "why"),
    [
        ("SIZE", "size-declared", "SIZE without a limit"),
        ("SIZE 0", "size-declared", "SIZE without a limit"),
        ("SIZE 99999999", "size-exact", "this check works up to 1048576"),
        ("HELP", "size-over", "SIZE is not offered"),
        ("AUTH GSSAPI", "auth-cancel", "PLAIN is not offered"),
        ("STARTTLS", "auth-twice", "the target has no user"),
    ],
)
def test_check_of_an_extension_not_offered_is_not_applicable(size: str, name: str, why: str) -> None:
    outcome, note = outcome_of(name, scripted({"EHLO": f"250-s.example\r\n250 {size}\r\n"}))

    assert outcome is Outcome.NOT_APPLICABLE
    assert why in note


WITH_TLS = "250-s.example\r\n250 STARTTLS\r\n"


@pytest.mark.parametrize(
    ("name", "replies", "outcome"),
    [
        ("tls-injection", {"STARTTLS": "454 not now\r\n"}, Outcome.PASS),
        ("tls-injection", {"STARTTLS": ""}, Outcome.PASS),
        ("tls-injection", {"STARTTLS": "220 go\r\n250 and on\r\n"}, Outcome.FAIL),
        ("tls-forgets-transaction", {"MAIL": "530 TLS first\r\n"}, Outcome.NOT_APPLICABLE),
        ("tls-forgets-transaction", {"STARTTLS": "454 not now\r\n"}, Outcome.PASS),
        ("auth-taken-plaintext", {"AUTH": "504 not without TLS\r\n"}, Outcome.PASS),
        ("tls-twice", {"STARTTLS": "220 go\r\n"}, Outcome.INCONCLUSIVE),
        ("reply-form", {"NOOP": "250=fine\r\n"}, Outcome.FAIL),
        ("lmtp-lhlo", {"LHLO": ""}, Outcome.FAIL),
        ("line-bare-lf", {"NOOP\nNOOP": ""}, Outcome.PASS),
        ("line-bare-lf", {"NOOP\nNOOP": "500 bare\r\n421 and bye\r\n"}, Outcome.PASS),
        ("data-nul", {"DATA": "354 go\r\n", "FROM:": ""}, Outcome.PASS),
    ],
)
def test_check_tells_correct_servers_from_faulty_servers(name: str, replies: dict[str, str], outcome: Outcome) -> None:
    assert outcome_of(name, scripted({"EHLO": WITH_TLS, **replies}))[0] is outcome


def test_server_may_close_the_connection_on_an_oversized_message() -> None:
    def closes_after_data(peer: Peer) -> None:
        scripted({"EHLO": "250-s.example\r\n250 SIZE 70000\r\n", "DATA": "354 go\r\n", "FROM:": ""})(peer)

    assert outcome_of("size-over", closes_after_data)[0] is Outcome.PASS


def test_server_may_close_the_connection_on_an_overlong_line() -> None:
    def resets_during_data(peer: Peer) -> None:
        scripted({"DATA": ""})(peer)
        peer.send("354 go\r\n")
        peer.until(re.compile(rb"x{999}"))
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert outcome_of("limit-text-line-far-over", resets_during_data)[0] is Outcome.PASS


def test_server_may_refuse_a_bare_newline_and_close_the_connection() -> None:
    def refuses_and_closes(peer: Peer) -> None:
        peer.send("220 s.example\r\n")
        peer.until(re.compile(rb"\r\n"))
        peer.send("250 s.example\r\n")
        peer.until(re.compile(rb"\n"))
        peer.send("500 a bare newline\r\n")

    assert outcome_of("line-bare-lf", refuses_and_closes)[0] is Outcome.PASS


def test_server_that_discards_plaintext_commands_sent_with_starttls_passes() -> None:
    def discards_early_input(peer: Peer) -> None:
        replies = {"EHLO": WITH_TLS, "NOOP": "250 fine\r\n"}
        scripted({**replies, "STARTTLS": ""})(peer)
        peer.send("220 go\r\n")
        peer.input = b""
        peer.start_tls()
        peer.until(re.compile(rb"QUIT\r\n"))
        peer.send("221 bye\r\n")

    assert outcome_of("tls-injection", discards_early_input)[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("name", "verb", "reply"),
    [
        ("seq-quit", "QUIT", "221 bye\r\n"),
        ("seq-goodbye", "XSMTPCORECHECK", "421 enough\r\n"),
    ],
)
def test_server_that_continues_after_its_last_reply_fails(name: str, verb: str, reply: str) -> None:
    def stays_open(peer: Peer) -> None:
        scripted({verb: ""})(peer)
        peer.send(reply)
        assert peer.socket.recv(1) == b""  # wait for the client to close

    assert outcome_of(name, scripted({verb: f"{reply}250 one more thing\r\n"}))[0] is Outcome.FAIL
    outcome, note = outcome_of(name, stays_open)
    assert outcome is Outcome.FAIL
    assert "no reply" in note


def test_keyword_listed_twice_is_reported() -> None:
    duplicated = {"EHLO": "250-s.example\r\n250-SIZE 1\r\n250 size\r\n"}

    assert "listed twice: SIZE SIZE" in outcome_of("reply-keywords", scripted(duplicated))[1]


def test_reply_form_check_is_inconclusive_if_a_further_connection_fails() -> None:
    greetings = iter(["220 s.example\r\n", "220 s.example\r\n", ""])

    def refuses_third_connection(peer: Peer) -> None:
        scripted({"": next(greetings)})(peer)

    assert outcome_of("reply-form", refuses_third_connection)[0] is Outcome.INCONCLUSIVE


# Functions used by the checks


def test_checks_are_chosen_by_unique_names() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert [check.id for check in choose(["data-empty"])] == ["data-empty"]
    assert {check.id for check in choose(["smuggling"])} == {
        check.id for check in CHECKS if check.id.startswith("smuggling-")
    }
    assert choose([]) == CHECKS
    with pytest.raises(ValueError, match="there is no check 'smug'"):
        choose(["smug"])


@pytest.mark.parametrize("size", [*range(65_536, 65_536 + 73), 70_000])
def test_probe_message_has_exactly_the_requested_size(size: int) -> None:
    message = Probe(target_of(Address("s.example", 25)), "x").message(b"..\r\n", size=size)

    assert len(message) == size
    assert message.endswith(b"\r\n")
    assert max(map(len, message.split(b"\r\n"))) <= 200


def test_raw_client_reports_a_server_that_neither_replies_nor_reads() -> None:
    def stops_after_greeting(peer: Peer) -> None:
        peer.send("220 hello\r\n")
        finish.wait(10)

    finish = threading.Event()
    with serving(stops_after_greeting) as address:
        client = RawClient(target_of(address, timeout=0.2))
        assert client.reply().code == 220
        with pytest.raises(ServerSilent, match="no reply within"):
            client.reply()
        with pytest.raises(ServerSilent, match="read nothing"):
            client.send(b"x" * 50_000_000)
        client.close()
        finish.set()


def test_raw_client_reports_a_broken_connection() -> None:
    def send_much() -> None:
        for _ in range(100):
            client.send(b"x" * 100_000)

    with serving(lambda peer: None) as address:
        client = RawClient(target_of(address, timeout=1))
        assert client.has_ended()
        with pytest.raises(ServerClosed, match="broke"):
            send_much()
        client.close()


def test_printable_escapes_control_characters_and_shortens_long_input() -> None:
    assert printable(b"a\r\n\t\\\x00\xff") == "a\\r\\n\\t\\\\\\x00\\xff"
    assert printable(b"x" * 1000).count("x") == 240
    assert "...1000 octets..." in printable(b"x" * 1000)
