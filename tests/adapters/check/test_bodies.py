"""The checks of message bodies."""

import re

import pytest

from smtpcore_adapters.check import Outcome
from smtpcore_adapters.check._bodies import _NO_ENDS
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of


def test_check_is_inconclusive_if_the_connection_is_closed_before_the_body() -> None:
    replies = {"DATA": "354 go\r\n", "MAIL": ""}
    assert outcome_of("data-header", scripted(replies))[0] is Outcome.INCONCLUSIVE


def test_server_may_close_the_connection_after_a_nul() -> None:
    replies = {"DATA": "354 go\r\n", "FROM:": ""}
    assert outcome_of("data-nul", scripted(replies))[0] is Outcome.PASS


@pytest.mark.parametrize("name", [name for name in _NO_ENDS if re.fullmatch("((cr|lf)+)-((cr|lf)+)", name)])
def test_smuggling_check_is_named_after_its_line_ends(name: str) -> None:
    assert _NO_ENDS[name].decode() == name.replace("cr", "\r").replace("lf", "\n").replace("-", ".")


@pytest.mark.parametrize("name", _NO_ENDS)
def test_smuggling_check_does_not_send_the_true_end_of_a_message(name: str) -> None:
    assert b"\r\n.\r\n" not in b"first" + _NO_ENDS[name] + b"RSET\r\nNOOP\r\nlast"
