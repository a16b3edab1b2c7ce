"""The checks of limits."""

import re
import socket
import struct

import pytest

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of
from tests.adapters.peers import Peer


def test_limit_check_is_inconclusive_if_the_command_is_refused_for_another_reason() -> None:
    assert outcome_of("limit-domain", scripted({"MAIL": "450 no such domain\r\n"}))[0] is Outcome.INCONCLUSIVE


def test_server_may_close_the_connection_on_an_oversized_message() -> None:
    def closes_after_data(peer: Peer) -> None:
        scripted({"EHLO": "250-s.example\r\n250 SIZE 70000\r\n", "DATA": "354 go\r\n", "FROM:": ""})(peer)

    assert outcome_of("size-over", closes_after_data)[0] is Outcome.PASS


def test_server_may_close_the_connection_on_an_overlong_line() -> None:
    def resets_during_data(peer: Peer) -> None:
        scripted({"DATA": ""})(peer)
        peer.send(b"354 go\r\n")
        peer.until(re.compile(rb"x{999}"))
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert outcome_of("limit-text-line-far-over", resets_during_data)[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("offered", "name", "why"),
    [
        ("SIZE", "size-declared", "SIZE without a limit"),
        ("SIZE 0", "size-declared", "SIZE without a limit"),
        ("SIZE 99999999", "size-exact", "this check sends at most 1048576 octets"),
        ("HELP", "size-over", "SIZE is not offered"),
    ],
)
def test_check_of_an_extension_not_offered_is_not_applicable(offered: str, name: str, why: str) -> None:
    outcome, note = outcome_of(name, scripted({"EHLO": f"250-s.example\r\n250 {offered}\r\n"}))

    assert outcome is Outcome.NOT_APPLICABLE
    assert why in note
