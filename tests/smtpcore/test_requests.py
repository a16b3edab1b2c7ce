"""The rules for the requests of a client, such as the groups of RFC 2920 3.1."""

import pytest

from smtpcore import (
    Auth,
    Bdat,
    Burl,
    ConnectionOpened,
    Data,
    DataEnd,
    Ehlo,
    Mail,
    Noop,
    Path,
    Quit,
    Rcpt,
    Request,
    Rset,
    StartTls,
    Vrfy,
)
from smtpcore._requests import may_follow

MAIL, RCPT = Mail(Path("a@c.example")), Rcpt(Path("u@s.example"))
ENVELOPE: list[Request] = [Rset(), MAIL, RCPT]
PARTS: list[Request] = [Bdat(1), Bdat(1, last=True), Burl("imap://x/y"), Burl("imap://x/y", last=True)]
OTHERS: list[Request] = [Ehlo("c.example"), Data(), Noop(), Vrfy("u"), StartTls(), Quit(), Auth("LOGIN")]


@pytest.mark.parametrize("request_", [*ENVELOPE, *OTHERS, Burl("imap://x/y")])
@pytest.mark.parametrize("before", [*ENVELOPE, DataEnd()])
def test_rset_mail_rcpt_and_the_end_of_data_may_be_followed_in_a_group(before: Request, request_: Request) -> None:
    assert may_follow(before, request_)


@pytest.mark.parametrize("before", [*ENVELOPE, DataEnd()])
def test_first_chunk_waits_for_the_replies_to_mail_and_rcpt(before: Request) -> None:
    assert not may_follow(before, Bdat(1))


@pytest.mark.parametrize("request_", [*ENVELOPE, *OTHERS])
@pytest.mark.parametrize("before", [*OTHERS, ConnectionOpened()])
def test_other_commands_end_their_group(before: Request | ConnectionOpened, request_: Request) -> None:
    assert not may_follow(before, request_)


@pytest.mark.parametrize("before", [Bdat(1), Burl("imap://x/y")])
def test_parts_of_a_body_may_follow_each_other_and_nothing_else_may(before: Request) -> None:
    assert all(may_follow(before, part) for part in PARTS)
    assert not any(may_follow(before, request) for request in [*ENVELOPE, *OTHERS])


@pytest.mark.parametrize("before", [Bdat(1, last=True), Burl("imap://x/y", last=True)])
def test_nothing_follows_the_last_part_of_a_body(before: Request) -> None:
    assert not any(may_follow(before, request) for request in [*ENVELOPE, *PARTS, *OTHERS])


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (Auth("PLAIN", b"\0u\0p"), True),
        (Auth("EXTERNAL", b""), True),
        (Auth("PLAIN"), False),
        (Auth("LOGIN", b"u"), False),
        (Auth("SCRAM-SHA-256", b"n,,n=u,r=x"), False),
    ],
)
def test_auth_may_be_followed_if_its_initial_response_is_the_only_one(auth: Auth, expected: bool) -> None:
    """RFC 4954 section 4"""
    assert may_follow(auth, MAIL) is expected
