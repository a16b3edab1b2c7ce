"""The checks of the order of commands."""

import pytest

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of
from tests.adapters.peers import Peer, Serve
from tests.playbook import GO_AHEAD, GREETING, OK, offer


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


def with_recipients(*, kept_after: str, may_begin: bool = False) -> Serve:
    """Return a server that keeps recipients after a command or a `message`.

    With `may_begin`, it replies 354 without recipients too, and refuses the message.
    """

    def serve(peer: Peer) -> None:
        recipients = 0
        peer.send(GREETING)
        while True:
            line = peer.until(b"\r\n").decode()
            verb = line.split()[0].upper()
            if verb in ("EHLO", "LHLO", "RSET"):
                recipients = recipients if verb == kept_after else 0
            if verb == "DATA" and (recipients or may_begin):
                peer.send(GO_AHEAD).until(b"\r\n.\r\n")
                peer.send(OK if recipients else b"554 no recipients\r\n")
                recipients = recipients if kept_after == "message" else 0
            else:
                recipients += verb == "RCPT"
                peer.send(b"503 no recipients\r\n" if verb == "DATA" else offer() if verb[1:] == "HLO" else OK)

    return serve


@pytest.mark.parametrize(
    ("name", "command"),
    [("seq-rset-recipients", "RSET"), ("seq-hello-recipients", "EHLO"), ("seq-message-recipients", "message")],
)
def test_recipients_that_survive_are_found(name: str, command: str) -> None:
    assert outcome_of(name, with_recipients(kept_after=command)) == (Outcome.FAIL, "the reply was: 250 OK")
    others = {"RSET": "message", "EHLO": "RSET", "message": "EHLO"}
    assert outcome_of(name, with_recipients(kept_after=others[command]))[0] is Outcome.PASS
    assert outcome_of(name, with_recipients(kept_after="", may_begin=True))[0] is Outcome.PASS


def test_data_without_recipients_is_a_failure_in_lmtp() -> None:
    outcome, note = outcome_of("seq-rset-recipients", with_recipients(kept_after="RSET"), lmtp=True)
    assert outcome is Outcome.FAIL
    assert note.startswith("the reply was: 354")
