"""Faults in transactions and in messages are found by the check for each."""

from collections.abc import Callable

import pytest

from smtpcore_adapters.check import Outcome, Severity
from tests.adapters.check.clients.broken_clients import (
    BROKEN_TRANSACTIONS,
    HEADER,
    Correct,
    IgnoresRefusedRecipient,
)
from tests.adapters.check.clients.helpers import failed, finding_of, run_on


@pytest.mark.parametrize("client", BROKEN_TRANSACTIONS)
def test_fault_is_found_by_the_check_for_it_only(client: Callable[[], Correct]) -> None:
    assert failed(run_on(client())) == BROKEN_TRANSACTIONS[client]


class TwoRecipients(IgnoresRefusedRecipient):
    """A client that sends its message to the accepted recipients, and reports success if all were accepted."""

    def end(self) -> bool:
        return super().end() and self.second == 250


class TriesAgain(TwoRecipients):
    def end(self) -> bool:
        is_sent = super().end()
        if not is_sent:
            self.mail()
            self.second = self.ask(b"RCPT TO:<c@s.example>")
            self.data(self.ask(b"DATA"))
            self.send(self.stuffed(self.message()) + b".\r\n")
            is_sent = super().end()
        return is_sent


@pytest.mark.parametrize(
    ("client", "outcome"),
    [
        (Correct, Outcome.NOT_APPLICABLE),
        (TwoRecipients, Outcome.PASS),
        (TriesAgain, Outcome.PASS),
        (IgnoresRefusedRecipient, Outcome.FAIL),
    ],
)
def test_success_is_not_reported_if_a_recipient_was_refused(client: Callable[[], Correct], outcome: Outcome) -> None:
    finding = finding_of("recipients-partly-refused", client())

    assert (finding.outcome, finding.severity) == (outcome, Severity.WARNING)


def test_message_without_dots_does_not_test_the_doubling_of_dots() -> None:
    class SendsNoDots(Correct):
        def message(self) -> bytes:
            return HEADER

    assert finding_of("body-dots", SendsNoDots()).outcome is Outcome.NOT_APPLICABLE


def test_message_without_header_is_judged() -> None:
    class SendsNoHeader(Correct):
        def message(self) -> bytes:
            return b"hello\r\n"

    assert finding_of("body-smtputf8", SendsNoHeader()).outcome is Outcome.PASS


def test_client_that_sends_no_message_is_not_judged_by_its_message() -> None:
    class Leaves(Correct):
        def rcpt(self, code: int) -> None:
            self.leave()

    finding = finding_of("body-line-ends", Leaves())

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert finding.note.startswith("the client did not send a message: ")
