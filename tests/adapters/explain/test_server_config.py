"""The server configuration that follows from a recording."""

from smtpcore import Config
from smtpcore_adapters.explain import join, read
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


EXPN = ("C: EXPN staff", "S: 250-AUTH X-OTHER", "S: 250-SIZE 99999999", "S: 250 SMTPUTF8 <u@s.example>")
OFFERS = ("S: 250-s.example", "S: 250 SIZE 70000")


def test_keywords_are_only_in_the_reply_to_hello() -> None:
    made = config(GREETING, "C: EHLO c.example", *OFFERS, *EXPN, "C: HELO c.example", "S: 250-s", "S: 250 CHUNKING")

    assert made.max_message_size == 70_000
    assert made.auth_mechanisms == ("PLAIN", "LOGIN", "CRAM-MD5")
    assert made.disabled >= {"SMTPUTF8", "CHUNKING"}


def test_line_of_a_body_is_not_a_hello() -> None:
    body = ("C: EHLO c.example", "S: 250-taken", "S: 250 SMTPUTF8")

    assert "SMTPUTF8" in config(GREETING, "C: EHLO c.example", *OFFERS, "C: DATA", "S: 354 go", *body).disabled


def test_each_hello_of_a_session_may_offer_more() -> None:
    again = ("C: STARTTLS", "S: 220 go", "C: EHLO c.example", "S: 250-s.example", "S: 250 SMTPUTF8")
    made = config(GREETING, "C: EHLO c.example", *OFFERS, *again)

    assert made.max_message_size == 70_000
    assert "SMTPUTF8" not in made.disabled


def test_client_may_begin_before_the_greeting_or_without_one() -> None:
    hello = ("C: EHLO c.example", "C: NOOP")

    assert config(*hello, GREETING, *OFFERS, "S: 250 OK").max_message_size == 70_000
    assert config(*hello, *OFFERS, "S: 250 OK").max_message_size == 70_000


def test_lines_and_replies_of_two_files_are_paired_by_position() -> None:
    client = b"EHLO c\r\nEXPN staff\r\nSTARTTLS\r\nEHLO c\r\nDATA\r\nEHLO c\r\n"
    offers = b"250-s\r\n250 SIZE 70000\r\n"
    server = b"220 s\r\n%b250-a\r\n250 DSN\r\n220 go\r\n250-s\r\n250 CHUNKING\r\n354 go\r\n250-s\r\n250 SMTPUTF8\r\n"
    made = config_of(join(client, server % offers))

    assert made.max_message_size == 70_000
    assert made.disabled >= {"DSN", "SMTPUTF8"}
    assert "CHUNKING" not in made.disabled
