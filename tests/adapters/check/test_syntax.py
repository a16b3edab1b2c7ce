"""The checks of the syntax of commands."""

import re

import pytest

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of
from tests.adapters.peers import Peer


def test_server_may_refuse_a_bare_newline_and_close_the_connection() -> None:
    def refuses_and_closes(peer: Peer) -> None:
        peer.send(b"220 s.example\r\n")
        peer.until(re.compile(rb"\r\n"))
        peer.send(b"250 s.example\r\n")
        peer.until(re.compile(rb"\n"))
        peer.send(b"500 a bare newline\r\n")

    assert outcome_of("line-bare-lf", refuses_and_closes)[0] is Outcome.PASS


@pytest.mark.parametrize("reply", ["", "500 bare\r\n421 and bye\r\n", "500 bare\r\n250 OK\r\n", "250 both lines\r\n"])
def test_server_may_refuse_a_bare_newline(reply: str) -> None:
    assert outcome_of("line-bare-lf", scripted({"NOOP\nNOOP": reply}))[0] is Outcome.PASS
