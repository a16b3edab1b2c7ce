"""Messages of the email package: every octet arrives as it was given, or the message is refused."""

import contextlib
import email
import email.policy
from collections.abc import Sequence
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.text import MIMEText
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore_adapters import Unsendable
from smtpcore_adapters.client._messages import Inconvertible, flatten
from tests.adapters.client.test_over_sockets import Connect, run
from tests.adapters.peers import Answering, serving
from tests.adapters.playbook import ONE, SENDER, client

PARSERS = (email.policy.compat32, email.policy.default, email.policy.SMTP)
TEXT = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nK\xc3\xb6rper\r\n"
SIGNED = (
    b'Content-Type: multipart/signed; boundary=S; micalg=pgp-sha512; protocol="application/pgp-signature"\r\n\r\n'
    b"--S\r\n" + TEXT + b"--S\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--S--\r\n"
)


def parse(data: bytes, policy: email.policy.Policy = email.policy.compat32) -> Message:
    return email.message_from_bytes(data, policy=policy)


def mixed(*parts: bytes) -> bytes:
    inner = b"".join(b"--M\r\n" + part + b"\r\n" for part in parts)
    return b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n" + inner + b"--M--\r\n"


def in_message(part: bytes) -> bytes:
    return mixed(b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\n" + part)


def converted(data: bytes, *, eight_bit: bool = False, policy: email.policy.Policy = email.policy.compat32) -> Message:
    sent, _ = flatten(parse(data, policy), eight_bit=eight_bit, smtputf8=False)
    assert eight_bit or sent.isascii()
    return parse(sent)


def leaves(message: Message) -> list[bytes]:
    """Return the octets of all parts, with LF line ends in texts."""
    parts = [part for part in message.walk() if not part.is_multipart()]
    decoded = [(part.get_content_maintype(), part.get_payload(decode=True)) for part in parts]
    return [normal(kind, octets) for kind, octets in decoded if isinstance(octets, bytes)]


def normal(kind: str, octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removesuffix(b"\n")


def part(octets: bytes, kind: str = "text/plain", charset: str = "utf-8", encoding: str = "8bit") -> bytes:
    fields = f"Content-Type: {kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return fields.encode() + octets


@pytest.mark.parametrize("policy", PARSERS, ids=["compat32", "default", "SMTP"])
@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "us-ascii", "iso-2022-jp", "utf-16", "unknown", "\x01"])
@pytest.mark.parametrize("octets", [b"a\xff b", b"K\xc3\xb6rper\r\n.\r\nFrom x\r\n", b"\xfe\x00\r\n", b"\x85\x0b\xff "])
def test_octets_of_a_part_arrive_unchanged_with_any_charset(
    octets: bytes, charset: str, policy: email.policy.Policy
) -> None:
    for data in (mixed(part(octets, charset=charset)), part(octets, charset=charset), in_message(part(octets))):
        assert normal("", octets) in leaves(converted(data, policy=policy))


def test_text_with_few_octets_beyond_ascii_stays_readable() -> None:
    sent = converted(part("Grüße von dort\r\n".encode()))
    assert sent["Content-Transfer-Encoding"] == "quoted-printable"
    assert "=C3=BC" in str(sent.get_payload())
    assert converted(part(b"\xff" * 100))["Content-Transfer-Encoding"] == "base64"


def test_message_without_mime_fields_gets_fields_that_describe_the_octets() -> None:
    sent = converted(b"Subject: x\r\n\r\nK\xc3\xb6rper\r\n")
    assert sent.get_payload(decode=True) == b"K\xc3\xb6rper\r\n"
    assert sent["MIME-Version"] == "1.0"
    assert sent.get_content_charset() == "unknown-8bit"


def test_binary_part_is_encoded_also_for_a_server_with_8bitmime() -> None:
    octets = b"\x00\n\r\xff"
    data = mixed(part(octets, kind="application/octet-stream", encoding="binary"))
    for eight_bit in (False, True):
        (binary,) = [each for each in converted(data, eight_bit=eight_bit).walk() if not each.is_multipart()]
        assert binary.get_payload(decode=True) == octets


def test_encoding_of_an_enclosing_part_is_corrected() -> None:
    sent = converted(mixed(TEXT).replace(b"MIME-Version", b"Content-Transfer-Encoding: 8bit\r\nMIME-Version"))
    assert sent["Content-Transfer-Encoding"] == "7bit"


@pytest.mark.parametrize("policy", PARSERS, ids=["compat32", "default", "SMTP"])
def test_fields_are_not_folded_again(policy: email.policy.Policy) -> None:
    field = b"References: " + b" ".join(b"<%d@c.example>" % number for number in range(20)) + b"\r\n"
    folded = b"X-Folded: a\r\n\tb  c\r\n"
    data = field + folded + b"\r\nhi\r\n"
    assert flatten(parse(data, policy), eight_bit=True, smtputf8=False) == (data, False)


def test_raw_subject_becomes_an_encoded_word_with_the_same_octets() -> None:
    sent = converted(b"Subject: Gr\xfc\xdfe\r\n\r\nhi\r\n")
    ((octets, charset),) = email.header.decode_header(sent["Subject"])
    assert (octets, charset) == (b"Gr\xfc\xdfe", "unknown-8bit")


DKIM = b"DKIM-Signature: v=1; a=rsa-sha256; d=c.example; s=s; h=from; bh=x; b=y\r\n"
REFUSED = {
    "signed": SIGNED,
    "signed inside": mixed(SIGNED),
    "signed in a message": in_message(SIGNED),
    "DKIM": DKIM + TEXT,
    "DKIM in a message": in_message(DKIM + TEXT),
    "address": b"From: Gr\xfc\xdfe <a@c.example>\r\n\r\nhi\r\n",
    "name of a file": mixed(b'Content-Type: text/plain; name="Gr\xfc\xdfe"\r\n\r\nhi\r\n'),
    "preamble": mixed(b"\r\nhi").replace(b"--M\r\n", b"\xff\r\n--M\r\n", 1),
    "epilogue": mixed(b"\r\nhi") + b"\xff\r\n",
    "base64": part(b"\xff\xff", encoding="base64"),
    "quoted-printable": part(b"\xff\xff", encoding="quoted-printable"),
    "unknown encoding": part(b"\xff\xff", encoding="x-uue"),
    "part of a message": b"Content-Type: message/partial\r\n\r\n\xff\r\n",
    "multipart without boundary": b"Content-Type: multipart/mixed\r\n\r\n\xff\r\n",
    "NUL in a field": b"X-Y: a\0b\r\n\r\nhi\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_message_that_cannot_be_converted_is_unsendable(name: str) -> None:
    book = client("SIZE")
    with pytest.raises(Unsendable) as caught:
        book.deliver(parse(REFUSED[name]))
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (554, "5.6.3")
    assert book.client.is_open
    book.wire()


def test_signed_part_is_sent_unchanged_to_a_server_with_8bitmime() -> None:
    for policy in PARSERS:
        sent, _ = flatten(parse(mixed(SIGNED), policy), eight_bit=True, smtputf8=False)
        assert TEXT in sent


def test_text_payload_that_was_never_encoded_is_unsendable() -> None:
    message = Message()
    message["Subject"] = "Grüße"
    message.set_payload("Körper")
    for eight_bit in (False, True):
        with pytest.raises(Inconvertible):
            flatten(message, eight_bit=eight_bit, smtputf8=False)


def test_built_message_is_sent_with_encoded_fields() -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message["From"] = "Jürgen <a@c.example>"
    message.set_content("Grüße\n", cte="8bit")
    sent, needs_smtputf8 = flatten(message, eight_bit=False, smtputf8=False)
    assert email.message_from_bytes(sent, policy=email.policy.default)["Subject"] == "Grüße"
    assert not needs_smtputf8
    assert leaves(parse(sent)) == ["Grüße".encode()]


# Domains

INTERNATIONAL = "To: Bü <b@bücher.example>, c@s.example\r\nCc: d@s.example\r\nX-Y: z\r\n\r\nhi\r\n".encode()


@pytest.mark.parametrize("policy", PARSERS, ids=["compat32", "default", "SMTP"])
def test_domains_in_the_header_have_a_labels_without_smtputf8(policy: email.policy.Policy) -> None:
    message = parse(INTERNATIONAL, policy)
    sent, needs_smtputf8 = flatten(message, eight_bit=False, smtputf8=False)
    assert sent.split(b"\r\n") == [
        b"To: "
        + {True: b"=?utf-8?b?QsO8?=", False: b"=?utf-8?q?B=C3=BC?="}[b"?b?" in sent]
        + b" <b@xn--bcher-kva.example>, c@s.example",
        b"Cc: d@s.example",
        b"X-Y: z",
        b"",
        b"hi",
        b"",
    ]
    assert not needs_smtputf8
    assert [*message.raw_items()] == [*parse(INTERNATIONAL, policy).raw_items()]


def test_domains_of_a_built_message_have_a_labels_without_smtputf8() -> None:
    message = EmailMessage()
    message["From"] = '"a, b" <a@müller.example>'
    message["Subject"] = "Grüße"
    message.set_content("hi\n")
    for smtputf8, expected in ((False, b'From: "a, b" <a@xn--mller-kva.example>'), (True, "@müller.example".encode())):
        sent, needs_smtputf8 = flatten(message, eight_bit=True, smtputf8=smtputf8)
        assert expected in sent
        assert needs_smtputf8 is smtputf8


NAMED = [
    "Jürgen Müller <a@c.example>",
    '"Müller, J." <a@c.example>, Ann <b@c.example>',
    '"a, b" <a@c.example>, ü <b@c.example>',
]


@pytest.mark.parametrize("field", ["From", "To", "reply-to", "Resent-To"])
@pytest.mark.parametrize("value", NAMED)
@pytest.mark.parametrize("wrap", [str, partial(Header, charset="utf-8")])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_names_of_the_old_interface_are_encoded_and_addresses_are_not(
    field: str, value: str, wrap: Any, eight_bit: bool
) -> None:
    message = MIMEText("hi")
    message[field] = wrap(value)
    sent, needs_smtputf8 = flatten(message, eight_bit=eight_bit, smtputf8=eight_bit)
    assert sent.isascii()
    assert not needs_smtputf8
    parsed: Any = email.message_from_bytes(sent, policy=email.policy.default)[field]
    assert parsed.addresses == email.policy.default.header_factory(field, value).addresses
    assert str(message[field]) == value, "the message of the program stays as it is"


def test_name_that_is_encoded_already_stays_as_it_is() -> None:
    message: Any = MIMEText("hi")
    value = Header("Jürgen", "iso-8859-1")
    value.append("<a@c.example>", "us-ascii")
    message["From"] = value
    assert b"From: =?iso-8859-1?q?J=FCrgen?= <a@c.example>\r\n" in flatten(message, eight_bit=True, smtputf8=True)[0]


def test_international_addresses_of_the_old_interface_are_utf8() -> None:
    message = MIMEText("hi")
    message["From"] = "Jürgen <jürgen@bücher.example>"
    sent, needs_smtputf8 = flatten(message, eight_bit=True, smtputf8=True)
    assert "From: Jürgen <jürgen@bücher.example>\r\n".encode() in sent
    assert needs_smtputf8


@pytest.mark.parametrize("smtputf8", [False, True])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_policy_for_utf8_does_not_send_fields_in_utf8_without_need(smtputf8: bool, eight_bit: bool) -> None:
    message = EmailMessage(policy=email.policy.SMTPUTF8)
    message["From"] = "Jürgen <a@c.example>"
    message["Subject"] = "Grüße"
    message.set_content("hi\n")
    sent, needs_smtputf8 = flatten(message, eight_bit=eight_bit, smtputf8=smtputf8)
    assert sent.isascii()
    assert not needs_smtputf8
    assert email.message_from_bytes(sent, policy=email.policy.default)["Subject"] == "Grüße"


@pytest.mark.parametrize("subject", ["Grüße", "hi"])
@pytest.mark.parametrize("is_part", [False, True])
def test_signed_fields_in_utf8_stay_as_they_are_and_need_smtputf8(subject: str, is_part: bool) -> None:
    message = EmailMessage(policy=email.policy.SMTPUTF8)
    message["Subject"] = subject
    message.set_content("hi\n")
    if is_part:
        message.make_mixed()
        message.attach(email.message_from_bytes(SIGNED, policy=email.policy.SMTPUTF8))
    else:
        message["DKIM-Signature"] = "v=1"
    sent, needs_smtputf8 = flatten(message, eight_bit=True, smtputf8=True)
    assert f"Subject: {subject}\r\n".encode() in sent
    assert needs_smtputf8 is (subject != "hi")

    if needs_smtputf8:
        with pytest.raises(Unsendable, match=r"553 5\.6\.7"):
            client().deliver(message)


@pytest.mark.parametrize("value", ["Freunde: Jürgen <a@c.example>;", "Jürgen <a@c.example"])
def test_other_fields_of_the_old_interface_stay_as_the_policy_writes_them(value: str) -> None:
    message = MIMEText("hi")
    message["To"] = value
    assert b"To: =?utf-8?" in flatten(message, eight_bit=True, smtputf8=True)[0]


@pytest.mark.parametrize("kind", [MIMEText, EmailMessage])
@pytest.mark.parametrize("offers", [(), ("8BITMIME",)])
def test_address_without_an_ascii_form_is_named_as_the_reason(kind: Any, offers: tuple[str, ...]) -> None:
    message = kind("hi") if kind is MIMEText else kind()
    message["From"] = "jürgen@c.example"
    book = client(*offers)
    with pytest.raises(Unsendable, match=r"553 5\.6\.7"):
        book.deliver(message)
    book.wire()


@pytest.mark.parametrize(
    "header",
    [
        "To: bü@bücher.example\r\n",
        "To: friends: b@bücher.example;\r\n",
        "To: b@bücher.example, c@@s.example\r\n",
        "DKIM-Signature: v=1\r\nTo: b@bücher.example\r\n",
    ],
)
def test_header_that_cannot_be_converted_needs_smtputf8(header: str) -> None:
    data = f"{header}\r\nhi\r\n".encode()
    assert flatten(parse(data, email.policy.default), eight_bit=True, smtputf8=False) == (data, True)


def test_octets_of_an_unknown_charset_in_an_address_field_stay_as_they_are() -> None:
    data = b"To: B\xfc <b@s.example>\r\n\r\nhi\r\n"
    assert flatten(parse(data), eight_bit=True, smtputf8=False) == (data, False)


# Arbitrary messages

FIELDS = st.sampled_from(
    [
        b"Subject: hi",
        b"Subject: \xff\x00",
        b"From: \xe4 <a@c.example>",
        b"To: =?utf-8?q?=FF?= <@",
        b"Content-Type: text/plain; charset=gb18030",
        b"Content-Type: text/plain; charset=\xff",
        b"Content-Type: multipart/mixed; boundary=M",
        b"Content-Type: multipart/signed; boundary=M",
        b"Content-Type: message/rfc822",
        b"Content-Type: application/octet-stream",
        b"Content-Type: ; =",
        b"Content-Transfer-Encoding: 8bit",
        b"Content-Transfer-Encoding: binary",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: \xff",
        b"Content-Disposition: attachment; filename*=utf-8''%ff",
        b"Content-Type: message/delivery-status",
        b"not a field",
        b" folded",
    ]
)
LINES = st.one_of(
    st.sampled_from([b"--M", b"--M--", b"", b".", b"K\xc3\xb6rper", b"a\rb", b"\0", b"text"]), st.binary(max_size=5)
)


@given(st.lists(FIELDS, max_size=5), st.lists(st.one_of(FIELDS, LINES), max_size=12), st.booleans(), st.booleans())
def test_arbitrary_message_raises_documented_errors_only(
    fields: Sequence[bytes], lines: Sequence[bytes], eight_bit: bool, smtputf8: bool
) -> None:
    for policy in PARSERS:
        message = parse(b"\r\n".join([*fields, b"", *lines, b""]), policy)
        with contextlib.suppress(Inconvertible):
            sent, _ = flatten(message, eight_bit=eight_bit, smtputf8=smtputf8)
            assert eight_bit or sent.isascii()
            assert b"\0" not in sent


PARTS = st.builds(
    part,
    st.binary(max_size=30).filter(lambda octets: b"--M" not in octets),
    kind=st.sampled_from(["text/plain", "text/html", "application/octet-stream"]),
    charset=st.sampled_from(["utf-8", "gb18030", "unknown"]),
    encoding=st.sampled_from(["7bit", "8bit", "binary"]),
)


@given(st.lists(PARTS, min_size=1, max_size=3), st.booleans())
def test_parts_of_a_well_formed_message_arrive_unchanged(parts: Sequence[bytes], eight_bit: bool) -> None:
    for policy in PARSERS:
        for data in (mixed(*parts), in_message(parts[0])):
            message = parse(data, policy)
            sent, _ = flatten(message, eight_bit=eight_bit, smtputf8=False)
            assert eight_bit or sent.isascii()
            assert leaves(parse(sent)) == leaves(message)


def test_email_message_is_sent_over_a_socket(backend: str) -> None:
    async def main(connect: Connect) -> None:
        async with connect() as client:
            assert (await client.send(SENDER, ONE, parse(mixed(part(b"a\xff b", charset="gb18030"))))).accepted
            with pytest.raises(Unsendable):
                await client.send(SENDER, ONE, parse(SIGNED))
            assert (await client.send(SENDER, ONE, parse(b"Subject: x\r\n\r\nhi\r\n"))).accepted

    server = Answering()
    with serving(server) as address:
        run(backend, main, address.port)
    assert leaves(parse(server.bodies[0])) == [b"a\xff b"]
    assert len(server.bodies) == 2
