"""Destinations are URLs, each of which makes one handler."""

import re
from pathlib import Path
from typing import Any

import pytest

from smtpcore_adapters.cli import _destinations
from smtpcore_adapters.cli._destinations import (
    SCHEMES,
    Server,
    Target,
    check_together,
    make_handlers,
    parse_destination,
    without_secrets,
)
from smtpcore_adapters.cli._printing import PrintedCopies, PrintedMessages
from smtpcore_adapters.client._options import TlsMode
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.maildir import Maildir


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("maildir:Mail", "", 0, "Mail"),
        ("maildir:///var/mail", "", 0, "/var/mail"),
        ("maildir:a%3Fb", "", 0, "a?b"),
        ("maildir:~/Mail", "", 0, str(Path("~/Mail").expanduser())),
        ("smtp://mx.example.org", "mx.example.org", 25, ""),
        ("SMTP://mx.example.org/", "mx.example.org", 25, ""),
        ("smtps://[::1]", "::1", 465, ""),
        ("lmtp://127.0.0.1:2400", "127.0.0.1", 2400, ""),
        ("lmtp+unix:/run/lmtp", "", 0, "/run/lmtp"),
        ("smtp+unix:/run/smtp", "", 0, "/run/smtp"),
        ("https://api.example.org", "api.example.org", 443, ""),
        ("https://api.example.org:8443/mail/in?format=multipart", "api.example.org", 8443, ""),
        ("http://[::1]/", "::1", 80, ""),
        ("print:", "", 0, ""),
    ],
)
def test_url_is_parsed(url: str, host: str, port: int, path: str) -> None:
    target = parse_destination(url)
    assert (target.url, target.host, target.port, target.path) == (url, host, port, path)


@pytest.mark.parametrize(
    "entry",
    [
        "smtp://mx.example.org?xclient=true&tls=none",
        {"url": "smtp://mx.example.org?tls=none", "xclient": True},
        {"url": "smtp://mx.example.org?tls=starttls", "tls": "none", "xclient": True},
    ],
)
def test_parameters_stand_in_the_url_or_in_the_table(entry: Any) -> None:
    assert parse_destination(entry).parameters == {"xclient": True, "tls": "none"}


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("", "'' is not a destination: use one of maildir:PATH, smtp://HOST:PORT"),
        ("mx.example.org:25", "'mx.example.org:25' is not a destination: write smtp://mx.example.org:25 to forward"),
        ("[::1]:25", "write smtp://[::1]:25 to forward the mail to this server"),
        ("/var/mail", "'/var/mail' is not a destination: write maildir:/var/mail for a Maildir"),
        ("stmp://mx.example.org", "'stmp://mx.example.org' is not a destination: write smtp://HOST:PORT"),
        ("smtp", "'smtp' is not a destination: write smtp://HOST:PORT"),
        ("smtp:mx.example.org", "'smtp:mx.example.org' does not have the form smtp://HOST:PORT"),
        ("smtp://mx.example.org:0", "does not have the form smtp://HOST:PORT"),
        ("smtp://mx.example.org:70000", "does not have the form smtp://HOST:PORT"),
        ("smtp://mx example.org", "does not have the form smtp://HOST:PORT"),
        ("smtp://mx.example.org/x", "does not have the form smtp://HOST:PORT"),
        ("smtp://mx.example.org#x", "'smtp://mx.example.org#x' does not have the form smtp://HOST:PORT"),
        ("smtp://mx.example.org?tls=starttls&tls=none", "'tls' is given twice: remove one of them"),
        ("smtp://tim:secret@mx.example.org", "a login does not belong in a URL: use the parameters user and"),
        ("https://tim:secret@a.example/x", "a login does not belong in a URL"),
        ("https:///x", "'https:///x' does not have the form https://HOST:PORT/PATH"),
        ("https://a.example?secret=x", "'secret' is not a parameter of https://HOST:PORT/PATH, which has format,"),
        ("https://a.example?allow_http=true", "'allow_http' is not a parameter of https://HOST:PORT/PATH"),
        ("https://a.example?format=xml", "format: 'xml' is not"),
        ("maildir:", "'maildir:' does not have the form maildir:PATH"),
        ("print:x", "'print:x' does not have the form print:"),
        ("print:?tls=none", "'tls' is not a parameter of print:, which has no parameters"),
        ("smtps://a.example?tls=none", "'tls' is not a parameter of smtps://HOST:PORT, which has tls_ca, user"),
        ("smtp://a.example?xclient=maybe", "xclient: 'maybe' is not true or false"),
        ({"url": "smtp://a.example", "xclient": "true"}, "xclient: 'true' is not true or false"),
        (
            {"url": "smtp+unix:/x", "hostname": "x"},
            "which has xclient, xforward, proxy_protocol, announce; set it above the first table",
        ),
        ({"to": "print:"}, "a destination needs url: use one of maildir:PATH"),
    ],
)
def test_wrong_destination_is_an_error_that_says_what_to_use(entry: Any, error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error)):
        parse_destination(entry)


def test_error_does_not_show_a_password() -> None:
    with pytest.raises(ValueError, match="a login") as caught:
        parse_destination("smtp://tim:secret@mx.example.org")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("urls", [["maildir:a", "maildir:b"], ["print:", "print:"]])
def test_destinations_that_would_accept_the_same_message_exclude_each_other(urls: list[str]) -> None:
    with pytest.raises(ValueError, match=f"give one of {urls[0]}"):
        check_together([parse_destination(url) for url in urls])


def test_print_with_another_destination_prints_copies(tmp_path: Path) -> None:
    targets = [parse_destination(url) for url in ("print:", f"maildir:{tmp_path}/Mail")]
    check_together(targets)
    store, copies = make_handlers(targets, None, 1)
    assert isinstance(store, Maildir)
    assert isinstance(copies, PrintedCopies)
    (printer,) = make_handlers(targets[:1], None, 1)
    assert isinstance(printer, PrintedMessages)


def test_destination_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"cannot use the destination maildir:{tmp_path}/file: "):
        make_handlers([parse_destination(f"maildir:{tmp_path}/file")], None, 1)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """Return the arguments of each `Forward` that is made."""
    made: list[tuple[Any, dict[str, Any]]] = []

    def make(*arguments: Any, **options: Any) -> Forward:
        made.append((arguments, options))
        return Forward(*arguments, **options)

    monkeypatch.setattr(_destinations, "Forward", make)
    return made


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("smtp://127.0.0.1", TlsMode.NONE),
        ("smtp://localhost", TlsMode.NONE),
        ("lmtp+unix:/run/lmtp", TlsMode.NONE),
        ("smtp://192.0.2.1", TlsMode.OPPORTUNISTIC),
        ("smtp://mx.example.org", TlsMode.OPPORTUNISTIC),
        ("smtp://mx.example.org?tls=starttls", TlsMode.REQUIRED),
        ("smtps://mx.example.org", TlsMode.IMPLICIT),
        ("smtp://mx.example.org:465", TlsMode.IMPLICIT),
        ("smtp://127.0.0.1:465", TlsMode.IMPLICIT),
        ("smtp://mx.example.org:465?tls=starttls", TlsMode.REQUIRED),
    ],
)
def test_use_of_tls_follows_from_the_url(url: str, mode: TlsMode, forwards: list[tuple[Any, dict[str, Any]]]) -> None:
    make_handlers([parse_destination(url)], "relay.example", 1)
    ((_, options),) = forwards
    assert (options["tls"], options["hostname"]) == (mode, "relay.example")
    assert options["lmtp"] is url.startswith("lmtp")
    assert options.get("path") == ("/run/lmtp" if "unix" in url else None)


def test_parameters_are_options_of_the_connection(
    tmp_path: Path, forwards: list[tuple[Any, dict[str, Any]]], certificate_authority: Path
) -> None:
    (tmp_path / "password").write_text("secret\n")
    query = f"user=tim&password_file={tmp_path}/password&tls_ca={certificate_authority}&xforward=true"
    make_handlers([parse_destination(f"smtp://mx.example.org:2525?{query}")], None, 1)
    (((host, port), options),) = forwards
    assert (host, port) == ("mx.example.org", 2525)
    assert options["auth"] == ("tim", "secret")
    assert options["tls"] is TlsMode.REQUIRED
    assert options["context"].cert_store_stats()["x509_ca"] == 1
    assert (options["xforward"], options["xclient"]) == (True, False)


@pytest.fixture
def certificate_authority(tmp_path: Path) -> Path:
    import trustme

    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("user=tim", "user and password_file need each other: give both"),
        ("password_file=x", "user and password_file need each other: give both"),
        ("user=tim&password_file=x&tls=opportunistic", "a login needs TLS: use smtps:// or tls=starttls"),
        ("user=tim&password_file=missing", "No such file"),
        ("user=tim&password_file=empty", "the first line of empty has to be the password"),
        ("tls_ca=empty", "tls_ca: empty has no certificate in PEM"),
        ("tls_ca=missing", "missing: No such file"),
        ("user=tim&password_file=full&xclient=true", "xclient and auth exclude each other"),
    ],
)
def test_wrong_parameters_of_a_server_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("secret")
    with pytest.raises(ValueError, match=re.escape(error)):
        make_handlers([parse_destination(f"smtp://mx.example.org?{query}")], None, 1)


def test_secret_in_a_url_is_not_shown() -> None:
    shown = without_secrets("https://a.example/?secret=one&token=two&secret_file=three&token_env=four")
    assert shown == "https://a.example/?secret=***&token=***&secret_file=three&token_env=four"
    assert without_secrets("https://tim:pass@a.example/x") == "https://***@a.example/x"


def test_further_destination_needs_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = _destinations.Scheme("null:", lambda target, server: (target, server))
    monkeypatch.setattr(_destinations, "SCHEMES", {**SCHEMES, "null": row})
    made = make_handlers([parse_destination("null:")], "mx.example", 2)
    assert made == [(Target("null:", "null"), Server("mx.example", 2))]
