"""The model of a session: the codes that refuse commands out of sequence, and the changes of the state."""

import pytest

from smtpcore_adapters.testing._session_model import SessionModel

FREE, WRONG, EMPTY = frozenset[int](), frozenset({503}), frozenset({503, 554})


@pytest.mark.parametrize(
    ("model", "free"),
    [
        (SessionModel(), "EHLO RSET STARTTLS XCLIENT"),
        (SessionModel(hello=True), "EHLO RSET STARTTLS XCLIENT MAIL AUTH"),
        (SessionModel(hello=True, authenticated=True, tls=True), "EHLO RSET XCLIENT MAIL"),
        (SessionModel(hello=True, sender=b""), "EHLO RSET STARTTLS RCPT"),
        (SessionModel(hello=True, sender=b"", recipients=[b"u"]), "EHLO RSET STARTTLS RCPT DATA BDAT"),
        (SessionModel(hello=True, sender=b"", recipients=[b"u"], chunks=b""), "EHLO RSET STARTTLS BDAT"),
        (SessionModel(hello=True, sender=b"", recipients=[b"u"], spoiled=True), "EHLO RSET STARTTLS"),
        (SessionModel(refuses=True), "QUIT"),
    ],
    ids=["connected", "ready", "logged in", "sender", "recipient", "chunk", "refused chunk", "refused client"],
)
def test_only_commands_in_sequence_are_free(model: SessionModel, free: str) -> None:
    verbs = ["EHLO", "RSET", "STARTTLS", "XCLIENT", "MAIL", "AUTH", "RCPT", "DATA", "BDAT"]

    assert [verb for verb in [*verbs, "QUIT"] if not model.objection(verb)] == (
        ["QUIT"] if model.refuses else [*[verb for verb in verbs if verb in free.split()], "QUIT"]
    )


def test_body_without_recipients_may_be_refused_with_554() -> None:
    assert SessionModel(hello=True, sender=b"").objection("DATA") == EMPTY
    assert SessionModel(hello=True).objection("DATA") == WRONG


def test_tls_and_xclient_begin_again() -> None:
    model = SessionModel(hello=True, sender=b"", authenticated=True)
    model.start_tls()
    assert model == SessionModel(tls=True)

    model = SessionModel(hello=True)
    model.change_client(authenticated=True)
    assert model == SessionModel(authenticated=True)


def test_chunks_join_to_a_message() -> None:
    model = SessionModel(sender=b"a", recipients=[b"u"])

    assert model.end_chunk(b"1", last=False, accepted=True) is None
    assert model.end_chunk(b"2", last=True, accepted=True) == (b"a", (b"u",), b"12")
    assert model == SessionModel()


def test_refused_chunk_spoils_the_transaction() -> None:
    model = SessionModel(sender=b"a", recipients=[b"u"])
    model.end_chunk(b"1", last=False, accepted=False)

    assert model.spoiled
    assert SessionModel(sender=b"a").end_body(b"", accepted=False) is None
