"""The checks find nothing in our own server, what is known of others, and each of them can fail."""

import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from smtpcore import Bodies, Config
from smtpcore_adapters import Address, App
from smtpcore_adapters.check import CHECKS, CannotCheck, Check, Finding, Outcome, Severity, Target, choose, run_checks
from smtpcore_adapters.check._checks import Probe
from smtpcore_adapters.check._raw_client import HungUp, Silent, Wire, printable
from smtpcore_adapters.users import Users
from tests.adapters.check.wrong import CONTEXT, Peer, careless, scripted, serving, surly
from tests.adapters.fakes import Store, accepting
from tests.adapters.harness import BACKENDS, running

CONFIG = Config(hostname="s.example", bodies=Bodies.CHUNKS, max_message_size=65_536)


def target_of(address: Address, **options: Any) -> Target:
    given = {"sender": "a@c.example", "recipient": "b@s.example", "insecure": True, "timeout": 10.0, **options}
    return Target(host=address.host, port=address.port, **given)


def failed(findings: list[Finding]) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is Outcome.FAIL}


def with_outcome(findings: list[Finding], outcome: Outcome) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is outcome}


# Our own server


def own_app() -> App:
    return accepting(Store())


@pytest.mark.parametrize("backend", BACKENDS)
def test_our_own_server_has_no_fault_on_any_adapter(backend: str) -> None:
    with running(backend, own_app(), config=CONFIG, tls=CONTEXT) as server:
        findings = list(run_checks(target_of(server.server.address)))

    assert not failed(findings)
    assert not with_outcome(findings, Outcome.INCONCLUSIVE)
    only_with_auth = {check.id for check in choose(["auth"])} - {"auth-offered-plaintext", "auth-taken-plaintext"}
    assert with_outcome(findings, Outcome.NOT_APPLICABLE) == only_with_auth | {
        check.id for check in CHECKS if check.lmtp
    }


def test_our_own_LMTP_server_has_no_fault() -> None:
    config = Config(hostname="s.example", bodies=Bodies.CHUNKS, max_message_size=65_536, lmtp=True)
    with running("asyncio", own_app(), config=config, tls=CONTEXT) as server:
        findings = list(run_checks(target_of(server.server.address, lmtp=True)))

    assert not failed(findings)
    assert not with_outcome(findings, Outcome.INCONCLUSIVE)
    assert with_outcome(findings, Outcome.NOT_APPLICABLE) >= {check.id for check in CHECKS if check.lmtp is False}


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_our_own_server_has_no_fault_under_TLS_and_with_AUTH(tls: str) -> None:
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


# Others


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


def test_the_known_faults_of_aiosmtpd_are_found() -> None:
    with process(AIOSMTPD, "aiosmtpd.smtp") as address:
        findings = list(run_checks(target_of(address)))

    # A command ends at a bare LF, addresses are hardly looked at, and a null recipient is taken.
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


def test_the_known_faults_of_Twisted_are_found() -> None:
    with process(TWISTED, "twisted.mail") as address:
        findings = list(run_checks(target_of(address)))

    # A line of more than 16 KiB throws the rest of the message into command mode; parameters are taken unseen.
    assert failed(findings) >= {"limit-text-line-over", "limit-text-line-far-over", "param-unknown", "hello-empty"}
    assert failed(findings) >= {"verb-case", "verb-vrfy", "path-literal", "limit-command-line"}


# Wrong servers


def run_on(serve: Callable[[Peer], None], checks: Sequence[Check] = CHECKS, **options: Any) -> list[Finding]:
    with serving(serve) as address:
        return list(run_checks(target_of(address, **{"timeout": 0.3, **options}), checks))


def test_each_check_can_fail() -> None:
    found = [
        *run_on(careless),
        *run_on(surly),
        *run_on(careless, choose(["lmtp"]), lmtp=True),
        *run_on(surly, choose(["lmtp"]), lmtp=True),
        *run_on(partial(careless, hides_auth=True), choose(["auth"])),
        *run_on(careless, choose(["auth"]), tls="starttls", user="tim"),
    ]

    assert {check.id for check in CHECKS} - failed(found) == set()


# Single checks


def outcome_of(name: str, serve: Callable[[Peer], None], **options: Any) -> tuple[Outcome, str]:
    (finding,) = [finding for finding in run_on(serve, choose([name]), **options) if finding.id == name]
    return finding.outcome, finding.note


def test_a_finding_says_what_was_sent_expected_and_seen() -> None:
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
        note="answered 250 fine",
    )
    assert finding.is_fault


def test_a_warning_is_no_fault() -> None:
    with serving(scripted({})) as address:
        (finding,) = run_checks(target_of(address), choose(["seq-mail-first"]))

    assert finding.outcome is Outcome.FAIL
    assert not finding.is_fault


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"": ""}, "the server has closed the connection"),
        ({"": "554 no\r\n"}, "the connection was answered 554 no"),
        ({"": "HTTP/1.1 400 Bad Request\r\n"}, "this is not a reply: HTTP/1.1 400"),
        ({"": "220 x\r\n", "EHLO": "421 busy\r\n"}, "EHLO was answered 421 busy"),
        ({"": "220 x\r\n", "EHLO": ""}, "EHLO smtpcore-check.example"),
        ({"": "x" * 70_000}, "has more than 65536 octets"),
        ({"": "220-" + "x" * 60_000 + "\r\n220-" + "x" * 60_000 + "\r\n"}, "has more than 65536 octets"),
        ({"": "220"}, "no reply within 0.3 seconds"),
    ],
)
def test_what_is_no_server_cannot_be_checked(replies: dict[str, str], why: str) -> None:
    with pytest.raises(CannotCheck, match="port") as failure:
        run_on(scripted(replies))

    assert why in str(failure.value)


def test_where_no_one_listens_nothing_can_be_checked() -> None:
    with serving(scripted({})) as address:
        pass
    with pytest.raises(CannotCheck, match="refused"):
        list(run_checks(target_of(address)))


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_that_no_one_vouches_for_is_not_taken(tls: str) -> None:
    with (
        running("asyncio", own_app(), config=CONFIG, tls=CONTEXT, implicit_tls=tls == "implicit") as server,
        pytest.raises(CannotCheck, match="certificate"),
    ):
        list(run_checks(target_of(server.server.address, tls=tls, insecure=False)))


def test_a_check_whose_preparation_fails_is_inconclusive() -> None:
    assert outcome_of("seq-rset", scripted({"RCPT": "550 no such user\r\n"})) == (
        Outcome.INCONCLUSIVE,
        "RCPT was answered 550 no such user",
    )
    assert outcome_of("data-header", scripted({"DATA": "354 go\r\n", "MAIL": ""}))[0] is Outcome.INCONCLUSIVE


def test_a_refusal_for_another_reason_says_nothing_about_a_limit() -> None:
    assert outcome_of("limit-domain", scripted({"MAIL": "450 no such domain\r\n"}))[0] is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("size", "name", "why"),
    [
        ("SIZE", "size-declared", "SIZE has no limit"),
        ("SIZE 0", "size-declared", "SIZE has no limit"),
        ("SIZE 99999999", "size-exact", "no more than 1048576 octets are sent"),
        ("HELP", "size-over", "SIZE is not offered"),
        ("AUTH GSSAPI", "auth-cancel", "PLAIN is not offered"),
        ("STARTTLS", "auth-twice", "no one logs in"),
    ],
)
def test_what_is_not_offered_is_not_checked(size: str, name: str, why: str) -> None:
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
def test_a_check_knows_what_is_right_and_what_is_wrong(name: str, replies: dict[str, str], outcome: Outcome) -> None:
    assert outcome_of(name, scripted({"EHLO": WITH_TLS, **replies}))[0] is outcome


def test_a_server_that_hangs_up_on_what_is_too_large_is_right() -> None:
    def impatient(peer: Peer) -> None:
        scripted({"EHLO": "250-s.example\r\n250 SIZE 70000\r\n", "DATA": "354 go\r\n", "FROM:": ""})(peer)

    assert outcome_of("size-over", impatient)[0] is Outcome.PASS


def test_a_server_that_hangs_up_on_an_endless_line_is_right() -> None:
    def short_of_breath(peer: Peer) -> None:
        scripted({"DATA": ""})(peer)
        peer.send("354 go\r\n")
        peer.until(re.compile(rb"x{999}"))
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert outcome_of("limit-text-line-far-over", short_of_breath)[0] is Outcome.PASS


def test_a_server_that_refuses_and_hangs_up_is_right() -> None:
    def strict(peer: Peer) -> None:
        peer.send("220 s.example\r\n")
        peer.until(re.compile(rb"\r\n"))
        peer.send("250 s.example\r\n")
        peer.until(re.compile(rb"\n"))
        peer.send("500 a bare newline\r\n")

    assert outcome_of("line-bare-lf", strict)[0] is Outcome.PASS


def test_a_server_that_forgets_what_came_before_TLS_is_right() -> None:
    def forgetful(peer: Peer) -> None:
        replies = {"EHLO": WITH_TLS, "NOOP": "250 fine\r\n"}
        scripted({**replies, "STARTTLS": ""})(peer)
        peer.send("220 go\r\n")
        peer.input = b""
        peer.start_tls()
        peer.until(re.compile(rb"QUIT\r\n"))
        peer.send("221 bye\r\n")

    assert outcome_of("tls-injection", forgetful)[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("name", "verb", "reply"),
    [
        ("seq-quit", "QUIT", "221 bye\r\n"),
        ("seq-goodbye", "XSMTPCORECHECK", "421 enough\r\n"),
    ],
)
def test_a_goodbye_is_the_last_word(name: str, verb: str, reply: str) -> None:
    def talkative(peer: Peer) -> None:
        scripted({verb: ""})(peer)
        peer.send(reply)
        assert peer.socket.recv(1) == b""  # waits for the client to close

    assert outcome_of(name, scripted({verb: f"{reply}250 one more thing\r\n"}))[0] is Outcome.FAIL
    outcome, note = outcome_of(name, talkative)
    assert outcome is Outcome.FAIL
    assert "no reply" in note


def test_a_keyword_is_listed_once() -> None:
    twice = {"EHLO": "250-s.example\r\n250-SIZE 1\r\n250 size\r\n"}

    assert "listed twice: SIZE SIZE" in outcome_of("reply-keywords", scripted(twice))[1]


def test_the_sample_of_replies_is_inconclusive_if_a_second_connection_fails() -> None:
    greetings = iter(["220 s.example\r\n", "220 s.example\r\n", ""])

    def busy(peer: Peer) -> None:
        scripted({"": next(greetings)})(peer)

    assert outcome_of("reply-form", busy)[0] is Outcome.INCONCLUSIVE


# The parts


def test_checks_have_names_of_their_own_and_are_chosen_by_them() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert [check.id for check in choose(["data-empty"])] == ["data-empty"]
    assert {check.id for check in choose(["smuggling"])} == {
        check.id for check in CHECKS if check.id.startswith("smuggling-")
    }
    assert choose([]) == CHECKS
    with pytest.raises(ValueError, match="there is no check 'smug'"):
        choose(["smug"])


@pytest.mark.parametrize("size", [*range(65_536, 65_536 + 73), 70_000])
def test_a_message_is_filled_up_to_the_octet(size: int) -> None:
    message = Probe(target_of(Address("s.example", 25)), "x").message(b"..\r\n", size=size)

    assert len(message) == size
    assert message.endswith(b"\r\n")
    assert max(map(len, message.split(b"\r\n"))) <= 200


def test_the_wire_says_what_there_is_instead_of_a_reply() -> None:
    def deaf(peer: Peer) -> None:
        peer.send("220 hello\r\n")
        leave.wait(10)

    leave = threading.Event()
    with serving(deaf) as address:
        wire = Wire(target_of(address, timeout=0.2))
        assert wire.reply().code == 220
        with pytest.raises(Silent, match="no reply within"):
            wire.reply()
        with pytest.raises(Silent, match="takes nothing"):
            wire.send(b"x" * 50_000_000)
        wire.close()
        leave.set()


def test_a_broken_connection_is_told() -> None:
    def send_much() -> None:
        for _ in range(100):
            wire.send(b"x" * 100_000)

    with serving(lambda peer: None) as address:
        wire = Wire(target_of(address, timeout=1))
        assert wire.has_ended()
        with pytest.raises(HungUp, match="broke"):
            send_much()
        wire.close()


def test_what_is_shown_has_nothing_unprintable_and_is_short() -> None:
    assert printable(b"a\r\n\t\\\x00\xff") == "a\\r\\n\\t\\\\\\x00\\xff"
    assert printable(b"x" * 1000).count("x") == 240
    assert "...1000 octets..." in printable(b"x" * 1000)
