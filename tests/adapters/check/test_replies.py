"""The checks of the form of replies."""

from itertools import chain, repeat

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of
from tests.adapters.peers import Peer


def test_keyword_listed_twice_is_reported() -> None:
    duplicated = {"EHLO": "250-s.example\r\n250-SIZE 1\r\n250 size\r\n"}

    assert "listed twice: SIZE SIZE" in outcome_of("reply-keywords", scripted(duplicated))[1]


def test_reply_form_check_is_inconclusive_if_a_further_connection_fails() -> None:
    greeting = "220 s.example\r\n"
    greetings = chain([greeting, greeting, ""], repeat(greeting))

    def refuses_third_connection(peer: Peer) -> None:
        scripted({"": next(greetings)})(peer)

    assert outcome_of("reply-form", refuses_third_connection)[0] is Outcome.INCONCLUSIVE


def test_check_fails_for_a_reply_with_a_malformed_separator() -> None:
    assert outcome_of("reply-form", scripted({"NOOP": "250=fine\r\n"}))[0] is Outcome.FAIL
