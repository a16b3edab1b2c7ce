"""Authentication of the client."""

import ssl
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest

from smtpcore import RemoteProtocolError, Reply
from smtpcore.sasl import ChannelBinding, Credentials, make_client
from smtpcore_adapters import AuthenticationRefused, BearerToken, TlsMode
from tests.adapters.playbook import ClientPlaybook, new_client
from tests.playbook import GREETING, offer


def greeting_with_auth(mechanisms: str) -> tuple[bytes, ...]:
    return GREETING, offer(f"AUTH {mechanisms}")


def test_strongest_suitable_mechanism_is_chosen() -> None:
    script = [*greeting_with_auth("LOGIN PLAIN CRAM-MD5"), b"334 PDE+\r\n", b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(*script).connect()
    assert book.sent[1] == b"AUTH CRAM-MD5\r\n"

    script = [*greeting_with_auth("XOAUTH2 PLAIN"), b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=Credentials(username="tim", token="abc")).send(*script).connect()
    assert book.sent[1].startswith(b"AUTH XOAUTH2 ")


def test_given_mechanism_object_is_used() -> None:
    login = make_client("LOGIN", Credentials(username="tim", password="secret"))
    script = [*greeting_with_auth("PLAIN LOGIN"), b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=login).send(*script).connect()

    assert book.sent[1:] == [b"AUTH LOGIN\r\n", b"dGlt\r\n", b"c2VjcmV0\r\n"]


@pytest.mark.parametrize("is_async", [False, True])
def test_function_returns_the_credentials_of_each_connection(is_async: bool) -> None:
    tokens = iter(["one", "two"])

    def login() -> Credentials:
        return Credentials(username="tim", token=next(tokens))

    async def fetch_login() -> Credentials:
        return login()

    for token in ("one", "two"):
        script = [*greeting_with_auth("XOAUTH2"), b"235 welcome\r\n"]
        book = new_client(tls=TlsMode.IMPLICIT, auth=fetch_login if is_async else login).send(*script).connect()
        assert b64decode(book.sent[1].split()[2]) == f"user=tim\1auth=Bearer {token}\1\1".encode()


def test_failed_function_for_the_credentials_closes_the_connection() -> None:
    def login() -> Credentials:
        raise OSError("the token server is down")

    book = new_client(tls=TlsMode.IMPLICIT, auth=login).send(*greeting_with_auth("XOAUTH2"), b"221 bye\r\n")
    assert str(book.fail()) == "the token server is down"
    assert book.sent[1:] == [b"QUIT\r\n"]


@pytest.mark.parametrize("returned", [None, "secret", b"secret", ["tim", "secret"], ("tim", "secret", ""), ("tim", 5)])
def test_function_that_returns_no_credentials_is_a_type_error_without_a_login(returned: Any) -> None:
    book = new_client(tls=TlsMode.IMPLICIT, auth=lambda: returned).send(*greeting_with_auth("PLAIN"), b"221 bye\r\n")
    with pytest.raises(TypeError, match="the result of the function in auth is a value of type") as caught:
        book.connect()
    assert "secret" not in str(caught.value)
    assert book.sent[1:] == [b"QUIT\r\n"]


@pytest.mark.parametrize("returned", [None, b"secret", {"access_token": "secret"}])
def test_function_that_returns_no_token_is_a_type_error_without_a_login(returned: Any) -> None:
    login = BearerToken("tim", lambda: returned)
    book = new_client(tls=TlsMode.IMPLICIT, auth=login).send(*greeting_with_auth("XOAUTH2"), b"221 bye\r\n")
    with pytest.raises(TypeError, match=r"the result of get or renew is a value of type \w+: use str") as caught:
        book.connect()
    assert "secret" not in str(caught.value)
    assert book.sent[1:] == [b"QUIT\r\n"]


def test_credentials_are_not_fetched_without_tls() -> None:
    def login() -> Credentials:
        raise AssertionError

    assert isinstance(new_client(auth=login).send(GREETING, offer("AUTH PLAIN")).fail(), AuthenticationRefused)


def test_long_initial_response_is_sent_after_an_empty_challenge() -> None:
    script = [*greeting_with_auth("PLAIN"), b"334 \r\n", b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600)).send(*script).connect()
    assert book.sent[1] == b"AUTH PLAIN\r\n"
    assert len(book.sent[2]) > 800

    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600)).send(*greeting_with_auth("PLAIN"), b"504 no\r\n")
    error = book.fail()
    assert isinstance(error, AuthenticationRefused)


def test_password_is_sent_without_tls_only_with_plaintext_auth() -> None:
    script = [GREETING, offer("AUTH PLAIN"), b"235 welcome\r\n"]
    book = new_client(auth=("tim", "secret")).send(*script)
    error = book.fail()
    assert isinstance(error, AuthenticationRefused)
    assert b"AUTH" not in book.output

    book = new_client(auth=("tim", "secret"), plaintext_auth=True).send(*script).connect()
    assert b"AUTH PLAIN" in book.output


def test_password_is_not_sent_to_an_unverified_server() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    book = new_client(tls=TlsMode.IMPLICIT, context=context, auth=("tim", "secret")).send(*greeting_with_auth("PLAIN"))
    error = book.fail()

    assert isinstance(error, AuthenticationRefused)
    assert "only over verified TLS" in str(error)
    assert b"AUTH" not in book.output


@pytest.mark.parametrize("offered", [[], ["AUTH X-UNKNOWN"]])
def test_connect_fails_without_a_common_mechanism(offered: list[str]) -> None:
    error = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(GREETING, offer(*offered)).fail()

    assert isinstance(error, AuthenticationRefused)
    assert error.reply is None
    assert "secret" not in str(error)


def test_refused_login_raises_authentication_refused_with_the_reply() -> None:
    error = (
        new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret"))
        .send(*greeting_with_auth("PLAIN"), b"535 5.7.8 no\r\n")
        .fail()
    )

    assert isinstance(error, AuthenticationRefused)
    assert error.reply == Reply(535, "no", enhanced="5.7.8")


def test_malformed_challenge_is_cancelled() -> None:
    script = [*greeting_with_auth("CRAM-MD5"), b"334 ***\r\n", b"501 cancelled\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(*script)
    error = book.fail()

    assert isinstance(error, RemoteProtocolError)
    assert book.sent[-2:] == [b"*\r\n", b"QUIT\r\n"]


def test_scram_success_without_server_signature_is_an_error() -> None:
    error = (
        new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret"))
        .send(*greeting_with_auth("SCRAM-SHA-256"), b"235 trust me\r\n")
        .fail()
    )

    assert isinstance(error, RemoteProtocolError)


def test_mechanism_that_cannot_use_the_credentials_is_skipped() -> None:
    script = [*greeting_with_auth("SCRAM-SHA-256 PLAIN"), b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "\u0221secret")).send(*script).connect()
    assert book.sent[1].startswith(b"AUTH PLAIN ")


def test_scram_without_plus_after_a_refused_scram_plus_claims_no_channel_binding() -> None:
    bindings = (ChannelBinding("tls-exporter", b"data"),)
    script = [*greeting_with_auth("SCRAM-SHA-256-PLUS SCRAM-SHA-256"), b"504 no\r\n", b"535 no\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(*script)
    book.stream.bindings = bindings
    assert isinstance(book.fail(), AuthenticationRefused)
    initial = [line.split() for line in book.sent[1:3]]
    assert [words[1] for words in initial] == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]
    assert [b64decode(words[2]).split(b",")[0] for words in initial] == [b"p=tls-exporter", b"n"]


# After a refusal


WRONG = b"535 5.7.8 wrong\r\n"
WELCOME = b"235 welcome\r\n"
CHALLENGE = b"334 PDE+\r\n"


def logging_in(mechanisms: str, *script: bytes, **options: Any) -> ClientPlaybook:
    """Return a client with a password over verified TLS."""
    given = {"tls": TlsMode.IMPLICIT, "auth": ("tim", "secret"), **options}
    return new_client(**given).send(*greeting_with_auth(mechanisms), *script)


def tried(book: ClientPlaybook) -> list[bytes]:
    return [line.split()[1] for line in book.sent if line.startswith(b"AUTH ")]


def refused(book: ClientPlaybook) -> AuthenticationRefused:
    error = book.fail()
    assert isinstance(error, AuthenticationRefused)
    return error


@pytest.mark.parametrize(
    ("offered", "script", "names"),
    [
        ("CRAM-MD5 LOGIN PLAIN", [CHALLENGE, WRONG, WELCOME], [b"CRAM-MD5", b"PLAIN"]),
        ("SCRAM-SHA-256 CRAM-MD5 PLAIN", [WRONG, WELCOME], [b"SCRAM-SHA-256", b"PLAIN"]),
        ("SCRAM-SHA-256 SCRAM-SHA-1 LOGIN", [WRONG, CHALLENGE, CHALLENGE, WELCOME], [b"SCRAM-SHA-256", b"LOGIN"]),
        ("PLAIN LOGIN", [WRONG, CHALLENGE, CHALLENGE, WELCOME], [b"PLAIN", b"LOGIN"]),
        # A refusal of the mechanism is no failed login.
        (
            "CRAM-MD5 PLAIN LOGIN",
            [WRONG, b"504 no\r\n", CHALLENGE, CHALLENGE, WELCOME],
            [b"CRAM-MD5", b"PLAIN", b"LOGIN"],
        ),
    ],
)
def test_after_a_535_the_password_itself_is_sent_over_tls(
    offered: str, script: list[bytes], names: list[bytes]
) -> None:
    assert tried(logging_in(offered, *script).connect()) == names


@pytest.mark.parametrize(
    ("offered", "script", "names"),
    [
        ("CRAM-MD5 PLAIN LOGIN", [CHALLENGE, WRONG, WRONG], [b"CRAM-MD5", b"PLAIN"]),
        ("SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5", [WRONG], [b"SCRAM-SHA-256"]),
        ("PLAIN LOGIN", [WRONG, b"454 later\r\n"], [b"PLAIN", b"LOGIN"]),
        ("PLAIN", [b"454 later\r\n"], [b"PLAIN"]),
        ("PLAIN LOGIN", [b"454 later\r\n"], [b"PLAIN"]),
    ],
)
def test_password_is_refused_at_most_twice(offered: str, script: list[bytes], names: list[bytes]) -> None:
    book = logging_in(offered, *script)
    refused(book)
    assert tried(book) == names
    assert book.sent[-1] == b"QUIT\r\n"


@pytest.mark.parametrize("last", [b"504 no\r\n", b"421 bye\r\n", b"gibberish\r\n", b""])
def test_refusal_of_the_password_is_raised_if_the_attempt_after_it_fails_otherwise(last: bytes) -> None:
    error = refused(logging_in("CRAM-MD5 PLAIN", CHALLENGE, WRONG, *([last] if last else [])))
    assert error.reply == Reply(535, "wrong", enhanced="5.7.8")


def test_attempt_after_a_535_uses_one_of_auth_mechanisms() -> None:
    book = logging_in("CRAM-MD5 PLAIN LOGIN", WRONG, auth_mechanisms=["CRAM-MD5"])
    refused(book)
    assert tried(book) == [b"CRAM-MD5"]


@pytest.mark.parametrize("text", ["Invalid authentication mechanism", "no mechanism available"])
def test_535_whose_text_names_the_mechanism_is_about_the_mechanism(text: str) -> None:
    reply = f"535 5.7.8 Error: authentication failed: {text}\r\n".encode()
    book = new_client(tls=TlsMode.NONE, auth=("tim", "secret"), plaintext_auth=True)
    assert tried(book.send(*greeting_with_auth("CRAM-MD5 PLAIN"), reply, WELCOME).connect()) == [b"CRAM-MD5", b"PLAIN"]


# Channel bindings


EXPORTER = ChannelBinding("tls-exporter", b"secret of the session")
END_POINT = ChannelBinding("tls-server-end-point", b"hash")


def test_mechanism_without_binding_does_not_follow_a_535_to_a_plus_mechanism() -> None:
    book = logging_in("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", WRONG, WELCOME)
    book.stream.bindings = (END_POINT,)
    refused(book)
    assert tried(book) == [b"SCRAM-SHA-256-PLUS"]


def test_selected_mechanism_without_plus_claims_no_channel_binding() -> None:
    book = logging_in("SCRAM-SHA-256-PLUS SCRAM-SHA-256", WRONG, auth_mechanisms=["SCRAM-SHA-256"])
    book.stream.bindings = (END_POINT,)
    refused(book)
    (initial,) = [line.split()[2] for line in book.sent if line.startswith(b"AUTH ")]
    assert b64decode(initial).startswith(b"n,,")


def test_next_type_of_binding_is_used_if_the_server_lacks_the_first_one() -> None:
    book = logging_in("SCRAM-SHA-256-PLUS PLAIN", WRONG, WRONG)
    book.stream.bindings = (EXPORTER, END_POINT)
    refused(book)
    flags = [b64decode(line.split()[2]).split(b",")[0] for line in book.sent if line.startswith(b"AUTH ")]
    assert flags == [b"p=tls-exporter", b"p=tls-server-end-point"]


# Tokens


EXPIRED = b"334 " + b64encode(b'{"status":"401","schemes":"Bearer","scope":"mail"}') + b"\r\n"


def as_coroutine(function: Callable[[], str]) -> Callable[[], Any]:
    async def fetch() -> str:
        return function()

    return fetch


def tokens_sent(book: ClientPlaybook) -> list[str]:
    initial = [b64decode(line.split()[2]) for line in book.sent if line.startswith(b"AUTH ")]
    return [each.partition(b"Bearer ")[2].rstrip(b"\1").decode() for each in initial]


@pytest.mark.parametrize("kind", [lambda function: function, as_coroutine])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("refusal", [[EXPIRED, WRONG], [b"535 5.7.3 Authentication unsuccessful\r\n"]])
def test_refused_token_is_renewed_once(kind: Any, mechanism: str, refusal: list[bytes]) -> None:
    tokens = iter(["old", "new"])
    login = BearerToken("tim", kind(lambda: next(tokens)))
    assert tokens_sent(logging_in(mechanism, *refusal, WELCOME, auth=login).connect()) == ["old", "new"]

    login = BearerToken("tim", kind(lambda: "cached"), renew=kind(lambda: "fresh"))
    book = logging_in(mechanism, *refusal, *refusal, auth=login)
    assert refused(book).reply
    assert tokens_sent(book) == ["cached", "fresh"]


def test_function_for_credentials_is_called_again_after_a_refused_token() -> None:
    tokens = iter(["old", "new"])
    login = lambda: Credentials(username="tim", token=next(tokens))  # noqa: E731
    assert tokens_sent(logging_in("XOAUTH2", EXPIRED, WRONG, WELCOME, auth=login).connect()) == ["old", "new"]


@pytest.mark.parametrize(
    "login",
    [
        Credentials(username="tim", token="same"),
        BearerToken("tim", lambda: "same"),
        lambda: BearerToken("tim", lambda: "same"),
        iter(
            [Credentials(username="tim", token="same"), make_client("PLAIN", Credentials(username="a", password="b"))]
        ).__next__,
    ],
)
def test_same_token_is_not_sent_twice(login: Any) -> None:
    book = logging_in("XOAUTH2", EXPIRED, WRONG, auth=login)
    error = refused(book)
    assert tokens_sent(book) == ["same"]
    assert error.token_error
    assert error.token_error.others == {"schemes": "Bearer"}


@pytest.mark.parametrize("reply", [b"454 4.7.0 later\r\n", b"421 4.7.0 bye\r\n"])
def test_token_is_not_renewed_after_a_temporary_failure(reply: bytes) -> None:
    book = logging_in("XOAUTH2", reply, auth=BearerToken("tim", iter(["one"]).__next__))
    assert refused(book).reply


def test_token_is_not_part_of_the_representation_of_a_login() -> None:
    assert repr(BearerToken("tim", lambda: "secret")) == "BearerToken(username='tim')"
