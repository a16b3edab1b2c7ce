"""The URL and the options of a cluster."""

import ssl
from typing import Any

import pytest

from smtpcore_adapters.stores.jetstream import JetStream
from smtpcore_adapters.stores.jetstream._options import cluster_of


def test_url_names_servers_and_a_stream() -> None:
    cluster = cluster_of("nats://a.example,192.0.2.1:42,[2001:db8::1],[2001:db8::2]:43/MAIL", timeout=5)
    assert cluster.servers == ("a.example:4222", "192.0.2.1:42", "[2001:db8::1]:4222", "[2001:db8::2]:43")
    assert (cluster.stream, cluster.bodies, cluster.replicas, cluster.timeout) == ("MAIL", "MAIL_bodies", 3, 5)
    assert str(cluster) == "nats://a.example:4222,192.0.2.1:42,[2001:db8::1]:4222,[2001:db8::2]:43/MAIL"


@pytest.mark.parametrize(
    "url",
    [
        "nats://a",
        "nats://a/",
        "nats://a/MAIL.new",
        "nats://a/MAIL/more",
        "nats://a,/MAIL",
        "nats://:4222/MAIL",
        "nats:///MAIL",
        "nats://a/MAIL?replicas=1",
        "nats://a/MAIL#x",
        "tls://a/MAIL",
        "a/MAIL",
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="does not have the form nats://HOST"):
        cluster_of(url)


def test_login_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="does not belong in a URL") as info:
        cluster_of("nats://user:secret@a/MAIL")
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"replicas": 0}, "replicas is 0"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": 101}, "at most 100 seconds"),
        ({"max_age": -1}, "max_age is -1"),
        ({"max_age": float("inf")}, "max_age is inf"),
        ({"user": "u"}, "need each other"),
        ({"password": "p"}, "need each other"),
        ({"user": "u", "password": "p", "token": "t"}, "exclude each other"),
        ({"token": "t", "credentials": __file__}, "exclude each other"),
        ({"tls_first": True}, "no effect without tls"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        JetStream("nats://a/MAIL", **options)


def test_unknown_option_and_wrong_type_are_refused() -> None:
    with pytest.raises(TypeError, match="'replica' is not an option of JetStream"):
        JetStream("nats://a/MAIL", replica=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="password is a value of type int") as info:
        JetStream("nats://a/MAIL", password=12345)  # type: ignore[arg-type]
    assert "12345" not in str(info.value)


def test_credentials_that_cannot_be_read_are_refused_at_once() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        JetStream("nats://a/MAIL", credentials="nowhere")


def test_secrets_are_not_shown() -> None:
    context = ssl.create_default_context()
    for secret in ({"user": "u", "password": "hunter2"}, {"token": "hunter2"}):
        cluster = cluster_of("nats://a/MAIL", tls=context, tls_first=True, **secret)  # type: ignore[arg-type]
        assert "hunter2" not in repr(cluster) + str(cluster)
    assert repr(JetStream("nats://a/MAIL", token="hunter2")) == "JetStream('nats://a:4222/MAIL')"
