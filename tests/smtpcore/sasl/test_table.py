"""The table of mechanisms: offering, choosing and making them."""

import pytest

from smtpcore import LocalProtocolError
from smtpcore.sasl import (
    MECHANISMS,
    PLAINTEXT,
    Channel,
    ChannelBinding,
    ClientMechanism,
    Credentials,
    Mechanism,
    PlainClient,
    PlainServer,
    ServerMechanism,
    choose,
    make_client,
    make_server,
    offer,
)

ALL = [row.name for row in MECHANISMS]
BINDINGS = (ChannelBinding("tls-exporter", b"x"),)
TLS = Channel(tls=True)
PASSWORD = Credentials(username="tim", password="tanstaaf")
TOKEN = Credentials(username="tim", token="t")


def test_mechanism_table_is_complete() -> None:
    assert set(ALL) == {
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "SCRAM-SHA-1",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "OAUTHBEARER",
        "XOAUTH2",
        "EXTERNAL",
        "ANONYMOUS",
    }
    assert len(set(ALL)) == len(ALL)


@pytest.mark.parametrize("name", ["", "X" * 21, "foo bar", "plain", "X.Y", "\u017f"])
def test_invalid_mechanism_name_is_refused(name: str) -> None:
    """R4422-3.1-01"""
    with pytest.raises(LocalProtocolError):
        Mechanism(name=name, server=PlainServer, client=PlainClient)


@pytest.mark.parametrize("name", ["PLAIN", "plain", "pLaIn"])
def test_mechanism_names_are_case_insensitive(name: str) -> None:
    """R4954-8-01"""
    server, client = make_server(name), make_client(name, PASSWORD)

    assert isinstance(server, ServerMechanism)
    assert isinstance(client, ClientMechanism)
    assert (repr(server), repr(client)) == ("<PlainServer PLAIN>", "<PlainClient PLAIN>")


@pytest.mark.parametrize("name", ["", "FOO", "PLA\u0131N", "SCRAM-\u017fHA-1", "X" * 1000])
def test_unknown_mechanism_name_is_refused(name: str) -> None:
    for make in (lambda: make_server(name), lambda: make_client(name, PASSWORD), lambda: offer([name], TLS)):
        with pytest.raises(LocalProtocolError, match="no mechanism") as caught:
            make()
        assert len(str(caught.value)) < 80


@pytest.mark.parametrize(
    ("channel", "cleartext", "missing"),
    [
        (
            PLAINTEXT,
            False,
            {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"},
        ),
        (PLAINTEXT, True, {"OAUTHBEARER", "XOAUTH2", "EXTERNAL", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"}),
        (TLS, False, {"EXTERNAL", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"}),
        (Channel(tls=True, bindings=BINDINGS), False, {"EXTERNAL"}),
        (Channel(tls=True, external="CN=tim"), False, {"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"}),
    ],
)
def test_server_offers_only_mechanisms_that_suit_the_channel(
    channel: Channel, cleartext: bool, missing: set[str]
) -> None:
    """R4954-3-02, R4954-4-30, R4954-4-31, R4954-6-07, R4616-1-01, R7628-3-01, R5802-4-02, R5802-6-04, R8314-4.2-02"""
    assert offer(ALL, channel, cleartext=cleartext) == tuple(name for name in ALL if name not in missing)


def test_plain_is_not_offered_without_tls_by_default() -> None:
    assert offer(["PLAIN", "CRAM-MD5"], PLAINTEXT) == ("CRAM-MD5",)


def test_server_keeps_the_given_order_of_mechanisms() -> None:
    """R4954-3-01"""
    assert offer(["plain", "SCRAM-SHA-1"], TLS) == ("PLAIN", "SCRAM-SHA-1")


@pytest.mark.parametrize(
    ("offered", "credentials", "channel", "name"),
    [
        (ALL, PASSWORD, Channel(tls=True, bindings=BINDINGS), "SCRAM-SHA-256-PLUS"),
        (["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"], PASSWORD, Channel(tls=True, bindings=BINDINGS), "SCRAM-SHA-1-PLUS"),
        (ALL, PASSWORD, TLS, "SCRAM-SHA-256"),
        (ALL, PASSWORD, PLAINTEXT, "SCRAM-SHA-256"),
        (ALL, TOKEN, TLS, "OAUTHBEARER"),
        (ALL, TOKEN, PLAINTEXT, None),
        (["XOAUTH2"], TOKEN, TLS, "XOAUTH2"),
        (["XOAUTH2"], Credentials(token="t"), TLS, None),
        (["login", "plain"], PASSWORD, TLS, "PLAIN"),
        (["login"], PASSWORD, TLS, "LOGIN"),
        (["PLAIN", "LOGIN"], PASSWORD, PLAINTEXT, None),
        (["PLAIN", "LOGIN", "CRAM-MD5"], PASSWORD, PLAINTEXT, "CRAM-MD5"),
        (["LOGIN", "CRAM-MD5"], Credentials(username="tim", password="x", authorization="kurt"), TLS, None),
        (ALL, PASSWORD, Channel(tls=True, external="CN=tim"), "EXTERNAL"),
        (ALL, Credentials(), TLS, None),
        (ALL, Credentials(trace=""), TLS, "ANONYMOUS"),
        (["GSSAPI", "\u017fCRAM-SHA-1"], PASSWORD, TLS, None),
        ([], PASSWORD, TLS, None),
    ],
)
def test_client_chooses_the_strongest_usable_mechanism(
    offered: list[str], credentials: Credentials, channel: Channel, name: str | None
) -> None:
    """R4954-14-01, R4616-5-01, R7628-3-01"""
    assert choose(offered, credentials, channel) == name
    if name:
        make_client(name, credentials, channel)


def test_cleartext_option_allows_passwords_but_never_tokens() -> None:
    assert choose(["PLAIN"], PASSWORD, PLAINTEXT, cleartext=True) == "PLAIN"
    assert choose(["XOAUTH2", "OAUTHBEARER"], TOKEN, PLAINTEXT, cleartext=True) is None


def test_table_has_a_short_repr() -> None:
    assert repr(MECHANISMS) == "MECHANISMS"
