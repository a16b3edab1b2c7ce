"""The AUTH command (RFC 4954), without the mechanisms, which are in `sasl`."""

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import (
    Auth,
    AuthCancel,
    AuthResponse,
    Challenge,
    Connection,
    ConnectionClosed,
    Event,
    InvalidCommand,
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Reply,
    Signal,
    State,
    Submitter,
    Wait,
)
from smtpcore._extensions._auth import AUTH as AUTH_PARAMETER

from ...playbook import GREETED, HELO, MAIL, RCPT, READY, ServerPlaybook, accept, answer_with, server
from .helpers import (
    ALL,
    announced,
    assert_limit_grows,
    assert_round_trip,
    refusal_of,
    relayed,
)

SECRET = b"\0user\0pass"
BASE64 = b64encode(SECRET)
AUTH = READY + b"AUTH PLAIN\r\n"
FROM = b"MAIL FROM:<a@c.example>\r\n"
DONE = b"AUTH PLAIN " + BASE64 + b"\r\n"
OFFERED: dict[str, Any] = {"auth_mechanisms": ("CRAM-MD5", "PLAIN"), "plaintext_auth": True}


def answer(conn: Connection, event: Event) -> Reply:
    """Challenge a client without a response, and accept the right secret."""
    match event:
        case Auth(initial_response=None):
            return Challenge(b"")
        case Auth(initial_response=data) | AuthResponse(data):
            return Reply(235) if data == SECRET else Challenge(b"more") if data == b"" else conn.default_reply(event)
        case _:
            return accept(conn, event)


def auth_server(before: bytes = GREETED, **changes: Any) -> ServerPlaybook:
    return server(before, answer=answer, **OFFERED | changes)


@pytest.mark.parametrize(
    ("before", "data", "expected"),
    [
        pytest.param(READY, DONE + FROM, [235, 250], id="R4954-4-24, R4954-4-35"),
        pytest.param(READY, DONE + DONE + b"AUTH CRAM-MD5\r\n" + FROM, [235, 503, 503, 250], id="R4954-4-01"),
        pytest.param(READY, DONE + READY + DONE, [235, 250, 503], id="R4954-4-01: after EHLO"),
        pytest.param(MAIL, DONE + b"RCPT TO:<u@s.example>\r\n", [503, 250], id="R4954-4-02"),
        pytest.param(RCPT, DONE + b"DATA\r\n.\r\n" + DONE, [503, 354, 250, 235], id="R4954-4-02: after the message"),
        pytest.param(RCPT, b"BDAT 1\r\na" + DONE, [250, 503], id="R4954-4-02: between chunks"),
        pytest.param(GREETED, DONE + READY, [503, 250], id="before EHLO"),
        pytest.param(READY, b"AUTH FOO\r\nAUTH XOAUTH2 eA==\r\n", [504, 504], id="R4954-4-03"),
        pytest.param(
            READY, b"AUTH\r\nAUTH \r\nAUTH PLA!N\r\nAUTH " + b"X" * 21 + b"\r\n", [501] * 4, id="invalid mechanism name"
        ),
        pytest.param(AUTH, b"*\r\n" + DONE, [501, 235], id="R4954-4-07"),
        pytest.param(AUTH, BASE64 + b"\r\nNOOP\r\n", [235, 250], id="R4954-4-08"),
        pytest.param(AUTH, b"\r\n" + BASE64 + b"\r\n", [334, 235], id="R4954-4-08: an empty response"),
        pytest.param(READY, b"AUTH PLAIN =\r\n" + BASE64 + b"\r\n", [334, 235], id="R4954-4-11"),
        pytest.param(AUTH, b"not*base64\r\n" + FROM, [501, 250], id="R4954-4-14"),
        pytest.param(READY, b"AUTH PLAIN !\r\nAUTH PLAIN x y\r\n", [501, 501], id="R4954-4-14: initial response"),
        pytest.param(AUTH, b"eHl6\r\n" + DONE, [535, 235], id="R4954-4-23, R4954-4-29"),
        pytest.param(READY, b"auth plain " + BASE64 + b"\r\n", [235], id="R4954-8-01"),
        pytest.param(HELO, DONE, [235], id="after HELO"),
        pytest.param(AUTH, b"QUIT\r\n" + b"QUIT\r\n", [535, 221], id="QUIT as a response"),
    ],
)
def test_auth_replies_follow_rfc_4954(before: bytes, data: bytes, expected: list[int]) -> None:
    assert auth_server(before).send(data).codes == expected


@pytest.mark.parametrize(
    ("before", "data", "status"),
    [
        pytest.param(READY, DONE, "235 2.7.0 ", id="R4954-6-01"),
        pytest.param(READY, b"AUTH FOO\r\n", "504 5.5.4 ", id="R4954-4-04"),
        pytest.param(READY, b"AUTH PLAIN eA==\r\n", "535 5.7.8 ", id="R4954-6-05"),
        pytest.param(AUTH, b"%\r\n", "501 5.5.2 ", id="R4954-4-14"),
        pytest.param(AUTH, b"*\r\n", "501 5.7.0 ", id="R4954-4-07"),
        pytest.param(AUTH, b"x" * 20_000 + b"\r\n", "500 5.5.6 ", id="R4954-4-20"),
        pytest.param(MAIL, DONE, "503 5.5.1 ", id="R4954-4-02"),
        pytest.param(READY + DONE, DONE, "503 5.5.1 ", id="R4954-4-01"),
    ],
)
def test_replies_to_auth_have_enhanced_status_codes(before: bytes, data: bytes, status: str) -> None:
    auth_server(before).send(data).expect(f"{status}...")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        pytest.param(Reply(432), "432 4.7.12 ...", id="R4954-6-02"),
        pytest.param(Reply(454), "454 4.7.0 ...", id="R4954-6-03"),
        pytest.param(Reply(534), "534 5.7.9 ...", id="R4954-6-04"),
    ],
)
def test_auth_can_be_refused_with_432_454_or_534(reply: Reply, text: str) -> None:
    book = server(READY, answer=answer_with(Auth, reply), **OFFERED).send(DONE).expect(text)

    assert (book.state, book.connection.authenticated) == (State.READY, False)


# The exchange


def test_challenges_and_responses_alternate_until_the_final_reply() -> None:
    """R4954-4-05, R4954-4-06, R4954-4-08, R4954-4-24"""
    conn = server(READY, **OFFERED).connection
    conn.receive_data(b"AUTH CRAM-MD5\r\n")

    assert conn.next_event() == Auth("CRAM-MD5")
    conn.send(Challenge(b"<1896.697170952@s.example>"))
    assert conn.must_flush
    assert conn.data_to_send() == b"334 PDE4OTYuNjk3MTcwOTUyQHMuZXhhbXBsZT4=\r\n"
    assert (conn.state, conn.waiting_for) == (State.AUTH, Wait.AUTH)
    assert conn.next_event() is Signal.NEED_DATA
    conn.receive_data(b"eHl6\r\n")
    assert conn.next_event() == AuthResponse(b"xyz")
    conn.send(Challenge(b""))
    assert conn.data_to_send() == b"334 \r\n"
    conn.receive_data(b"\r\nNOOP\r\n")
    assert conn.next_event() == AuthResponse(b"")
    assert not conn.authenticated
    conn.send(Reply(235, "Welcome"))
    assert (conn.state, conn.authenticated) == (State.READY, True)
    assert conn.next_event() == Noop()


@pytest.mark.parametrize("reply", [Reply(250), Reply(354), Reply(220)])
@pytest.mark.parametrize("before", [READY + b"AUTH PLAIN", AUTH + BASE64])
def test_auth_accepts_only_235_and_334_as_positive_replies(before: bytes, reply: Reply) -> None:
    conn = server(before, answer=answer, **OFFERED).connection
    conn.receive_data(b"\r\n")
    conn.next_event()

    with pytest.raises(LocalProtocolError, match=r"cannot answer Auth"):
        conn.send(reply)
    conn.send(Reply(535))
    assert conn.state is State.READY


@pytest.mark.parametrize("reply", [Reply(235), Challenge(b"")])
def test_cancelled_authentication_cannot_succeed(reply: Reply) -> None:
    """R4954-4-07"""
    conn = server(AUTH, answer=answer, **OFFERED).connection
    conn.receive_data(b"*\r\n")

    assert conn.next_event() == AuthCancel()
    with pytest.raises(LocalProtocolError, match="cannot answer AuthCancel"):
        conn.send(reply)
    conn.send(conn.default_reply(AuthCancel()))
    assert (conn.state, conn.authenticated) == (State.READY, False)


@pytest.mark.parametrize(
    ("text", "data"),
    [(b"", b""), (b"AA==", b"\0"), (b"AAA=", b"\0\0"), (b"AAAA", b"\0\0\0"), (b"+/+/", b"\xfb\xff\xbf")],
)
def test_auth_responses_are_decoded_from_base64(text: bytes, data: bytes) -> None:
    assert auth_server(AUTH).send(text + b"\r\n").events[0] == AuthResponse(data)
    if text:
        assert auth_server(READY).send(b"AUTH PLAIN " + text + b"\r\n").events[0] == Auth("PLAIN", data)


def test_equals_sign_is_an_empty_initial_response_only() -> None:
    """R4954-4-11"""
    auth_server(READY).send(b"AUTH PLAIN =\r\n").expect(Auth("PLAIN", b""))
    auth_server(READY).send(b"AUTH PLAIN\r\n").expect(Auth("PLAIN"))
    auth_server(AUTH).send(b"=\r\n").expect(501)


@pytest.mark.parametrize(
    "text",
    [
        *(b"=AAA", b"AAA=BBB", b"AAAAA", b"AA=", b"A", b"AA", b"AAA", b"AA==AA==", b"AAAA=", b"AAAA===="),
        *(b"AAAA AAAA", b"AA-_", b"AA\tAA", b"AAAA ", b" AAAA", b"**", b"* ", b"AAA\x00", b"\xff\xff\xff\xff", b"AA.="),
    ],
)
def test_invalid_base64_is_refused(text: bytes) -> None:
    """R4954-4-14, R4954-4-15, R4954-4-16"""
    [event] = auth_server(AUTH).send(text + b"\r\n").events
    assert isinstance(event, InvalidCommand)
    assert event.line == b"AUTH ***"
    assert (event.reply.code, event.reply.enhanced) == (501, "5.5.2")
    auth_server(AUTH).send(text + b"\r\nNOOP\r\n").expect(501, 250)
    if text.strip(b" ") == text and b"\xff" not in text and b"\x00" not in text:
        auth_server(READY).send(b"AUTH PLAIN " + text + b"\r\n").expect(501)


def test_auth_response_length_is_limited_to_12288_octets() -> None:
    """R4954-4-18, R4954-4-19"""
    longest = b"A" * (12_288 - 4) + b"\r\n"
    auth_server(AUTH).send(longest).expect(AuthResponse(b"\0" * 9213))
    auth_server(READY).send(b"AUTH PLAIN " + b"A" * 12_272 + b"\r\n").expect(535)
    auth_server(READY).send(b"AUTH PLAIN " + b"A" * 12_276 + b"\r\n").expect(500)
    # The longer limit applies to AUTH only.
    auth_server(READY).send(b"NOOP " + b"A" * 600 + b"\r\n").expect(500)

    book = auth_server(AUTH, cut=False)
    for _ in range(100):
        book.send(b"A" * 1000)
        assert len(book.connection.trailing_data) <= 12_288
    book.expect(500).send(b"\r\nNOOP\r\n").expect("250 2.0.0 ...")
    assert book.state is State.READY


def test_challenge_length_is_limited_to_12288_octets() -> None:
    """R4954-4-18"""
    book = server(READY, answer=answer_with(Auth, Challenge(b"x" * 9000)), **OFFERED).send(b"AUTH PLAIN\r\n")

    book.expect(f"334 {b64encode(b'x' * 9000).decode()}")
    with pytest.raises(LocalProtocolError, match="exceeds 12288 octets"):
        Challenge(b"x" * 10_000)


def test_end_of_stream_inside_an_auth_exchange_closes_the_connection() -> None:
    for part in (b"", b"AAA"):
        auth_server(AUTH + part).end().expect(ConnectionClosed())


@pytest.mark.parametrize("line", [b"AAAA\n", b"AA\rAA\r\n"])
def test_bare_newline_in_a_response_ends_the_exchange(line: bytes) -> None:
    [event] = auth_server(AUTH).send(line).events

    assert isinstance(event, InvalidCommand)
    assert (event.line, event.reply.code) == (b"AUTH ***", 500)
    auth_server(AUTH).send(line + DONE).expect(500, 235)


# Offering AUTH


@pytest.mark.parametrize(
    ("changes", "listed"),
    [
        ({"auth_mechanisms": ()}, False),
        pytest.param({"plaintext_auth": False}, False, id="R4954-4-30, R4954-4-31, R4954-6-07"),
        pytest.param({}, True, id="R4954-3-01"),
        ({"disabled": frozenset({"AUTH"})}, False),
    ],
)
def test_auth_is_announced_only_where_usable(changes: dict[str, Any], listed: bool) -> None:
    [text] = auth_server(**changes).send(READY).replies

    assert any(line[4:] == "AUTH CRAM-MD5 PLAIN" for line in text.splitlines()) is listed


def test_auth_without_tls_is_refused_unless_plaintext_auth_is_set() -> None:
    """R4954-4-03, R4954-4-30, R4954-4-31"""
    auth_server(READY, plaintext_auth=False).send(DONE).expect("504 ...TLS...")
    auth_server(READY, auth_mechanisms=("SCRAM-SHA-1-PLUS",)).send(b"AUTH SCRAM-SHA-1-PLUS\r\n").expect(504)
    auth_server(READY, auth_mechanisms=()).send(DONE).expect(502)
    auth_server(READY, disabled=frozenset({"AUTH"})).send(DONE).expect(502)


def test_tls_resets_authentication_and_offers_auth() -> None:
    """R4954-3-02, R3207-4.2-01"""
    book = auth_server(READY + DONE, starttls=True)
    known = [book.connection.authenticated]
    book.send(b"STARTTLS\r\n").expect(220).start_tls()
    known.append(book.connection.authenticated)
    book.send(READY).expect("250-...AUTH CRAM-MD5 PLAIN\n...").send(DONE).expect(235)
    assert [*known, book.connection.authenticated] == [True, False, True]

    book = server(READY + b"STARTTLS\r\n", answer=answer, starttls=True, auth_mechanisms=("PLAIN",))
    book.start_tls().send(READY).expect(250).send(DONE).expect(235)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        *((line, 530) for line in (b"MAIL FROM:<>", b"RCPT TO:<u@s.example>", b"DATA", b"VRFY x", b"EXPN x", b"HELP")),
        (b"BDAT 0", 530),
        *((line, 250) for line in (b"EHLO c.example", b"HELO c.example", b"NOOP", b"RSET")),
        (b"QUIT", 221),
        (b"BLURB", 500),
        (b"AUTH PLAIN " + BASE64, 235),
    ],
)
def test_require_auth_refuses_transaction_commands_before_auth(line: bytes, code: int) -> None:
    """R4954-6-06, R6409-4.3-01"""
    auth_server(READY, require_auth=True).send(line + b"\r\n").expect(code if code != 530 else "530 5.7.0 ...")
    if code == 530:
        assert auth_server(READY + DONE, require_auth=True).send(line + b"\r\n").codes != [530]


def test_unauthenticated_bdat_is_refused_and_its_chunk_discarded() -> None:
    auth_server(READY, require_auth=True).send(b"BDAT 6 LAST\r\nQUIT\r\n" + DONE).expect(530, 235)


# Failures


WRONG_CREDENTIALS = b"AUTH PLAIN eA==\r\n"


@pytest.mark.parametrize("failure", [WRONG_CREDENTIALS, b"AUTH PLAIN\r\neA==\r\n", b"AUTH PLAIN\r\n*\r\n"])
def test_too_many_auth_failures_close_the_connection(failure: bytes) -> None:
    """R4954-9-01"""
    book = auth_server(READY + failure * 2).send(failure + b"NOOP\r\n")

    assert [code for code in book.codes if code != 334] in ([535, 421], [501, 421])
    assert book.state is State.CLOSED


def test_auth_failures_before_tls_still_count() -> None:
    book = auth_server(READY + WRONG_CREDENTIALS * 2 + b"STARTTLS\r\n", starttls=True).start_tls()

    book.send(READY).expect(250).send(WRONG_CREDENTIALS, WRONG_CREDENTIALS).expect(535, 421)


@pytest.mark.parametrize("limit", [1, 5, None])
def test_max_auth_failures_is_configurable(limit: int | None) -> None:
    book = auth_server(READY, max_auth_failures=limit).send(WRONG_CREDENTIALS * 9 + b"QUIT\r\n")

    book.expect(*([535] * 9 + [221] if limit is None else [535] * limit + [421]))


def test_challenges_do_not_count_as_auth_failures() -> None:
    data = b"AUTH PLAIN\r\n" + b"\r\n" * 9 + BASE64 + b"\r\n"

    auth_server(READY).send(WRONG_CREDENTIALS * 2 + data).expect(*([535, 535] + [334] * 10 + [235]))


# Secrets


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (READY, b"AUTH PLAIN %b!"),
        (READY, b"AUTH FOO %b"),
        (READY, b"auth plain %b x"),
        (READY, b"AUTH %b"),
        (READY, b"AUTH  PLAIN %b"),
        (READY, b"AUTH\tPLAIN %b"),
        (READY, b"AUTH PLAIN\t%b x"),
        (READY, b"AUTH=PLAIN %b x"),
        (READY, b" AUTH PLAIN %b"),
        (READY, b"AUTH PLAIN %b\x00"),
        (READY, b"AUTH PLAIN %b" + b"x" * 13_000),
        (GREETED, b"AUTH PLAIN %b"),
        (MAIL, b"AUTH PLAIN %b"),
        (READY + DONE, b"AUTH PLAIN %b"),
        (AUTH, b"%b!"),
        (AUTH, b"%b x"),
        (AUTH, b"x %b"),
        (AUTH, b"%b" + b"x" * 13_000),
    ],
)
def test_refused_auth_line_hides_the_secret(before: bytes, line: bytes) -> None:
    book = auth_server(before).send(line % BASE64 + b"\r\n")

    [event] = book.events
    assert isinstance(event, InvalidCommand)
    assert BASE64 not in event.line
    assert event.line.startswith(b"AUTH")
    assert BASE64 not in book.output
    assert BASE64.decode() not in repr(event)


@pytest.mark.parametrize(("before", "line"), [(READY, b"AUTH PLAIN %b\n"), (AUTH, b"%b\n")])
def test_secret_in_a_line_that_ends_in_lf_is_not_shown(before: bytes, line: bytes) -> None:
    [event] = auth_server(before).send(line % BASE64).events

    assert isinstance(event, InvalidCommand)
    assert event.line.startswith(b"AUTH")
    assert BASE64 not in event.line


def test_refused_auth_line_shows_the_mechanism() -> None:
    [event] = auth_server().send(b"AUTH PLAIN %b\r\n" % BASE64).events

    assert isinstance(event, InvalidCommand)
    assert event.line == b"AUTH PLAIN ***"


def test_repr_and_str_of_auth_events_hide_the_secret() -> None:
    for event in (Auth("PLAIN", b"pass"), AuthResponse(b"pass")):
        assert "pass" not in repr(event)
        assert "pass" not in str(event)
        assert BASE64.decode() not in str(event)
    assert str(Auth("PLAIN", b"pass")) == "AUTH PLAIN ***"
    assert str(Auth("PLAIN")) == "AUTH PLAIN"


def test_refused_lines_other_than_auth_are_shown_unchanged() -> None:
    for line in (b"MAIL FROM:<a..b@c.example>", b"AUTHORS x\x01"):
        [event] = auth_server(READY).send(line + b"\r\n").events
        assert isinstance(event, InvalidCommand)
        assert event.line == line


def test_pipelined_mail_after_auth_is_authenticated() -> None:
    """R4954-4-35"""
    conn = server(READY, **OFFERED).connection
    conn.receive_data(DONE + b"MAIL FROM:<a@c.example>\r\n")

    assert conn.next_event() == Auth("PLAIN", SECRET)
    conn.send(Reply(235))
    assert isinstance(conn.next_event(), Mail)
    assert conn.authenticated


# The AUTH parameter of MAIL


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "AUTH=<>", Submitter(), id="R4954-5-01"),
        pytest.param("MAIL", "AUTH=e+3Dmc2@example.com", Submitter(Mailbox("e=mc2@example.com")), id="R4954-5-02"),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", f"AUTH{value}") for value in ("", "=", "=+ZZ", "=foo", "=<a@c.example>", "=+FF@c.example")),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R4954-5-02"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R4954-3-03"""
    assert_limit_grows("AUTH", "MAIL", "AUTH=<>", 500)


def test_submitter_without_mailbox_is_falsy() -> None:
    assert not Submitter()
    assert Submitter(Mailbox("a@c.example"))
    assert str(Submitter(Mailbox("e=mc2@example.com"))) == "e+3Dmc2@example.com"


@pytest.mark.parametrize(
    ("plaintext", "tls", "offered"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_auth_is_offered_under_tls_or_with_plaintext_auth(plaintext: bool, tls: bool, offered: bool) -> None:
    """R4954-3-02"""
    config = replace(ALL, auth_mechanisms=("PLAIN",), plaintext_auth=plaintext)

    assert ("AUTH PLAIN" in announced(config, tls=tls)) is offered


def test_relay_passes_the_submitter_on_only_if_the_client_is_trusted() -> None:
    """R4954-5-04"""
    submitter = Submitter(Mailbox("a@c.example"))
    offers = {"AUTH": ("PLAIN",)}

    assert relayed(AUTH_PARAMETER, submitter, offers=offers, is_trusted=True) == submitter
    assert relayed(AUTH_PARAMETER, submitter, offers=offers) == Submitter()
    assert relayed(AUTH_PARAMETER, submitter, is_trusted=True) is None


TOKENS = ("PLAIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256-PLUS")


def test_tokens_and_channel_bindings_are_offered_under_tls_only() -> None:
    """R7628-3-01"""
    config = replace(ALL, auth_mechanisms=TOKENS, plaintext_auth=True)
    assert config.plaintext_mechanisms == ("PLAIN",)
    assert replace(config, plaintext_auth=False).plaintext_mechanisms == ()
    plain = server(READY, auth_mechanisms=TOKENS, plaintext_auth=True, require_auth=True)
    for name in TOKENS[1:]:
        plain.send(b"AUTH %b =\r\n" % name.encode()).expect("504 5.5.4 This mechanism needs TLS: send STARTTLS first")
    assert (
        server(auth_mechanisms=TOKENS, plaintext_auth=True, require_auth=True).send(READY).replies[-1].count("PLAIN")
        == 1
    )


def test_named_mechanisms_are_offered_without_tls_and_all_under_tls() -> None:
    names = ("PLAIN", "CRAM-MD5")
    dialogue = server(starttls=True, auth_mechanisms=names, plaintext_auth=("CRAM-MD5",))
    dialogue.send(READY).expect("250-...AUTH CRAM-MD5\n...")
    dialogue.send(b"AUTH PLAIN AGEAYg==\r\n").expect("504 5.5.4 This mechanism needs TLS: send STARTTLS first")
    dialogue.send(b"AUTH CRAM-MD5\r\n").expect(535)  # the default reply: the mechanism is allowed
    dialogue.send(b"STARTTLS\r\n").expect(220).start_tls()
    dialogue.send(READY).expect("250-...AUTH PLAIN CRAM-MD5\n...")


def test_auth_is_not_offered_in_plaintext_with_tokens_only() -> None:
    dialogue = server(auth_mechanisms=TOKENS[1:], plaintext_auth=True).send(READY)
    assert "AUTH" not in dialogue.replies[-1].replace("AUTHENTICATION", "")
