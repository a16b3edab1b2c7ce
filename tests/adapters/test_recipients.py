"""Recipient policies: `AnyRecipient`, `Recipients`, `RecipientFilter` and `RelayPolicy`."""

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Path, Rcpt, Reply
from smtpcore_adapters import App, Session
from smtpcore_adapters.recipients import AnyRecipient, RecipientFilter, Recipients, RelayPolicy
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, EHLO, MAIL, RCPT, step
from tests.adapters.harness import running
from tests.adapters.playbook import session


def answer(recipients: AnyRecipient | Recipients, path: str) -> Reply:
    return step(recipients.on_rcpt(session(App()).session, Rcpt(Path(path))))


ACCEPTED = [
    "me@example.org",
    "ME@EXAMPLE.ORG",
    '"me"@example.org',
    "@relay.example:me@example.org",
    "anyone@example.net",
    "anyone@[192.0.2.1]",
    "Postmaster",
    "postmaster@example.org",
    "PostMaster@example.net",
    '"a b"@example.com',
]

REFUSED = {
    "you@example.org": "5.1.1",
    "anyone@sub.example.net": "5.7.1",
    "me@other.example": "5.7.1",
    "postmaster@other.example": "5.7.1",
    "anyone@[192.0.2.2]": "5.7.1",
    "me@example.net.example": "5.7.1",
}


@pytest.fixture
def recipients() -> Recipients:
    return Recipients(["me@example.org", "Example.NET", "[192.0.2.1]", '"a b"@example.com'])


@pytest.mark.parametrize("path", ACCEPTED)
def test_listed_addresses_and_domains_are_accepted(recipients: Recipients, path: str) -> None:
    assert answer(recipients, path) == Reply(250, "Recipient accepted", enhanced="2.1.5")


@pytest.mark.parametrize("path", REFUSED)
def test_other_recipients_are_refused(recipients: Recipients, path: str) -> None:
    reply = answer(recipients, path)
    assert reply.code == 550
    assert reply.enhanced == REFUSED[path]


ROUTED = {
    "you%other.example@example.org": "5.1.1",  # the percent hack
    '"you@other.example"@example.org': "5.1.1",
    '"me@example.org"@other.example': "5.7.1",
    "other.example!you@example.org": "5.1.1",  # a UUCP path
    "@example.org:you@other.example": "5.7.1",
    "@example.net,@example.org:you@other.example": "5.7.1",
    "you%example.org@[192.0.2.1]": "5.7.1",
}


@pytest.mark.parametrize("path", ROUTED)
def test_route_in_an_address_does_not_make_the_recipient_local(path: str) -> None:
    reply = answer(Recipients(["me@example.org", "example.net"]), path)
    assert reply.code == 550
    assert reply.enhanced == ROUTED[path]


@pytest.mark.parametrize("entry", ["", "@", "me@", "@example.org", "a b", "exa mple.org", "me@example.org>", "é@", "*"])
def test_entry_that_is_neither_address_nor_domain_is_a_value_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is neither an address nor a domain"):
        Recipients([entry])


def test_only_postmaster_is_accepted_without_entries() -> None:
    recipients = Recipients([])
    assert answer(recipients, "Postmaster").code == 250
    assert answer(recipients, "a@example.org").code == 550


def test_any_recipient_accepts_all() -> None:
    app = App()
    app.include(AnyRecipient())
    assert (
        session(app).send(EHLO + MAIL + b"RCPT TO:<who@ever.example>\r\nRCPT TO:<Postmaster>\r\n").end().codes[-2:]
        == [250] * 2
    )


def test_string_instead_of_a_list_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="as a list"):
        Recipients("example.org")


def test_filter_refuses_unaccepted_recipients_and_passes_other_recipients_to_later_handlers() -> None:
    app = App()
    app.include(RecipientFilter(Users({}), Recipients(["s.example", "u@other.example"])))

    @app.on("RCPT")
    def reply_later(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(251, "Asked")

    paths = [b"u@s.example", b"u@other.example", b"v@other.example", b"u@nowhere.example"]
    dialogue = session(app).send(EHLO + MAIL + b"".join(b"RCPT TO:<" + path + b">\r\n" for path in paths)).end()
    assert dialogue.codes[3:] == [251, 251, 550, 550]


def relaying(policy: RelayPolicy, *, is_asked: bool = True) -> App:
    """Return a server with `policy`, and a handler after it that accepts each recipient."""
    app = App()
    app.include(policy)
    if is_asked:
        app.on("RCPT")(lambda session, rcpt: Reply(250, "Asked"))
    return app


LOGIN = b"AUTH PLAIN " + b64encode(b"\0tim\0secret") + b"\r\n"
THREE = b"RCPT TO:<u@local.example>\r\nRCPT TO:<u@other.example>\r\nRCPT TO:<postmaster>\r\n"


@pytest.mark.parametrize(
    ("local", "login", "codes"),
    [
        (["local.example"], b"", [250, 550, 250]),
        (["local.example"], LOGIN, [250, 250, 250]),
        ([], b"", [550, 550, 550]),
        ([], LOGIN, [250, 250, 250]),
    ],
)
def test_relay_policy_lets_only_users_send_to_everyone(local: list[str], login: bytes, codes: list[int]) -> None:
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    app = relaying(RelayPolicy(Users({"tim": "secret"}), local=local))
    assert session(app, config=config).send(EHLO + login + MAIL + THREE).codes[-3:] == codes


def test_relay_policy_accepts_what_one_of_its_policies_accepts() -> None:
    app = relaying(RelayPolicy(None, Recipients(["u@other.example"]), local=["local.example"]))
    assert session(app).send(EHLO + MAIL + THREE).codes[-3:] == [250, 250, 250]


def test_relay_policy_refuses_a_policy_without_on_rcpt() -> None:
    domains: Any = ["example.org"]
    with pytest.raises(TypeError, match=r"pass Recipients\(\[...\]\)"):
        RelayPolicy(Users({"tim": "secret"}), domains)


def test_relay_policy_without_a_later_handler_accepts_nothing() -> None:
    app = relaying(RelayPolicy(local=["local.example"]), is_asked=False)
    assert session(app).send(EHLO + MAIL + THREE).codes[-3:] == [550, 550, 550]
    assert not app.handles("auth")


def test_filter_without_policies_refuses_all() -> None:
    app = App()
    app.include(RecipientFilter())
    assert session(app).send(EHLO + MAIL + RCPT).end().replies[-1] == "550 5.7.1 We do not relay"


EQUAL = [
    ("xn--mnchen-3ya.example", "u@m\u00fcnchen.example"),
    ("XN--MNCHEN-3ya.example", "u@M\u00dcNCHEN.example"),
    ("m\u00fcnchen.example", "u@xn--mnchen-3ya.example"),
    ("m\u00fcnchen.example", "u@mu\u0308nchen.example"),
    ("u@m\u00fcnchen.example", "U@xn--mnchen-3ya.example"),
    ("gr\u00fcn@s.example", "GRU\u0308N@s.example"),
    ("xn--strae-oqa.example", "u@stra\u00dfe.example"),
    ("[IPv6:2001:db8::1]", "u@[IPv6:2001:DB8:0::1]"),
    ("u@[IPv6:2001:db8::1]", "u@[IPv6:2001:db8:0:0:0:0:0:1]"),
    ("[192.0.2.1]", "u@[IPv6:::ffff:192.0.2.1]"),
    ("u@xn--mnchen-3ya.example", "postmaster@m\u00fcnchen.example"),
]


@pytest.mark.parametrize(("listed", "path"), EQUAL)
def test_recipient_is_accepted_in_each_spelling_of_the_domain(listed: str, path: str) -> None:
    assert answer(Recipients([listed]), path).code == 250


def test_unknown_recipient_at_another_spelling_of_a_local_domain_is_550_not_relaying() -> None:
    assert answer(Recipients(["u@m\u00fcnchen.example"]), "v@xn--mnchen-3ya.example").enhanced == "5.1.1"


@pytest.mark.parametrize(
    ("listed", "path"),
    [
        ("strasse.example", "u@stra\u00dfe.example"),
        ("m\u00fcnchen.example", "u@munchen.example"),
        ("[192.0.2.1]", "u@192.0.2.1"),
    ],
)
def test_recipient_at_a_similar_but_different_domain_is_refused(listed: str, path: str) -> None:
    assert answer(Recipients([listed]), path).code == 550


@pytest.mark.parametrize(("listed", "path"), [EQUAL[0], EQUAL[2], EQUAL[7]])
def test_server_accepts_recipients_in_each_spelling_of_the_domain(backend: str, listed: str, path: str) -> None:
    app = App()
    app.include(Recipients([listed]))
    rcpt = f"RCPT TO:<{path}>\r\n".encode()
    with running(backend, app) as server, server.connect() as client:
        client.send(EHLO + MAIL.replace(b"\r", b" SMTPUTF8\r") + rcpt).expect(220, 250, 250, 250)
