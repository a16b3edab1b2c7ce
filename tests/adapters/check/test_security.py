"""The checks of TLS and AUTH."""

import re

import pytest

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import CONTEXT, scripted
from tests.adapters.check.helpers import outcome_of
from tests.adapters.peers import Peer

WITH_TLS = "250-s.example\r\n250 STARTTLS\r\n"


def test_check_passes_if_plaintext_commands_after_starttls_are_discarded() -> None:
    def discards_early_input(peer: Peer) -> None:
        replies = {"EHLO": WITH_TLS, "NOOP": "250 fine\r\n"}
        scripted({**replies, "STARTTLS": ""})(peer)
        peer.send(b"220 go\r\n")
        peer.input = b""
        peer.start_tls(CONTEXT)
        peer.until(re.compile(rb"QUIT\r\n"))
        peer.send(b"221 bye\r\n")

    assert outcome_of("tls-injection", discards_early_input)[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("name", "replies", "outcome"),
    [
        ("tls-injection", {"STARTTLS": "454 not now\r\n"}, Outcome.PASS),
        ("tls-injection", {"STARTTLS": ""}, Outcome.PASS),
        ("tls-injection", {"STARTTLS": "220 go\r\n250 and on\r\n"}, Outcome.FAIL),
        ("tls-forgets-transaction", {"MAIL": "530 TLS first\r\n"}, Outcome.NOT_APPLICABLE),
        ("tls-forgets-transaction", {"STARTTLS": "454 not now\r\n"}, Outcome.PASS),
        ("auth-taken-plaintext", {"AUTH": "504 not without TLS\r\n"}, Outcome.PASS),
    ],
)
def test_check_distinguishes_correct_from_faulty_servers(name: str, replies: dict[str, str], outcome: Outcome) -> None:
    assert outcome_of(name, scripted({"EHLO": WITH_TLS, **replies}))[0] is outcome


def test_check_is_inconclusive_if_the_server_does_not_start_tls() -> None:
    def refuses_handshake(peer: Peer) -> None:
        scripted({"EHLO": WITH_TLS, "STARTTLS": ""})(peer)
        peer.send(b"220 go\r\n").receive()
        peer.send(b"500 what\r\n").close()

    assert outcome_of("tls-twice", refuses_handshake)[0] is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("offered", "name", "why"),
    [
        ("AUTH GSSAPI", "auth-cancel", "PLAIN is not offered"),
        ("STARTTLS", "auth-twice", "the target has no user"),
    ],
)
def test_check_of_an_extension_not_offered_is_not_applicable(offered: str, name: str, why: str) -> None:
    outcome, note = outcome_of(name, scripted({"EHLO": f"250-s.example\r\n250 {offered}\r\n"}))

    assert outcome is Outcome.NOT_APPLICABLE
    assert why in note
