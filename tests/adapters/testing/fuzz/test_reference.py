"""The reference in memory obeys all laws, and refuses what another server has refused."""

import pytest

from smtpcore import Config
from smtpcore_adapters.testing.fuzz import Credentials, Fuzzer, Settings
from smtpcore_adapters.testing.fuzz._reference import MemoryPeer, Reference
from smtpcore_adapters.testing.steps import AuthStep, LineStep

from .runs import HELLO, MAIL, RCPT, RECIPIENTS, play_at
from .servers import SmallServer

OFFERS = frozenset({"PIPELINING", "8BITMIME", "CHUNKING", "SIZE", "SMTPUTF8", "STARTTLS"})


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("offers", [OFFERS, frozenset[str]()], ids=["all", "none"])
def test_reference_has_no_finding(lmtp: bool, offers: frozenset[str]) -> None:
    settings = Settings(examples=330, recipients=RECIPIENTS, lmtp=lmtp)
    report = Fuzzer(lambda: Reference(offers, [], lmtp=lmtp), settings).run()

    assert (report.findings, report.wrong_laws, report.unstable) == ([], [], [])


def test_login_is_accepted_with_and_without_an_initial_response() -> None:
    login = (AuthStep("PLAIN", b"AHUAcA=="),)
    settings = Settings(examples=1, login=(HELLO, AuthStep("PLAIN", None, (b"AHUAcA==",))))

    for each in (settings, Settings(examples=1, login=(HELLO, *login))):
        assert Fuzzer(lambda: Reference(OFFERS, []), each).run().notes == []


def test_reference_has_no_finding_with_logins_and_xclient() -> None:
    offers = OFFERS | {"XCLIENT"}
    settings = Settings(examples=400, recipients=RECIPIENTS, credentials=Credentials("user", "password"))
    fuzzer = Fuzzer(lambda: Reference(offers, [], credentials=settings.credentials), settings)
    report = fuzzer.run()

    assert (report.findings, report.wrong_laws, report.unstable) == ([], [], [])


class RefusesRecipients(SmallServer):
    def may_add_recipient(self) -> bool:
        return False


def test_refused_recipient_is_refused_by_the_reference_too() -> None:
    evidence = play_at(RefusesRecipients, HELLO, MAIL, RCPT, LineStep(b"RCPT TO:x"))
    reference = Reference(OFFERS, evidence.recordings)
    reference.receive(1)
    reference.send([b"EHLO c\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\n"], 1)

    assert reference.receive(1).splitlines()[-2:] == [b"250 2.1.0 Sender accepted", b"550 5.0.0 Refused"]


def test_connection_that_cannot_continue_is_over() -> None:
    peer = MemoryPeer(Config(hostname="s.example"))
    peer.receive(1)
    with pytest.raises(TimeoutError):
        peer.receive(1)
    peer.send([b"BDAT x\r\n"], 1)
    while peer.receive(1):
        pass
    peer.send([b"NOOP\r\n"], 1)

    assert peer.receive(1) == b""
