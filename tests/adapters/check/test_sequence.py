"""The checks of the order of commands."""

import pytest

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of
from tests.adapters.peers import Peer


@pytest.mark.parametrize(
    ("name", "verb", "reply"),
    [
        ("seq-quit", "QUIT", "221 bye\r\n"),
        ("seq-goodbye", "XSMTPCORECHECK", "421 enough\r\n"),
    ],
)
def test_check_fails_if_the_server_sends_more_after_its_last_reply(name: str, verb: str, reply: str) -> None:
    def stays_open(peer: Peer) -> None:
        scripted({verb: ""})(peer)
        peer.send(reply.encode())
        assert peer.receive() == b""  # wait for the client to close

    assert outcome_of(name, scripted({verb: f"{reply}250 one more thing\r\n"}))[0] is Outcome.FAIL
    outcome, note = outcome_of(name, stays_open)
    assert outcome is Outcome.FAIL
    assert "no reply" in note
