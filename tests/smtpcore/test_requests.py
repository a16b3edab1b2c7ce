"""The rules for the requests of a client, such as the groups of RFC 2920 3.1."""

import pytest

from smtpcore import (
    Auth,
    Bdat,
    Burl,
    ChunkEnd,
    ConnectionOpened,
    Data,
    DataEnd,
    Ehlo,
    Helo,
    Lhlo,
    LocalProtocolError,
    Mail,
    Noop,
    OriginalRecipient,
    Path,
    Quit,
    Rcpt,
    Request,
    Rset,
    StartTls,
    State,
    Vrfy,
)
from smtpcore._requests import check_values, hoped_for, may_follow

from ..playbook import client, rcpt

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
def test_commands_other_than_rset_mail_and_rcpt_end_their_group(
    before: Request | ConnectionOpened, request_: Request
) -> None:
    assert not may_follow(before, request_)


@pytest.mark.parametrize("before", [Bdat(1), Burl("imap://x/y")])
def test_only_a_part_of_the_body_may_follow_a_part_before_the_last(before: Request) -> None:
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
def test_commands_may_follow_auth_if_it_needs_only_the_initial_response(auth: Auth, expected: bool) -> None:
    """RFC 4954 section 4"""
    assert may_follow(auth, MAIL) is expected


@pytest.mark.parametrize(
    "name", ["my_box", "My PC", "c.example.", "[1.2.3]", pytest.param("b\u00fc.example", id="R6531-3.7.1-01")]
)
@pytest.mark.parametrize("kind", [Ehlo, Helo, Lhlo])
def test_name_of_a_client_must_be_a_domain_or_an_address_literal(kind: type[Ehlo | Helo | Lhlo], name: str) -> None:
    with pytest.raises(LocalProtocolError, match="neither a domain nor an address literal"):
        check_values(kind(name), None, {}, tls=False)

    check_values(kind("[192.0.2.1]"), None, {}, tls=False)


@pytest.mark.parametrize("address", ["first..last@c.example", "a@my_host", "root"])
def test_client_sends_addresses_in_use_that_break_the_grammar(address: str) -> None:
    client().ask(Mail(Path(address))).wire(f"MAIL FROM:<{address}>\r\n".encode())
    client(at=State.MAIL).ask(Rcpt(Path(address))).wire(f"RCPT TO:<{address}>\r\n".encode())


def test_client_sends_malformed_parameters_that_a_relay_passes_on() -> None:
    orcpt = OriginalRecipient("rfc822;b+C3+BC@s.example")

    client("DSN", at=State.MAIL).ask(rcpt(ORCPT=orcpt)).wire(
        b"RCPT TO:<u@s.example> ORCPT=rfc822;b+C3+BC@s.example\r\n"
    )


@pytest.mark.parametrize(
    ("before", "request_", "kind", "after"),
    [
        (State.READY, MAIL, Mail, State.MAIL),
        (State.MAIL, RCPT, Rcpt, State.RCPT),
        (State.RCPT, Data(), Data, State.DATA),
        (State.RCPT, Bdat(1), ChunkEnd, State.CHUNKED),
        (State.RCPT, Bdat(1, last=True), DataEnd, State.READY),
        (State.RCPT, Noop(), Noop, State.RCPT),
    ],
)
def test_state_after_an_accepted_request_is_known_before_its_reply(
    before: State, request_: Request, kind: type[object], after: State
) -> None:
    assert hoped_for(before, request_, kind) is after
