"""The envelope of a message is that of smtplib, or an error."""

import smtplib
from email import message_from_bytes, policy
from email.header import Header
from email.message import EmailMessage, Message
from typing import Any

import pytest

from smtpcore import LocalProtocolError
from smtpcore_adapters.client._header_envelope import envelope_of, recipients_of, sender_of

NEW = "From: a@c.example\nTo: b@s.example\n"
RESENT = "Resent-Date: Thu, 1 Jan 2026 00:00:00 +0000\n"


class Recording(smtplib.SMTP):
    """smtplib without a connection, which records the envelope."""

    def ehlo_or_helo_if_needed(self) -> None:
        self.esmtp_features = {"smtputf8": ""}
        self.does_esmtp = True

    def sendmail(self, from_addr: str, to_addrs: Any, *args: Any, **options: Any) -> Any:
        self.envelope = from_addr, to_addrs


def by_smtplib(message: Message) -> tuple[str, list[str]]:
    smtp = Recording()
    smtp.send_message(message)
    return smtp.envelope


def parse(header: str, kind: policy.Policy = policy.compat32) -> Any:
    return message_from_bytes(f"{header}\nhi\n".encode(), policy=kind)


@pytest.mark.parametrize(
    "header",
    [
        NEW,
        NEW + "Cc: c@s.example, d@s.example\nBcc: e@s.example\n",
        NEW + "Sender: secretary@c.example\n",
        "From: One <one@c.example>, Two <two@c.example>\nTo: b@s.example\n",
        "From: a@c.example\nBcc: b@s.example\n",
        'From: "A, B" (x) <a@c.example>\nTo: "C \\"D\\"" <c@s.example>,\n e@s.example\n',
        "From: a@c.example\nTo: Team: b@s.example, c@s.example;, d@s.example\n",
        'From: "a b"@c.example\nTo: root, first..last@s.example\n',
        "from: a@c.example\nto: b@s.example\n",
        "From: =?utf-8?q?J=C3=BC?= <a@c.example>\nTo: b@s.example\n",
        NEW + RESENT + "Resent-From: r@c.example\nResent-To: s@s.example\nResent-Bcc: t@s.example\nBcc: no@s.example\n",
        NEW + RESENT + "Resent-From: r@c.example\nResent-Sender: q@c.example\nResent-Cc: s@s.example\n",
    ],
)
@pytest.mark.parametrize("kind", [policy.compat32, policy.default], ids=["compat32", "default"])
def test_envelope_is_that_of_smtplib(header: str, kind: policy.Policy) -> None:
    message = parse(header, kind)
    sender, recipients = by_smtplib(message)

    assert sender_of(message) == sender
    assert sorted(recipients_of(message)) == sorted(each for each in recipients if each)


def test_recipient_at_an_address_literal_is_kept() -> None:
    # smtplib of Python 3.13.0 drops such a recipient.
    assert recipients_of(parse("To: b@[192.0.2.1], c@s.example")) == ["b@[192.0.2.1]", "c@s.example"]


def test_group_without_members_adds_no_recipient() -> None:
    assert recipients_of(parse("To: undisclosed-recipients:;\nBcc: b@s.example\n")) == ["b@s.example"]


def test_recipients_come_from_all_fields_of_the_same_name() -> None:
    assert recipients_of(parse("To: b@s.example\nTo: c@s.example\n")) == ["b@s.example", "c@s.example"]


@pytest.mark.parametrize("kind", [policy.compat32, policy.default], ids=["compat32", "default"])
def test_international_addresses_are_kept(kind: policy.Policy) -> None:
    message = parse("From: jürgen@c.example\nTo: 用户@例子.example\n", kind)
    assert (sender_of(message), recipients_of(message)) == ("jürgen@c.example", ["用户@例子.example"])

    new = Message(policy=policy.compat32) if kind is policy.compat32 else EmailMessage()
    new["From"] = "jürgen@c.example"
    assert sender_of(new) == "jürgen@c.example"


def test_header_object_of_the_old_interface_is_read() -> None:
    message: Any = Message()
    message["To"] = Header("b@s.example", "us-ascii")
    assert recipients_of(message) == ["b@s.example"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (NEW + RESENT * 2, "several blocks of Resent- fields"),
        (NEW + RESENT + "Resent-From: r@c.example\nResent-From: q@c.example\n", "several blocks of Resent- fields"),
        ("From: friends: a@c.example b@c.example;\n", "From is not a list of addresses"),
        ("From: Tim tim@c.example\n", "From is not a list of addresses"),
        ("From: Tim <tim ann@c.example>\n", "From is not a list of addresses"),
        ("To: b@s.example\n", "no address in Sender or From"),
        ("From: nobody:;\n", "no address in Sender or From"),
        ("From: a@c.example <b@c.example>\n", "From is not a list of addresses"),
        ("From: <>\n", "From is not a list of addresses"),
        ("From: a@\n", "From is not a list of addresses"),
        (NEW + RESENT, "no address in Resent-Sender or Resent-From"),
    ],
)
def test_header_without_a_clear_sender_is_an_error(header: str, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        sender_of(parse(header))


@pytest.mark.parametrize("header", ["From: a@c.example\n", "To: x:;\nCc: y:;\n"])
def test_header_without_recipients_is_an_error(header: str) -> None:
    with pytest.raises(LocalProtocolError, match="no address in To, Cc or Bcc"):
        recipients_of(parse(header))


@pytest.mark.parametrize("field", ["Resent-To", "Resent-Cc", "Resent-Bcc", "resent-to"])
def test_message_sent_again_without_a_date_is_not_sent_to_its_first_recipients(field: str) -> None:
    message = parse(f"{NEW}Resent-From: r@c.example\n{field}: s@s.example\n")
    assert (sender_of(message), recipients_of(message)) == ("r@c.example", ["s@s.example"])

    message = parse(f"{NEW}{field}: s@s.example\n")
    assert recipients_of(message) == ["s@s.example"]
    with pytest.raises(LocalProtocolError, match="no address in Resent-Sender or Resent-From"):
        sender_of(message)


@pytest.mark.parametrize("kind", [policy.compat32, policy.default], ids=["compat32", "default"])
def test_name_in_any_charset_does_not_hide_the_address(kind: policy.Policy) -> None:
    message = message_from_bytes("From: Jürgen <a@c.example>\nTo: b@s.example (Zoë)\n\n".encode("latin-1"), policy=kind)
    assert (sender_of(message), recipients_of(message)) == ("a@c.example", ["b@s.example"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_end_in_a_name_adds_no_address(end: str) -> None:
    message = Message()
    message["To"] = f"Tim{end}Bcc: evil@c.example <b@s.example>"
    with pytest.raises(LocalProtocolError, match="To is not a list of addresses"):
        recipients_of(message)

    message = Message()
    message["To"] = f"Tim,{end} Ann{end}\t<b@s.example>, c@s.example{end}"
    assert recipients_of(message) == ["Tim", "b@s.example", "c@s.example"]


def test_octets_of_an_address_that_are_not_utf8_are_an_error() -> None:
    with pytest.raises(LocalProtocolError, match="To is not a list of addresses"):
        recipients_of(message_from_bytes("To: jürgen@s.example\n\n".encode("latin-1")))


def test_given_addresses_replace_those_of_the_header() -> None:
    message = parse(NEW)
    assert envelope_of(message, None, None) == ("a@c.example", ["b@s.example"])
    assert envelope_of(message, "", None) == ("", ["b@s.example"])
    assert envelope_of(message, None, "x@s.example") == ("a@c.example", "x@s.example")
    assert envelope_of(parse(NEW + RESENT * 2), "", "x@s.example") == ("", "x@s.example")
    assert envelope_of(b"hi", "", "x@s.example") == ("", "x@s.example")
    with pytest.raises(LocalProtocolError, match="only the header of an EmailMessage shows the envelope"):
        envelope_of(b"From: a@c.example\n\nhi", None, "x@s.example")
