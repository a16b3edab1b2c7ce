from collections.abc import Callable
from contextlib import suppress

import pytest

from smtpcore import Config, Connection, LocalProtocolError, Reply, ReplyClass, ReplyCode


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (Reply(250, "Queued", enhanced="2.0.0"), b"250 2.0.0 Queued\r\n"),
        (Reply(354, "Go on"), b"354 Go on\r\n"),
        pytest.param(Reply(250, "a", "b", "c"), b"250-a\r\n250-b\r\n250 c\r\n", id="R5321-4.2.1-01"),
        pytest.param(Reply(250), b"250 \r\n", id="R5321-4.2.1-02"),
        pytest.param(Reply(214, "a", "b", enhanced="2.0.0"), b"214-2.0.0 a\r\n214 2.0.0 b\r\n", id="R2034-4-03"),
        (Reply(250, "MAX"), b"250 MAX\r\n"),
        (Reply(250, "a\tb", "\u00e9"), b"250-a\tb\r\n250 \xc3\xa9\r\n"),
        (Reply(ReplyCode.NO_SERVICE, "", "", enhanced="5.3.2"), b"554-5.3.2 \r\n554 5.3.2 \r\n"),
    ],
)
def test_reply_is_encoded_with_code_and_hyphen_on_each_continued_line(reply: Reply, wire: bytes) -> None:
    assert reply.encode() == wire
    assert str(reply).replace("\n", "\r\n").encode() + b"\r\n" == wire


def test_reply_is_an_immutable_value() -> None:
    reply = Reply(550, "No", enhanced="5.7.1")

    assert (reply.code, reply.lines, reply.enhanced) == (550, ("No",), "5.7.1")
    assert reply == Reply(ReplyCode.MAILBOX_UNAVAILABLE, "No", enhanced="5.7.1")
    assert hash(reply) == hash(Reply(550, "No", enhanced="5.7.1"))
    assert len({reply, Reply(551, "No", enhanced="5.7.1"), Reply(550, "No"), Reply(550, "N")}) == 4
    assert reply != object()
    assert not hasattr(reply, "__dict__")
    for name in ("code", "lines", "enhanced", "reply_class", "is_positive"):
        with pytest.raises(AttributeError):
            setattr(reply, name, None)


def test_reply_can_be_matched_by_position() -> None:
    match Reply(250, "a", "b"):
        case Reply(250, ("a", last), None):
            assert last == "b"
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("reply", [Reply(250), Reply(250, "a", "b"), Reply(550, "it's", enhanced="5.0.0")])
def test_repr_of_a_reply_evaluates_to_the_reply(reply: Reply) -> None:
    assert eval(repr(reply), {"Reply": Reply}) == reply
    assert repr(Reply(250, "a")) == "Reply(250, 'a')"


@pytest.mark.parametrize(
    ("code", "reply_class", "is_positive"),
    [
        (200, ReplyClass.COMPLETION, True),
        (250, ReplyClass.COMPLETION, True),
        (354, ReplyClass.INTERMEDIATE, True),
        (400, ReplyClass.TRANSIENT, False),
        (420, ReplyClass.TRANSIENT, False),
        (421, ReplyClass.GOODBYE, False),
        (450, ReplyClass.TRANSIENT, False),
        (521, ReplyClass.GOODBYE, False),
        (550, ReplyClass.PERMANENT, False),
        (559, ReplyClass.PERMANENT, False),
    ],
)
def test_reply_class_follows_the_first_digit_except_for_421_and_521(
    code: int, reply_class: ReplyClass, is_positive: bool
) -> None:
    assert Reply(code).reply_class is reply_class
    assert Reply(code).is_positive is is_positive


def test_exactly_the_codes_of_rfc_5321_are_accepted() -> None:
    """R5321-4.2-09"""
    made = set()
    for code in range(-1, 1000):
        with suppress(LocalProtocolError):
            made.add(Reply(code).code)

    assert made == {
        100 * first + 10 * second + third for first in (2, 3, 4, 5) for second in range(6) for third in range(10)
    }
    assert set(ReplyCode) <= made


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        pytest.param(250, "5.0.0", id="R2034-4-02: another class"),
        pytest.param(354, "2.0.0", id="R2034-4-01: 3yz has none"),
        pytest.param(354, "3.0.0", id="class 3"),
        pytest.param(500, "4.0.0", id="the class below"),
        pytest.param(550, "5.1000.1", id="R2034-4-04: too long"),
        pytest.param(550, "5.01.1", id="R3463-2-01: a leading zero"),
        pytest.param(550, "5.1.00", id="another leading zero"),
        pytest.param(550, "5. 1.1", id="a space"),
        pytest.param(550, "5.1.1 ", id="trailing space"),
        pytest.param(550, "5.1", id="too short"),
        pytest.param(550, "", id="empty"),
        pytest.param(550, "5.1.\u0661", id="non-ASCII digit"),
    ],
)
def test_mismatched_or_malformed_enhanced_status_code_is_refused(code: int, enhanced: str) -> None:
    with pytest.raises(LocalProtocolError, match=rf"does not go with {code}: use {code // 100}\.x\.y"):
        Reply(code, "text", enhanced=enhanced)


@pytest.mark.parametrize("enhanced", ["5.0.0", "5.10.100", "5.999.999"])
def test_subject_and_detail_of_a_status_code_may_have_three_digits(enhanced: str) -> None:
    assert Reply(550, "text", enhanced=enhanced).enhanced == enhanced


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\rb", "a\x00b", "\x1b[1m", "a\x7fb", "\ud83d"])
def test_reply_line_with_control_characters_cannot_be_sent(text: str) -> None:
    """R5321-4.2-04"""
    reply = Reply(250, "fine", text)
    conn = Connection(Config(hostname="s.example"))
    conn.next_event()
    for refuse in (reply.encode, lambda: conn.send(reply)):
        with pytest.raises(LocalProtocolError, match="control characters"):
            refuse()
    assert conn.data_to_send() == b""


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f600"])
def test_reply_line_over_512_octets_cannot_be_sent(letter: str) -> None:
    """R5321-4.5.3.1.5-01"""
    longest = letter * (496 // len(letter.encode()))

    assert len(Reply(550, longest, longest, enhanced="5.999.999").encode()) <= 2 * 512
    with pytest.raises(LocalProtocolError, match="exceeds 496 octets"):
        Reply(550, "fine", longest + letter).encode()


@pytest.mark.parametrize(
    ("lines", "fitting", "octets"),
    [
        (("a\r\nb\nc\rd",), ("a", "b", "c", "d"), b"550-5.7.1 a\r\n550-5.7.1 b\r\n550-5.7.1 c\r\n550 5.7.1 d\r\n"),
        (("\r\n250 OK",), ("", "250 OK"), b"550-5.7.1 \r\n550 5.7.1 250 OK\r\n"),
        (("a\x00\x1b\x7f", "b\t"), ("a???", "b\t"), b"550-5.7.1 a???\r\n550 5.7.1 b\t\r\n"),
        (("x\ud83d",), ("x?",), b"550 5.7.1 x?\r\n"),
        (("x" * 500,), ("x" * 496, "x" * 4), b"550-5.7.1 " + b"x" * 496 + b"\r\n550 5.7.1 xxxx\r\n"),
        (("\u00e9" * 249,), ("\u00e9" * 124, "\u00e9" * 124, "\u00e9"), None),
    ],
)
def test_fitting_makes_a_reply_that_can_be_sent(
    lines: tuple[str, ...], fitting: tuple[str, ...], octets: bytes | None
) -> None:
    reply = Reply(550, *lines, enhanced="5.7.1")
    assert reply.text_error
    assert reply.lines == lines
    fits = reply.fitting()
    assert (fits.code, fits.enhanced, fits.lines, fits.text_error) == (550, "5.7.1", fitting, None)
    assert not fits.is_relayed
    assert fits.encode() == fits.octets == reply.octets
    assert octets in (None, fits.octets)
    assert fits.fitting(ascii_only=True).octets.isascii()


@pytest.mark.parametrize(
    ("reply", "same"),
    [
        (Reply(550, "5.7.1 not relaying"), Reply(550, "not relaying", enhanced="5.7.1")),
        (Reply(250, "2.1.5 a", "2.1.5 b", "c"), Reply(250, "a", "b", "c", enhanced="2.1.5")),
        (Reply(550, "5.7.1"), Reply(550, "", enhanced="5.7.1")),
        (Reply(550, "5.7.1 a", "b", enhanced="5.7.1"), Reply(550, "a", "b", enhanced="5.7.1")),
        (Reply(550, "5.7.1 5.7.1 a", "5.7.1 5.7.1"), Reply(550, "a", "", enhanced="5.7.1")),
    ],
)
def test_status_code_at_the_beginning_of_the_text_becomes_the_enhanced_code(reply: Reply, same: Reply) -> None:
    """R2034-4-03"""
    assert reply == same
    assert reply.octets == same.octets


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (550, "4.7.1 another class"),
        (550, "5.7.1\tno space"),
        (354, "3.0.0 none"),
        (550, "5.7 x"),
        (550, "text 5.7.1"),
        (550, ""),
    ],
)
def test_first_word_other_than_a_valid_status_code_stays_in_the_text(code: int, text: str) -> None:
    reply = Reply(code, text)
    assert (reply.enhanced, reply.lines) == (None, (text,))


def test_enhanced_argument_is_kept_if_the_text_begins_with_another_code() -> None:
    assert str(Reply(550, "5.1.1 Unknown", enhanced="5.7.1")) == "550 5.7.1 5.1.1 Unknown"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("550 5.7.1 Not here", Reply(550, "Not here", enhanced="5.7.1")),
        ("550 Not here\r\n", Reply(550, "Not here")),
        ("550-5.7.1 Not\r\n550 5.7.1 here\r\n", Reply(550, "Not", "here", enhanced="5.7.1")),
        ("250-a\n250-\n250", Reply(250, "a", "", "")),
        ("250", Reply(250)),
        ("250 ", Reply(250)),
        ("250  a ", Reply(250, " a ")),
        ("250 \u00e9", Reply(250, "\u00e9")),
    ],
)
def test_reply_is_parsed_from_its_text(text: str, reply: Reply) -> None:
    assert Reply.parse(text) == reply
    assert Reply.parse(str(reply)) == reply


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Not here",
        "5505.7.1 Not here",
        "55 Not here",
        "650 Not here",
        "260 Not here",
        "550-Not here",
        "550 Not\n550 here",
        "550-Not\n551 here",
        "550-Not\nhere",
        "550 Not here\n\n",
        "\n550 Not here",
        " 550 Not here",
        "\u0665\u0665\u0660 Not here",
    ],
)
def test_text_that_is_not_exactly_one_reply_cannot_be_parsed(text: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a reply: it should look like"):
        Reply.parse(text)


@pytest.mark.parametrize(
    ("code", "texts", "may_be_enhanced", "enhanced", "lines"),
    [
        (550, ["5.1.1 a", "5.1.1 b", "c"], True, "5.1.1", ("a", "b", "c")),
        (550, ["5.1.1 a"], False, None, ("5.1.1 a",)),
        (550, ["4.1.1 a"], True, None, ("4.1.1 a",)),
        (550, ["a", "5.1.1 b"], True, None, ("a", "5.1.1 b")),
        (550, ["x" * 1000], True, None, ("x" * 496, "x" * 496, "x" * 8)),
        (550, ["\u00e9" * 249], True, None, ("\u00e9" * 124, "\u00e9" * 124, "\u00e9")),
        (334, ["A" * 1000], True, None, ("A" * 1000,)),
        (521, ["x"], True, None, ("x",)),
        (421, ["4.3.2 x"], True, "4.3.2", ("x",)),
        (599, ["x"], True, None, ("x",)),
    ],
)
def test_received_reply_is_made_fit_for_sending(
    code: int, texts: list[str], may_be_enhanced: bool, enhanced: str | None, lines: tuple[str, ...]
) -> None:
    reply = Reply.as_heard(code, *texts, may_be_enhanced=may_be_enhanced)
    assert (reply.code, reply.enhanced, reply.lines, reply.text_error) == (code, enhanced, lines, None)
    assert (reply.reply_class is ReplyClass.GOODBYE) is (code == 421)


@pytest.mark.parametrize("make", [lambda: Reply("250"), lambda: Reply(None), lambda: Reply(2500)])  # type: ignore[arg-type]
def test_reply_code_of_another_type_or_length_is_refused(make: Callable[[], Reply]) -> None:
    with pytest.raises(LocalProtocolError, match="is not a reply code"):
        make()


# RFC 5321 4.2.3; RFC 4954 section 6; RFC 3207 section 4; RFC 7504.
NAMES = {
    211: "SYSTEM_STATUS",
    214: "HELP_MESSAGE",
    220: "SERVICE_READY",
    221: "SERVICE_CLOSING",
    235: "AUTHENTICATION_SUCCEEDED",
    250: "OK",
    251: "WILL_FORWARD",
    252: "CANNOT_VERIFY",
    334: "AUTHENTICATION_CHALLENGE",
    354: "START_MAIL_INPUT",
    421: "SERVICE_NOT_AVAILABLE",
    432: "PASSWORD_TRANSITION_NEEDED",
    450: "MAILBOX_BUSY",
    451: "LOCAL_ERROR",
    452: "INSUFFICIENT_STORAGE",
    454: "TEMPORARILY_NOT_SECURED",
    455: "PARAMETERS_NOT_ACCOMMODATED",
    500: "SYNTAX_ERROR",
    501: "ARGUMENT_SYNTAX_ERROR",
    502: "NOT_IMPLEMENTED",
    503: "BAD_SEQUENCE",
    504: "PARAMETER_NOT_IMPLEMENTED",
    521: "HOST_ACCEPTS_NO_MAIL",
    530: "SECURITY_REQUIRED",
    534: "MECHANISM_TOO_WEAK",
    535: "CREDENTIALS_INVALID",
    538: "ENCRYPTION_REQUIRED",
    550: "MAILBOX_UNAVAILABLE",
    551: "USER_NOT_LOCAL",
    552: "STORAGE_EXCEEDED",
    553: "MAILBOX_NAME_NOT_ALLOWED",
    554: "TRANSACTION_FAILED",
    555: "PARAMETERS_NOT_RECOGNIZED",
    556: "DOMAIN_ACCEPTS_NO_MAIL",
}


def test_names_of_reply_codes_follow_the_rfcs() -> None:
    assert {code.value: code.name for code in ReplyCode} == NAMES
    assert ReplyCode["NO_SERVICE"] is ReplyCode["TRANSACTION_FAILED"]


def test_text_of_a_challenge_may_be_longer_than_other_texts() -> None:
    for text in ("x" * 12_288, "\u00e9" * 6_144):
        assert Reply(334, text).text_error is None
        assert Reply(354, text).text_error


def test_relayed_reply_stays_relayed_when_its_text_is_changed() -> None:
    relayed = Reply(550, "5.7.1 No\nthanks", is_relayed=True)

    assert relayed.is_relayed
    assert relayed.fitting().is_relayed
    assert not Reply(550, "5.7.1 No thanks").is_relayed
    assert not Reply.as_heard(550, "5.7.1 No thanks").is_relayed


@pytest.mark.parametrize(
    ("reply", "is_complete"),
    [
        (Reply(250, "OK", enhanced="2.0.0"), True),
        (Reply(354, "Go on"), True),
        (Reply(334, ""), True),
        (Reply(250, "OK"), False),
        (Reply(550, "5.7.1 Nicht für uns"), False),
        (Reply(550, "5.7.1 Not\x00here"), False),
        (Reply(221, "2.0.0 closing"), False),
        (Reply(421, "4.3.2 closing"), False),
        (Reply(521, "5.3.2 No mail"), True),
    ],
    ids=str,
)
def test_reply_is_complete_if_its_octets_need_nothing_else(reply: Reply, is_complete: bool) -> None:
    assert reply.is_complete is is_complete
