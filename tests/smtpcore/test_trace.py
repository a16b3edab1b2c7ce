from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from smtpcore import Ehlo, Helo, Lhlo, LocalProtocolError, Path
from smtpcore.trace import MAX_HOPS, Hops, end_of_fields, format_date, received, return_path, with_protocol

from ..helpers import pieces

DATE = datetime(2024, 2, 29, 7, 5, 9, tzinfo=UTC)


def field(**changes: Any) -> str:
    values: dict[str, Any] = {
        "helo": Ehlo("c.example"),
        "peer": IPv4Address("192.0.2.7"),
        "by": "s.example",
        "date": DATE,
        "id": "42",
    }
    return received(**(values | changes)).decode()


def test_received_field_contains_all_clauses() -> None:
    """R5321-4.4-02, R5321-4.4-03, R5321-4.4-04, R5321-4.4-12, R5321-7.2-01, R2505-2.2.1-01"""
    assert field(tls="TLSv1.3 AES", authenticated=True, recipient=Path("u@s.example")) == (
        "Received: from c.example ([192.0.2.7])\r\n"
        "\tby s.example with ESMTPSA id 42 (TLSv1.3 AES)\r\n"
        "\tfor <u@s.example>;\r\n"
        "\tThu, 29 Feb 2024 07:05:09 +0000\r\n"
    )


def test_received_field_omits_unknown_values() -> None:
    assert "with ESMTP id 42;" in field()
    assert field(helo=None, peer=None) == (
        "Received: from unknown\r\n\tby s.example with SMTP id 42;\r\n\tThu, 29 Feb 2024 07:05:09 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("name", "comment"),
    [
        ("my_box", "my_box"),
        ("box.local.", "box.local."),
        ("(none)", "?none?"),
        ("My PC\\", "My PC?"),
        ("b\u00fcro; id 1", "b?ro; id 1"),
        ("x" * 500 + ".", "x" * 255),
    ],
)
def test_received_field_puts_a_name_other_than_a_domain_into_a_comment(name: str, comment: str) -> None:
    assert field(helo=Ehlo(name)).splitlines()[0] == f"Received: from unknown ([192.0.2.7]) (HELO {comment})"
    assert field(helo=Ehlo(name), peer=None).splitlines()[0] == f"Received: from unknown (HELO {comment})"


def test_received_field_tags_an_ipv6_address() -> None:
    assert "([IPv6:2001:db8::1])" in field(peer=IPv6Address("2001:db8::1"))


@pytest.mark.parametrize(
    ("recipient", "smtputf8", "clause"),
    [
        pytest.param("@a.example:u@s.example", False, "for <u@s.example>", id="source route is left out"),
        pytest.param("\u00e9@s.example", False, None, id="R6531-3.7.3-01: no UTF-8"),
        pytest.param("\u00e9@s.example", True, "for <\u00e9@s.example>", id="R6531-3.7.3-01: UTF-8"),
        pytest.param("", True, None, id="the null path"),
        pytest.param("first..last@s.example", False, None, id="no path by the grammar"),
    ],
)
def test_received_field_names_the_recipient_without_route_and_utf_8_only_with_smtputf8(
    recipient: str, smtputf8: bool, clause: str | None
) -> None:
    text = field(recipient=Path(recipient), smtputf8=smtputf8)

    assert f"with {'UTF8SMTP' if smtputf8 else 'ESMTP'} id" in text
    assert ("for <" in text) is (clause is not None)
    assert (clause or "") in text


@pytest.mark.parametrize(
    ("helo", "tls", "authenticated", "smtputf8", "keyword"),
    [
        pytest.param(None, False, False, False, "SMTP", id="no hello"),
        pytest.param(Helo("c.example"), False, False, False, "SMTP", id="R3848-1-05: HELO"),
        pytest.param(Helo("c.example"), True, False, False, "SMTP", id="HELO under TLS"),
        pytest.param(Ehlo("c.example"), False, False, False, "ESMTP", id="R3848-1-05: EHLO"),
        pytest.param(Ehlo("c.example"), False, True, False, "ESMTPA", id="R3848-1-01, R4954-7-01: plain"),
        pytest.param(Ehlo("c.example"), True, False, False, "ESMTPS", id="R3848-1-02"),
        pytest.param(Ehlo("c.example"), True, True, False, "ESMTPSA", id="R3848-1-03, R4954-7-01: under TLS"),
        pytest.param(Lhlo("c.example"), False, False, False, "LMTP", id="R3848-1-04: LMTP"),
        pytest.param(Lhlo("c.example"), False, True, False, "LMTPA", id="R3848-1-04: LMTPA"),
        pytest.param(Lhlo("c.example"), True, False, False, "LMTPS", id="R3848-1-04: LMTPS"),
        pytest.param(Lhlo("c.example"), True, True, False, "LMTPSA", id="R3848-1-04: LMTPSA"),
        pytest.param(Ehlo("c.example"), False, False, True, "UTF8SMTP", id="R6531-3.7.3-02"),
        pytest.param(Lhlo("c.example"), False, False, True, "UTF8LMTP", id="UTF-8 over LMTP"),
        pytest.param(Ehlo("c.example"), False, True, True, "UTF8SMTPA", id="UTF-8 and AUTH"),
        pytest.param(Ehlo("c.example"), True, False, True, "UTF8SMTPS", id="UTF-8 and TLS"),
        pytest.param(Ehlo("c.example"), True, True, True, "UTF8SMTPSA", id="UTF-8, TLS and AUTH"),
    ],
)
def test_with_clause_uses_the_registered_protocol_name(
    helo: Helo | Ehlo | Lhlo | None, tls: bool, authenticated: bool, smtputf8: bool, keyword: str
) -> None:
    """R5321-4.4-13"""
    assert with_protocol(helo, tls=tls, authenticated=authenticated, smtputf8=smtputf8) == keyword


@pytest.mark.parametrize(
    ("date", "text"),
    [
        (DATE, "Thu, 29 Feb 2024 07:05:09 +0000"),
        (
            datetime(999, 12, 1, 23, 59, 59, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "Sun, 1 Dec 0999 23:59:59 +0530",
        ),
        (datetime(2023, 1, 2, tzinfo=timezone(timedelta(hours=14))), "Mon, 2 Jan 2023 00:00:00 +1400"),
        (datetime(2023, 1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30))), "Mon, 2 Jan 2023 00:00:00 -0330"),
    ],
)
def test_format_date_has_a_four_digit_year_and_a_numeric_zone(date: datetime, text: str) -> None:
    """R5321-4.4-06, R5321-4.4-11, R5321-F.5-01"""
    assert format_date(date) == text


def test_date_without_time_zone_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="has no time zone"):
        format_date(datetime(2024, 2, 29))


@pytest.mark.parametrize("changes", [{"by": "s\r\nBcc: x"}, {"id": "4\n2"}, {"tls": "a\x00"}, {"id": "\udcff"}])
def test_characters_that_no_received_field_can_have_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError, match="control characters"):
        field(**changes)


def test_received_field_lines_have_at_most_998_octets() -> None:
    longest = ".".join(["a" * 63] * 7)
    text = field(helo=Ehlo(longest), by=longest, recipient=Path(f"{longest}@{longest}"), peer=IPv6Address(2**128 - 1))

    assert max(map(len, text.split("\r\n"))) <= 998


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", b"Return-Path: <>\r\n"),
        ("a@c.example", b"Return-Path: <a@c.example>\r\n"),
        ("@b.example:a@c.example", b"Return-Path: <a@c.example>\r\n"),
        ("\u00e9@c.example", "Return-Path: <\u00e9@c.example>\r\n".encode()),
    ],
)
def test_return_path_is_the_sender_without_route(path: str, line: bytes) -> None:
    """R5321-4.4-07"""
    assert return_path(Path(path)) == line


@pytest.mark.parametrize(
    ("tls", "comment", "clause"),
    [
        ("TLSv1.3 TLS_AES_128_GCM_SHA256", "", "\ttls TLS_AES_128_GCM_SHA256 (TLSv1.3)"),
        ("TLS_AES_128_GCM_SHA256", "", "\ttls TLS_AES_128_GCM_SHA256"),
        ("TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256", " (TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256)", ""),
        (None, "", ""),
    ],
)
def test_tls_clause_names_a_registered_cipher_and_a_comment_names_any_other_cipher(
    tls: str | None, comment: str, clause: str
) -> None:
    """R8314-4.3-01"""
    lines = field(tls=tls).rstrip("\r\n").split("\r\n")
    assert lines[1].rstrip(";").endswith(f" id 42{comment}")
    assert lines[2:-1] == ([f"{clause};"] if clause else [])


def test_received_field_has_a_priority_clause() -> None:
    """R6710-4.1-08"""
    text = field(priority=3, recipient=Path("u@s.example"))
    assert "\tfor <u@s.example>\r\n\tPRIORITY 3;\r\n" in text


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"Received: a\r\nreceived:b\r\nRECEIVED: c\r\n\r\nReceived: d\r\n", 3),
        (b"Received: a\r\n\r\nReceived: b\r\n\r\n", 1),
        (b"X-Received: a\r\nSubject: Received: b\r\n Received: c\r\nReceived-SPF: d\r\n\r\n", 0),
        (b"\r\nReceived: a\r\n", 0),
        (b"Received : a\r\nReceived\t\t: b\r\n\r\n", 2),
        (b"Received: a\r\n" * 7, 7),
        (b"", 0),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 11, 12, 1000])
def test_hops_counts_received_fields_of_the_header_for_any_segmentation(message: bytes, count: int, size: int) -> None:
    """R5321-6.3-02"""
    hops = Hops()
    for piece in pieces(message, size):
        hops.feed(piece)

    assert hops.count == count
    assert MAX_HOPS >= 100


@pytest.mark.parametrize(
    ("body", "end"), [(b" x", b"\r\n"), (b"\tx", b"\r\n"), (b"A: b", b""), (b"\r\n x", b""), (b".", b"")]
)
def test_body_that_begins_with_white_space_needs_the_end_of_the_fields(body: bytes, end: bytes) -> None:
    assert end_of_fields(body) == end
