"""The result of sending a message, and the errors of a client."""

import pytest

from smtpcore import Mailbox, Path, Rcpt, Reply
from smtpcore_adapters import Disconnected, Outcome, RecipientsRefused, Refused, SendResult

ONE = Path("b@s.example")
TWO = Path("c@s.example")
OK = Reply(250, "taken")
NO = Reply(550, "no")


def test_recipients_are_accepted_or_refused_by_their_replies() -> None:
    result = SendResult({ONE: OK, TWO: NO}, OK)
    assert result.accepted == (ONE,)
    assert result.refused == {TWO: NO}
    assert result.final == OK


@pytest.mark.parametrize("recipient", [ONE, "b@s.example", Mailbox("b@s.example")])
def test_result_is_a_mapping_from_recipients_to_replies(recipient: Path | str | Mailbox) -> None:
    result = SendResult({ONE: OK, TWO: NO}, OK)
    assert result[recipient] == OK
    assert dict(result) == {ONE: OK, TWO: NO}
    assert len(result) == 2
    with pytest.raises(KeyError):
        result["d@s.example"]


@pytest.mark.parametrize("kind", [Refused, Disconnected])
def test_error_has_the_reply_of_the_server(kind: type[Refused | Disconnected]) -> None:
    error = kind("the server closes the session", Reply(421, "bye"))
    assert error.reply == Reply(421, "bye")
    assert str(error) == "the server closes the session: 421 bye"
    assert kind("no STARTTLS").reply is None
    assert str(kind("no STARTTLS")) == "no STARTTLS"


def test_result_made_of_replies_has_an_outcome_for_each_recipient() -> None:
    assert SendResult({ONE: OK, TWO: NO}, OK).outcomes == (Outcome(Rcpt(ONE), OK), Outcome(Rcpt(TWO), NO))


def test_exception_names_the_server_and_the_step_of_the_refusal() -> None:
    outcomes = [Outcome(Rcpt(ONE), OK, "message"), Outcome(Rcpt(TWO), NO, "RCPT")]
    with pytest.raises(Refused, match=r"^s\.example:25: .* of 2 recipients, in reply to RCPT: 550 no$"):
        SendResult.of(outcomes, OK, "s.example:25").raise_for_refused()
    with pytest.raises(Refused, match=r", in reply to the message: 550 no$"):
        SendResult.of([Outcome(Rcpt(TWO), NO, "message")], NO).raise_for_refused()


def test_temporary_refusals_are_deferred() -> None:
    later, bye = Reply(451, "later"), Reply(421, "bye")
    result = SendResult({ONE: later, TWO: NO, Path("d@s.example"): bye}, bye)
    assert result.deferred == {ONE: later, Path("d@s.example"): bye}


def test_refusal_becomes_an_exception_on_request() -> None:
    taken = SendResult({ONE: OK}, OK)
    assert taken.raise_for_refused() is taken

    result = SendResult({ONE: OK, TWO: NO}, OK)
    with pytest.raises(RecipientsRefused, match=r"^the message was refused for c@s\.example, 1 of 2 recipients: 550"):
        result.raise_for_refused()

    result = SendResult({ONE: NO, TWO: NO}, NO)
    with pytest.raises(
        Refused, match=r"^the message was refused for b@s\.example and 1 more, 2 of 2 recipients"
    ) as error:
        result.raise_for_refused()
    assert isinstance(error.value, RecipientsRefused)
    assert error.value.result is result
    assert error.value.reply == NO


def test_recipient_may_be_written_as_it_was_given() -> None:
    result = SendResult({ONE: NO}, NO)
    for given in ("b@s.example", "Tim <b@s.example>", ONE, Mailbox("b@s.example")):
        assert result[given] == NO
        assert given in result


@pytest.mark.parametrize("other", ["d@s.example", "no address", "b@s.example, c@s.example", "b@s.example\n"])
def test_text_that_is_no_recipient_of_the_result_is_not_in_it(other: str) -> None:
    result = SendResult({ONE: NO}, NO)
    assert other not in result
    with pytest.raises(KeyError):
        result[other]
