"""The checks pass on our own server, find the known faults of other servers, and each check can fail."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from smtpcore import Bodies, Config
from smtpcore_adapters import Address, App
from smtpcore_adapters.check import CHECKS, CannotCheck, Outcome, choose, run_checks
from smtpcore_adapters.check._checks import Probe
from smtpcore_adapters.users import Users
from tests.adapters.check.faulty_servers import (
    CONTEXT,
    accept_everything,
    object_to_variants,
    refuse_almost_everything,
    scripted,
)
from tests.adapters.check.helpers import failed, outcome_of, run_on, target_of, with_outcome
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import BACKENDS, running
from tests.adapters.peers import serving

CONFIG = Config(hostname="s.example", bodies=Bodies.CHUNKS, max_message_size=65_536)


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


def test_each_check_can_fail() -> None:
    found = [
        *run_on(accept_everything),
        *run_on(refuse_almost_everything),
        *run_on(object_to_variants, choose(["data", "limit", "pipelining", "seq", "size"])),
        *run_on(object_to_variants, choose(["lmtp-replies"]), lmtp=True),
        *run_on(accept_everything, choose(["lmtp"]), lmtp=True),
        *run_on(refuse_almost_everything, choose(["lmtp"]), lmtp=True),
        *run_on(partial(accept_everything, hides_auth=True), choose(["auth"])),
        *run_on(accept_everything, choose(["auth"]), tls="starttls", user="tim"),
    ]

    assert {check.id for check in CHECKS} - failed(found) == set()


# Single checks


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"": ""}, "the server closed the connection"),
        ({"": "554 no\r\n"}, "the reply to the connection was: 554 no"),
        ({"": "HTTP/1.1 400 Bad Request\r\n"}, "a line that is not a reply: HTTP/1.1 400"),
        ({"": "220 x\r\n", "EHLO": "421 busy\r\n"}, "the reply to EHLO was: 421 busy"),
        ({"": "220 x\r\n", "EHLO": ""}, "EHLO c.example"),
        ({"": "x" * 70_000}, "has more than 65536 octets"),
        ({"": "220-" + "x" * 60_000 + "\r\n220-" + "x" * 60_000 + "\r\n"}, "has more than 65536 octets"),
    ],
)
def test_run_fails_if_the_peer_does_not_act_like_an_smtp_server(replies: dict[str, str], why: str) -> None:
    with pytest.raises(CannotCheck, match="port") as failure:
        run_on(scripted(replies))

    assert why in str(failure.value)


def test_run_fails_if_the_peer_sends_no_complete_greeting() -> None:
    with pytest.raises(CannotCheck, match=r"port .* no reply within 7 seconds"):
        run_on(scripted({"": "220"}), timeout=7.0)


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


# Selection of checks, and messages


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
