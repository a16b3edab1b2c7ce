"""The checks of message bodies."""

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of


def test_check_is_inconclusive_if_the_connection_is_closed_before_the_body() -> None:
    replies = {"DATA": "354 go\r\n", "MAIL": ""}
    assert outcome_of("data-header", scripted(replies))[0] is Outcome.INCONCLUSIVE


def test_server_may_close_the_connection_on_a_nul() -> None:
    replies = {"DATA": "354 go\r\n", "FROM:": ""}
    assert outcome_of("data-nul", scripted(replies))[0] is Outcome.PASS
