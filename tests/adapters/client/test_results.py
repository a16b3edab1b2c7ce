"""The result of sending a message, and the errors of a client."""

import pytest

from smtpcore import Mailbox, Path, Reply
from smtpcore_adapters import Disconnected, Refused, SendResult

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
