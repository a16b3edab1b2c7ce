"""The server configuration that follows from a recording."""

from smtpcore import Config
from smtpcore_adapters.explain import read
from smtpcore_adapters.explain._server_config import config_of
from tests.adapters.explain.dialogues import DATA, GREETING, HELLO, QUIT, explained, found


def config(*texts: str) -> Config:
    (recording,) = read("\n".join(texts).encode())
    return config_of(recording)


def test_offered_extensions_are_enabled() -> None:
    offers = ("S: 250-s.example", "S: 250-SIZE 70000", "S: 250-SMTPUTF8", "S: 250-AUTH LOGIN", "S: 250 BINARYMIME")
    made = config(GREETING, "C: EHLO c.example", *offers)
    assert made.max_message_size == 70_000
    assert made.auth_mechanisms == ("LOGIN",)
    # SMTPUTF8 needs 8BITMIME, and BINARYMIME needs CHUNKING.
    assert not made.disabled & {"SIZE", "SMTPUTF8", "8BITMIME", "BINARYMIME", "CHUNKING"}
    assert made.disabled >= {"PIPELINING", "DSN"}
    assert not made.starttls


def test_all_extensions_are_enabled_if_only_the_client_was_recorded() -> None:
    made = config("C: EHLO c.example", "C: QUIT")
    assert made.disabled == frozenset()
    assert made.starttls


def test_accepted_lhlo_gives_an_lmtp_configuration() -> None:
    assert config(GREETING, "C: LHLO c.example", "S: 250 s.example").lmtp
    assert not config(GREETING, "C: LHLO c.example", "S: 500 no", "C: EHLO c.example", "S: 250 s.example").lmtp


def test_body_line_with_lhlo_does_not_make_an_lmtp_session() -> None:
    assert found(explained(*HELLO, *DATA, "C: LHLO c.example", "C: .", "S: 250 taken", *QUIT)) == []
