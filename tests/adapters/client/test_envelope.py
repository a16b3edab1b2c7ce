"""Parameters of MAIL and RCPT."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    ByMode,
    DeliverBy,
    Extension,
    LocalProtocolError,
    Mailbox,
    Notify,
    Parameter,
    Params,
    Path,
    Rcpt,
    Ret,
    Submitter,
)
from smtpcore_adapters import TlsMode, Unsendable
from smtpcore_adapters.client._sources import PIECE
from tests.adapters.fakes import step
from tests.adapters.playbook import ACCEPTED, ONE, TWO, client
from tests.playbook import GO_AHEAD, OK

FULL = ("PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS")


def envelope(*args: Any, offers: Sequence[str] = FULL, recipients: int = 1, **options: Any) -> list[str]:
    book = client(*offers).send(OK * (recipients + 1) + GO_AHEAD, ACCEPTED)
    assert book.deliver(*args, **options).accepted
    return book.sent[0].decode().split("\r\n")[: recipients + 1]


def test_size_is_declared_if_known() -> None:
    assert envelope(b"a\nb\n") == ["MAIL FROM:<a@c.example> SIZE=6", "RCPT TO:<b@s.example>"]
    assert envelope(io.BytesIO(b"hi\r\n"))[0] == "MAIL FROM:<a@c.example> SIZE=4"
    assert envelope([b"hi\r\n"])[0] == "MAIL FROM:<a@c.example> SIZE=4"
    assert envelope(iter([b"hi\r\n"]))[0] == "MAIL FROM:<a@c.example> SIZE=4"
    assert envelope(iter([b"x" * PIECE]), size=77)[0] == "MAIL FROM:<a@c.example> BODY=8BITMIME SIZE=77"


def test_8bit_body_is_declared() -> None:
    assert envelope("grüße\r\n".encode())[0] == "MAIL FROM:<a@c.example> SIZE=9 BODY=8BITMIME"


def test_send_options_become_parameters() -> None:
    mail, rcpt = envelope(
        b"",
        ret=Ret.HDRS,
        envid="QQ 1",
        by=DeliverBy(120, ByMode.RETURN),
        mt_priority=3,
        smtputf8=True,
        notify=[Notify.SUCCESS, Notify.FAILURE],
        offers=FULL,
    )
    assert mail == ("MAIL FROM:<a@c.example> SIZE=0 SMTPUTF8 RET=HDRS ENVID=QQ+201 BY=120;R MT-PRIORITY=3")
    assert rcpt == "RCPT TO:<b@s.example> NOTIFY=FAILURE,SUCCESS"


def test_future_release_solicit_and_submitter_options_become_parameters() -> None:
    offers = ("PIPELINING", "FUTURERELEASE 1000 2030-01-01T00:00:00Z", "NO-SOLICITING", "AUTH PLAIN", "XFOO")
    options: dict[str, Any] = {
        "hold_for": 60,
        "solicit": ("net.example:ADV",),
        "submitter": Submitter(Mailbox("x@y.example")),
    }
    mail, _ = envelope(b"", offers=offers, **options)
    assert mail == "MAIL FROM:<a@c.example> AUTH=x@y.example HOLDFOR=60 SOLICIT=net.example:ADV".replace(
        " AUTH=x@y.example HOLDFOR=60 SOLICIT=net.example:ADV", " HOLDFOR=60 SOLICIT=net.example:ADV AUTH=x@y.example"
    )
    mail, _ = envelope(b"", offers=offers, hold_until=datetime(2029, 1, 1, tzinfo=UTC))
    assert mail == "MAIL FROM:<a@c.example> HOLDUNTIL=2029-01-01T00:00:00Z"


def test_parameter_of_a_custom_extension_is_sent() -> None:
    parameter = Parameter("XTENANT", str, str, octets=20)
    extensions = (*EXTENSIONS, Extension(keyword="XTENANTS", mail=(parameter,)))
    book = client("XTENANTS", extensions=extensions).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(b"", params={"XTENANT": "acme"}).accepted
    assert book.sent[0] == b"MAIL FROM:<a@c.example> XTENANT=acme\r\n"


def test_false_options_add_no_parameter() -> None:
    assert envelope(b"", smtputf8=False, requiretls=False, offers=["PIPELINING"])[0] == "MAIL FROM:<a@c.example>"


def test_parameters_of_a_single_recipient_override_the_options() -> None:
    own = Rcpt(Path(TWO), Params({"NOTIFY": frozenset({Notify.NEVER})}))
    _, *rcpts = envelope(b"", to=[Path(ONE), own, Mailbox("d@s.example")], recipients=3, notify=[Notify.DELAY])
    assert rcpts == [
        "RCPT TO:<b@s.example> NOTIFY=DELAY",
        "RCPT TO:<c@s.example> NOTIFY=NEVER",
        "RCPT TO:<d@s.example> NOTIFY=DELAY",
    ]


def test_duplicate_recipients_are_sent_once() -> None:
    assert envelope(b"", to=[ONE, "b@S.example"], recipients=1)[1:] == ["RCPT TO:<b@s.example>"]


def test_addresses_may_have_names_as_in_the_header() -> None:
    book = client().send(OK, OK, OK, GO_AHEAD, ACCEPTED)
    result = step(book.client.send("Tim <a@c.example>", "Ann <b@s.example>, c@s.example", b""))
    assert book.sent[:3] == [b"MAIL FROM:<a@c.example>\r\n", *(b"RCPT TO:<%b@s.example>\r\n" % x for x in (b"b", b"c"))]
    assert len(result.accepted) == 2

    with pytest.raises(
        LocalProtocolError, match=r"'a@c\.example, b@c\.example' has 2 addresses: a message has one sender"
    ):
        step(book.client.send("a@c.example, b@c.example", ONE, b""))


def test_empty_sender_is_the_null_reverse_path() -> None:
    book = client().send(OK, OK, GO_AHEAD, ACCEPTED)
    step(book.client.send("", ONE, b""))
    assert book.sent[0] == b"MAIL FROM:<>\r\n"


def test_non_ascii_address_adds_smtputf8() -> None:
    book = client(*FULL).send(OK + OK + GO_AHEAD, ACCEPTED)
    assert book.deliver(to="grüße@s.example").accepted
    assert book.sent[0].startswith(b"MAIL FROM:<a@c.example> SIZE=4 SMTPUTF8\r\nRCPT TO:<gr\xc3\xbc")


@pytest.mark.parametrize(
    ("body", "options", "enhanced"),
    [
        (b"x" * 2000, {}, "5.3.4"),
        (b"", {"to": "grüße@s.example"}, "5.6.7"),
        (b"", {"smtputf8": True}, "5.6.7"),
        (b"\xff", {}, "5.6.3"),
        (b"", {"requiretls": True}, "5.7.30"),
    ],
)
def test_message_that_needs_a_missing_extension_raises_unsendable(
    body: bytes, options: dict[str, Any], enhanced: str
) -> None:
    book = client("SIZE 1000")
    with pytest.raises(Unsendable) as caught:
        book.deliver(body, **options)

    assert caught.value.reply.enhanced == enhanced
    book.wire()
    assert book.client.is_open


def test_requiretls_is_sent_over_verified_tls() -> None:
    book = client("REQUIRETLS", tls=TlsMode.IMPLICIT).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(b"", requiretls=True).accepted
    assert b"MAIL FROM:<a@c.example> REQUIRETLS\r\n" in book.sent


@pytest.mark.parametrize(
    "options",
    [
        {"to": []},
        {"to": "no address"},
        {"to": "a@b.example\r\nRCPT TO:<x@y.example>"},
        {"envid": "a\r\nDATA"},
        {"ret": Ret.FULL},
        {"params": {"XFOO": "bar"}},
        {"to": Rcpt(Path(ONE), Params({"XFOO": "bar"}))},
    ],
)
def test_invalid_argument_raises_and_keeps_the_connection_usable(options: dict[str, Any]) -> None:
    is_rcpt = isinstance(options.get("to"), Rcpt)
    book = client().send(*([OK, OK] if is_rcpt else []), OK, OK, GO_AHEAD, ACCEPTED)
    with pytest.raises(LocalProtocolError):
        book.deliver(**options)

    assert b"DATA" not in book.output
    assert book.deliver().accepted


@pytest.mark.parametrize("wrong", [b"b@s.example", bytearray(b"b@s.example"), [b"b@s.example"], [None], [5], [["x"]]])
def test_recipient_of_another_type_is_a_type_error_before_anything_is_sent(wrong: Any) -> None:
    book = client()
    with pytest.raises(TypeError, match="use str, Path, Mailbox"):
        book.deliver(to=wrong)
    book.wire()


@pytest.mark.parametrize("wrong", [b"a@c.example", 1, None, ["a@c.example"]])
def test_sender_of_another_type_is_a_type_error_before_anything_is_sent(wrong: Any) -> None:
    book = client()
    with pytest.raises(TypeError, match="an address cannot be"):
        step(book.client.send(wrong, ONE, b"hi"))
    book.wire()


@pytest.mark.parametrize("sender", ["", "<>", Path("")])
def test_empty_sender_has_two_spellings(sender: Any) -> None:
    book = client().send(OK, OK, GO_AHEAD, ACCEPTED)
    assert step(book.client.send(sender, ONE, b"hi")).accepted
    assert book.sent[0] == b"MAIL FROM:<>\r\n"
    with pytest.raises(LocalProtocolError):
        book.deliver(to="<>")


@pytest.mark.parametrize("offers", [(), ("PIPELINING", "DSNX")])
@pytest.mark.parametrize(
    ("options", "keyword", "extension"),
    [
        ({"notify": [Notify.NEVER]}, "NOTIFY", "DSN"),
        ({"ret": Ret.FULL}, "RET", "DSN"),
        ({"mt_priority": 3}, "MT-PRIORITY", "MT-PRIORITY"),
        ({"size": 3}, "SIZE", "SIZE"),
        ({"to": [ONE, Rcpt(Path(TWO), Params({"NOTIFY": frozenset({Notify.NEVER})}))]}, "NOTIFY", "DSN"),
    ],
)
def test_parameter_of_an_extension_that_is_not_offered_is_unsendable(
    offers: Sequence[str], options: Any, keyword: str, extension: str
) -> None:
    book = client(*offers)
    with pytest.raises(Unsendable, match=f"555 5.5.4 .* not offer {extension}, which the parameter {keyword} needs"):
        book.deliver(**options)
    book.wire()
    assert book.client.is_open


@pytest.mark.parametrize("offer", ["XTickets", "XTICKETS"])
def test_keyword_of_an_own_extension_may_have_any_case(offer: str) -> None:
    tickets = Extension(keyword="XTickets", mail=(Parameter("XTICKET", int, int, octets=20),))
    book = client(offer, extensions=(*EXTENSIONS, tickets)).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(params={"XTICKET": 5}).accepted
    assert book.sent[0] == b"MAIL FROM:<a@c.example> XTICKET=5\r\n"
