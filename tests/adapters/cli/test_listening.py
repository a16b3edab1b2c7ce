"""The listeners of `smtpcore serve`: places, certificates, peers, and the configuration of each."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click
import pytest
import trustme

from smtpcore import Budgets, Tolerance
from smtpcore_adapters import App, Limits
from smtpcore_adapters.cli._listening import Prepared, context_of, limits_of, prepare_listeners
from smtpcore_adapters.tls import ServerTls
from tests.adapters.cli.settings import settings

PLAIN = ("PLAIN",)


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    for name in ("a", "b"):
        certificate = authority.issue_cert(f"{name}.example")
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    (tmp_path / "garbage").write_text("garbage")


def prepare(text: str = "", mechanisms: tuple[str, ...] = (), app: App | None = None) -> Sequence[Prepared]:
    return prepare_listeners(settings(text), app or App(), mechanisms)


def error_of(make: Callable[[], object]) -> str:
    with pytest.raises(click.UsageError) as caught:
        make()
    return caught.value.message


# Places


def test_each_table_is_a_listener_with_settings_of_its_own() -> None:
    first, second, third = prepare(
        "host = '[::1]'\nhostname = 'mx.example'\nmax_size = 70_000\n"
        "[[listener]]\nport = 25\n"
        "[[listener]]\nname = 'lmtp'\nunix = 'x'\nunix_mode = '660'\nunix_owner = '0'\nunix_group = '0'\nlmtp = true\n"
        "[[listener]]\nport = 26\nmax_size = 80_000\ntimeout_greeting = 5\nlenient = false\ngreeting_delay = 1\n"
    )
    assert (first.listener.port, first.listener.host, first.listener.name) == (25, "::1", "listener 1")
    lmtp = second.listener
    assert (lmtp.path, lmtp.mode, lmtp.owner, lmtp.group, lmtp.name) == ("x", 0o660, "0", "0", "lmtp")
    assert first.listener.config
    assert second.listener.config
    assert third.listener.config
    assert [each.listener.config.hostname for each in (first, second) if each.listener.config] == ["mx.example"] * 2
    assert (second.listener.config.lmtp, first.listener.config.lmtp) == (True, False)
    assert third.listener.config.max_message_size == 80_000
    assert third.listener.config.tolerance is Tolerance.STRICT
    assert third.listener.budgets == Budgets(greeting=5)
    assert third.listener.timeouts
    assert third.listener.timeouts.greeting_delay == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[listener]]\nhost = '::'", "smtpcore.toml, line 1: a listener needs one of port, unix, fd and systemd"),
        ("[[listener]]\nport = 1\nunix = 'x'", "smtpcore.toml, line 3: unix has no effect with port"),
        ("[[listener]]\nname='a'\nport=1\n[[listener]]\nname='a'\nport=2", "line 5: name: each listener needs its own"),
        ("unix_owner = 'x'\n[[listener]]\nport = 1", "line 1: unix_owner has no effect without unix: give both"),
        ("[[listener]]\nhost = '::1'\nunix = 'x'", "line 2: host has no effect with unix: give one of them"),
        ("host = '::1'\nfd = 0", "line 1: host has no effect with fd: give one of them"),
        ("[[listener]]\nunix = ''", "line 2: unix: the value is empty"),
        ("[[listener]]\nunix = 'x'\nunix_owner = ''", "line 3: unix_owner: the value is empty"),
        ("unix = 'x'\nunix_owner = 'nobody-here'", "line 2: unix_owner: this system has no user 'nobody-here'"),
        ("unix = 'x'\nunix_owner = '99999999999'", "line 2: unix_owner: this system has no user '99999999999'"),
        ("unix = 'x'\nunix_group = '-1'", "line 2: unix_group: this system has no group '-1'"),
        ("fd = 99999999999", "line 1: fd: Bad file descriptor"),
        ("max_hold_until = 2030-01-01T00:00:00Z", "line 1: max_hold_until: FUTURERELEASE needs both"),
        ("max_size = 100", "line 1: max_size: max_size is 100, but must be at least 65536"),
        ("burl = 'imap'", "line 1: burl needs an app of your own with a handler of BURL"),
        (
            "self_signed = true\ntls = 'starttls'\nwithout = ['starttls']",
            "line 2: tls starttls and without STARTTLS exclude each other",
        ),
        ("[[listener]]\nfd = 987", "line 2: fd: Bad file descriptor"),
        (
            "[[listener]]\nsystemd = 'smtp'",
            "line 2: systemd: systemd has passed no socket with FileDescriptorName=smtp",
        ),
        ("[[listener]]\nport = 1\n[[listener]]\nport = 1", "line 4: port: an earlier [[listener]] has the same place"),
        ("[[listener]]\nport = 1\n[[listener]]\nport = 1\nhost = '::'", "line 4: port: an earlier"),
        ("host = '0.0.0.0'\n[[listener]]\nport = 1\n[[listener]]\nport = 1\nhost = '127.0.0.1'", "line 5: port"),
        ("[[listener]]\nunix = 'x'\n[[listener]]\nunix = 'x'", "line 4: unix: an earlier [[listener]] has the same"),
        ("proxy_protocol = true\nproxy = ['127.0.0.1']\nunix = 'x'", "line 2: proxy names no client of a Unix socket"),
    ],
)
def test_wrong_place_is_an_error(text: str, error: str) -> None:
    assert error in error_of(lambda: prepare(text))


def test_listeners_at_different_places_may_have_one_port() -> None:
    text = (
        "[[listener]]\nport = 0\n[[listener]]\nport = 0\n[[listener]]\nport = 1\n[[listener]]\nport = 1\nhost = '::1'\n"
    )
    assert len(prepare(text + "[[listener]]\nunix = 'x'\n[[listener]]\nunix = 'y'")) == 6


def test_unix_socket_needs_a_system_with_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    text = error_of(lambda: prepare("[[listener]]\nunix = 'x'\n"))
    assert "line 2: unix: this system has no Unix sockets" in text
    assert len(prepare("[[listener]]\nport = 1\nhost = '::1'\n[[listener]]\nport = 1\nhost = '0.0.0.0'")) == 2


def test_open_socket_is_used_by_its_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        number = os.dup(made.fileno())
        (prepared,) = prepare(f"fd = {number}")
        assert prepared.listener.bound
        with prepared.listener.bound as bound:
            assert bound.getsockname() == made.getsockname()


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Pretend that systemd has passed two ports and the path x, and return the sockets."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)] + [socket.socket(socket.AF_UNIX)]
    made[2].bind("x")
    copies: dict[int, socket.socket] = {}

    def inherited(name: str | None = None) -> tuple[socket.socket, ...]:
        assert name is None
        new = tuple(each.dup() for each in made)
        copies.update((each.fileno(), each) for each in new)
        return new

    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.setattr("smtpcore_adapters.cli._listening.inherited_sockets", inherited)
    yield made
    for each in (*made, *copies.values()):
        each.close()
    for number in copies:
        with suppress(OSError):
            os.close(number)  # a socket that no listener takes is detached


@pytest.fixture
def from_systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that pretends that systemd has passed sockets with these names, and gives each to a caller."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]

    def pretend(names: str) -> None:
        def inherited(name: str | None = None) -> tuple[socket.socket, ...]:
            return tuple(each for each, own in zip(made, names.split(":"), strict=False) if name in (None, own))

        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", str(len(names.split(":"))))
        monkeypatch.setattr("smtpcore_adapters.cli._listening.inherited_sockets", inherited)

    yield pretend
    for each in made:
        each.close()


def test_sockets_of_systemd_are_found_by_their_names(from_systemd: Callable[[str], None]) -> None:
    from_systemd("smtp:submission")
    first, second = prepare(
        "[[listener]]\nsystemd = 'submission'\nlmtp = true\n[[listener]]\nsystemd = 'smtp'\nname = 'mx'"
    )
    assert first.listener.bound is not second.listener.bound
    assert second.listener.name == "mx"


def test_sockets_of_systemd_are_used_without_any_setting(from_systemd: Callable[[str], None]) -> None:
    from_systemd("unknown:unknown")
    assert len(prepare()) == 2


def test_unused_socket_of_systemd_is_an_error(from_systemd: Callable[[str], None]) -> None:
    from_systemd("smtp:other")
    error = error_of(lambda: prepare("[[listener]]\nsystemd = 'smtp'"))
    assert error.startswith("systemd has passed 2 sockets, and 1 of them are used: each needs a [[listener]]")


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_listener_takes_the_sockets_of_systemd_at_its_port(host: str, passed: list[socket.socket]) -> None:
    first, second = (each.getsockname()[1] for each in passed[:2])
    text = f"[[listener]]\nport = {second}\nhost = '{host}'\n[[listener]]\nport = {first}\n[[listener]]\nunix = 'x'"
    listeners = [each.listener for each in prepare(text)]
    assert [each.bound and each.bound.getsockname() for each in listeners] == [
        ("127.0.0.1", second),
        ("127.0.0.1", first),
        "x",
    ]


def test_listener_takes_no_socket_of_systemd_at_another_host(passed: list[socket.socket]) -> None:
    port = passed[0].getsockname()[1]
    error = error_of(lambda: prepare(f"[[listener]]\nport = {port}\nhost = '127.0.0.2'\n[[listener]]\nunix = 'x'"))
    assert error.startswith("systemd has passed 3 sockets, and 1 of them are used")


def test_check_outside_of_the_service_names_the_sockets_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    (listener,) = prepare_listeners(settings("[[listener]]\nsystemd = 'mx'"), App(), (), is_check=True)
    assert listener.listener.bound is None
    text = "smtpcore: smtpcore.toml, line 2: systemd: the socket 'mx' is not checked, because systemd passes it only to"
    assert capsys.readouterr().err == f"{text} the service\n"
    monkeypatch.setenv("LISTEN_FDS", "0")
    with pytest.raises(click.UsageError, match="has passed no socket"):
        prepare_listeners(settings("[[listener]]\nsystemd = 'mx'"), App(), (), is_check=True)


def test_socket_of_systemd_that_is_no_stream_socket_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ValueError("the inherited file descriptor 3 is not a stream socket")

    monkeypatch.setattr("smtpcore_adapters.cli._listening.inherited_sockets", fail)
    assert "systemd: the inherited file descriptor 3" in error_of(lambda: prepare("systemd = 'x'"))


# TLS


@pytest.mark.usefixtures("certificates")
def test_certificates_are_read_once_for_all_listeners() -> None:
    text = "tls_cert = 'a.pem'\ntls_key = 'a.key'\n[tls_names]\n'b.example' = ['b.pem', 'b.key']\n"
    text += "[[listener]]\nport = 25\n[[listener]]\nport = 465\ntls = 'implicit'\n"
    text += "[[listener]]\nport = 24\nwithout = ['STARTTLS']\n[[listener]]\nport = 23\ntls = 'none'\n"
    first, second, third, fourth = prepare(text)
    assert isinstance(first.tls, ServerTls)
    assert first.tls is second.tls
    assert first.listener.tls is second.listener.tls is context_of(first.tls)
    assert (second.listener.implicit_tls, third.listener.tls, fourth.listener.tls) == (True, None, None)
    assert first.listener.config
    assert first.listener.config.starttls


def test_self_signed_certificate_is_made_for_the_names_of_the_listener() -> None:
    (prepared,) = prepare("self_signed = true\nhostname = 'mx.example'")
    assert isinstance(prepared.tls, ssl.SSLContext)


@pytest.mark.usefixtures("certificates")
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tls_cert = 'a.pem'", "line 1: tls_cert needs tls_key: give both"),
        ("tls_key = 'a.key'", "line 1: tls_key needs tls_cert: give both"),
        ("tls_names = {x = ['b.pem', 'b.key']}", "line 1: tls_names needs tls_cert: give both"),
        ("tls_cert = 'a.pem'\ntls_key = 'b.key'", "cannot use the certificate a.pem with b.key: the key belongs to an"),
        ("tls_cert = 'garbage'\ntls_key = 'a.key'", "garbage with a.key: use a certificate chain and a private key"),
        ("tls_cert = 'missing'\ntls_key = 'a.key'", "cannot use the certificate missing with a.key: No such file"),
        (
            "tls_cert='a.pem'\ntls_key='a.key'\n[tls_names]\nx = ['b.pem']",
            "tls_names: x needs a list [certificate, key]",
        ),
        (
            "tls_cert='a.pem'\ntls_key='a.key'\n[tls_names]\nx = ['b.pem', 'a.key']",
            "line 3: tls_names: cannot use the certificate b.pem with a.key",
        ),
        (
            "tls_cert='a.pem'\ntls_key='a.key'\n[tls_names]\n'b.example.' = ['b.pem', 'b.key']",
            "line 3: tls_names: names: no client asks for 'b.example.'",
        ),
        ("tls = 'starttls'", "line 1: tls starttls needs tls_cert and tls_key, or self_signed"),
    ],
)
def test_wrong_certificate_is_an_error(text: str, error: str) -> None:
    assert error in error_of(lambda: prepare(text))


# Extensions and logins


def test_extension_with_a_handler_of_the_app_can_be_offered() -> None:
    app = App()
    app.on("BURL")(lambda session, event: None)
    (prepared,) = prepare("extension = 'BURL'\nburl = 'imap'", app=app)
    assert prepared.listener.config
    assert "BURL" not in prepared.listener.config.disabled


def test_app_with_a_handler_of_auth_offers_its_mechanisms() -> None:
    app = App()
    app.on("auth")(lambda session, question: None)
    (prepared,) = prepare("require_auth = true", app=app)
    assert prepared.listener.config
    assert prepared.listener.config.auth_mechanisms == ("PLAIN", "LOGIN")


def test_mechanisms_can_be_chosen_and_switched_off_at_a_listener() -> None:
    text = "self_signed = true\n[[listener]]\nport = 25\nwithout = 'AUTH'\n"
    text += "[[listener]]\nport = 587\nauth_mechanisms = ['PLAIN']\n"
    configs = [each.listener.config for each in prepare(text, ("PLAIN", "LOGIN"))]
    assert [config.auth_mechanisms for config in configs if config] == [(), ("PLAIN",)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "self_signed = true\nrequire_auth = true\nwithout = 'AUTH'",
            "line 2: require_auth needs users; AUTH",
        ),
        ("", "--auth needs TLS: give --tls-cert and --tls-key, or --self-signed; or give --allow-plaintext-auth"),
        ("[[listener]]\nport = 25", "smtpcore.toml, line 1: auth needs TLS: give tls_cert and tls_key"),
    ],
)
def test_login_that_cannot_work_is_an_error(text: str, error: str) -> None:
    assert error in error_of(lambda: prepare(text, PLAIN))


@pytest.mark.parametrize("name", ["FOO", "CRAM-MD5"])
def test_mechanism_that_does_not_work_for_the_users_is_an_error(name: str) -> None:
    error = error_of(lambda: prepare(f"self_signed = true\nauth_mechanisms = ['{name}']", PLAIN))
    assert error == f"smtpcore.toml, line 2: auth_mechanisms: '{name}' does not work for these users: use PLAIN"


def test_mechanisms_without_users_are_an_error() -> None:
    assert "auth_mechanisms has no effect without users" in error_of(lambda: prepare("auth_mechanisms = 'PLAIN'"))


# Limits and times


def test_timeout_sets_each_wait_that_has_no_value_of_its_own() -> None:
    (prepared,) = prepare("timeout = 2\ntimeout_block = 3")
    assert prepared.listener.budgets == Budgets(greeting=2, command=2, block=3, handshake=2)


def test_limits_of_the_server_are_settings() -> None:
    server = settings("max_connections = 5\nmax_auth_failures_per_hour = 0")
    assert limits_of(server) == Limits(connections=5, auth_failures_per_hour=None)
    assert error_of(lambda: limits_of(settings("ipv4_prefix = 40"))).startswith("a prefix has at most 32 bits in IPv4")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("max_recipients = 5", "line 1: max_recipients: max_recipients is 5, but must be at least 100"),
        ("timeout_block = -1", "line 1: timeout_block: "),
        ("auth_delay = -1", "line 1: auth_delay: timeout auth_delay is -1"),
        ("max_hold_for = 5", "line 1: max_hold_for: FUTURERELEASE needs both max_hold_for and max_hold_until"),
    ],
)
def test_error_of_the_library_names_the_setting(text: str, error: str) -> None:
    assert error in error_of(lambda: prepare(text))
