"""The test server, and its pytest fixtures."""

import os
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpcore import LocalProtocolError
from smtpcore_adapters import App
from smtpcore_adapters.testing import FaultError, SmtpPair, SmtpServer
from smtpcore_adapters.tls import self_signed_context
from tests.adapters.harness import Client

pytest_plugins = ["pytest_smtpcore"]

CONTENT = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n.Hello\r\n"


def send(server: SmtpServer, *, use: Callable[[smtplib.SMTP], object] = lambda smtp: None, **options: Any) -> None:
    with smtplib.SMTP(server.host, server.port, "c.example", timeout=10) as smtp:
        use(smtp)
        smtp.sendmail("a@c.example", ["b@s.example", "c@s.example"], CONTENT, **options)


# The fixtures


def test_received_message_has_its_envelope(smtp_server: SmtpServer) -> None:
    send(smtp_server, mail_options=["BODY=8BITMIME", "RET=HDRS"], rcpt_options=["NOTIFY=NEVER"])

    (received,) = smtp_server.messages
    assert (received.sender, received.recipients) == ("a@c.example", ("b@s.example", "c@s.example"))
    assert str(received.mail_params).split() == ["SIZE=48", "BODY=8BITMIME", "RET=HDRS"]
    assert [str(params) for params in received.rcpt_params] == [" NOTIFY=NEVER"] * 2
    assert received.content == CONTENT
    assert received.message["Subject"] == "Gr\xfc\xdfe"
    assert received.message.get_content() == ".Hello\r\n"
    assert (received.helo, received.tls, received.identity) == ("c.example", None, None)
    assert received.peer
    assert received.peer.host == "127.0.0.1"


@pytest.mark.smtp_server(tls=True, auth={"tim": "secret"})
def test_marker_sets_server_options(smtp_server: SmtpServer) -> None:
    def log_in(smtp: smtplib.SMTP) -> None:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        smtp.starttls(context=smtp_server.client_context)
        smtp.login("tim", "secret")

    send(smtp_server, use=log_in)

    assert smtp_server.messages[0].identity == "tim"
    assert smtp_server.messages[0].tls


@pytest.mark.smtp_server(auth={"tim": "wrong"}, max_size=65_536)
class TestMarkers:
    @pytest.mark.smtp_server(auth={"tim": "secret"}, require_auth=True)
    def test_nearest_marker_overrides_outer_markers(self, smtp_server: SmtpServer) -> None:
        assert smtp_server.options.max_size == 65_536
        with pytest.raises(smtplib.SMTPSenderRefused):
            send(smtp_server)
        send(smtp_server, use=lambda smtp: smtp.login("tim", "secret"))

        assert len(smtp_server.messages) == 1


@pytest.mark.smtp_server(faults=["RCPT 2 -> 451 4.2.2 Full"])
def test_marker_sets_faults(smtp_server: SmtpServer) -> None:
    send(smtp_server)

    assert smtp_server.messages[0].recipients == ("b@s.example",)


def test_smtp_pair_fixture_connects_client_and_server(smtp_pair: SmtpPair) -> None:
    smtp_pair.deliver("a@c.example", ["b@s.example"], CONTENT)

    assert [received.content for received in smtp_pair.messages] == [CONTENT]


# The server


def test_several_servers_run_side_by_side_without_fixtures() -> None:
    with SmtpServer() as one, SmtpServer(host="127.0.0.2") as other:
        assert one.port != other.port or one.host != other.host
        send(other)

        assert (len(one.messages), len(other.messages)) == (0, 1)
        assert other.host == "127.0.0.2"
        assert str(other.address) == f"127.0.0.2:{other.port}"


@pytest.mark.parametrize("implicit", [False, True])
def test_generated_certificate_is_trusted_by_the_client_context(implicit: bool) -> None:
    with SmtpServer(implicit_tls=implicit, require_tls=not implicit) as server:
        if implicit:
            with smtplib.SMTP_SSL("localhost", server.port, timeout=10, context=server.client_context) as smtp:
                smtp.sendmail("a@c.example", ["b@s.example"], CONTENT)
        else:
            with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
                send(server)
            send(server, use=lambda smtp: smtp.starttls(context=server.client_context))

        assert server.messages[0].tls
        assert ssl.create_default_context(cadata=server.ca_pem.decode()).get_ca_certs()


def test_given_context_replaces_the_generated_certificate() -> None:
    with (
        SmtpServer(certificate=self_signed_context(["localhost"])) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        send(server, use=lambda smtp: smtp.starttls(context=server.client_context))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_client_may_log_in_without_tls_if_the_server_has_no_tls(mechanism: str) -> None:
    with SmtpServer(auth={"tim": "secret"}, auth_mechanisms=(mechanism,)) as server:
        send(server, use=lambda smtp: smtp.login("tim", "secret"))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            send(server, use=lambda smtp: smtp.login("tim", "wrong"))

        assert [received.identity for received in server.messages] == ["tim"]


def test_accept_option_refuses_other_domains() -> None:
    with SmtpServer(accept=["s.example"]) as server:
        send(server)
        with smtplib.SMTP(server.host, server.port, timeout=10) as smtp, pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("a@c.example", ["b@else.example"], CONTENT)


def test_test_server_can_speak_lmtp() -> None:
    with SmtpServer(lmtp=True, hostname="s.example") as server:
        with smtplib.LMTP(server.host, server.port, timeout=10) as lmtp:
            lmtp.sendmail("a@c.example", ["b@s.example"], CONTENT)

        assert len(server.messages) == 1


def test_extensions_and_limits_follow_the_options() -> None:
    options: dict[str, Any] = {"extensions": ["ETRN"], "without": ["CHUNKING", "BINARYMIME"], "max_size": 70_000}
    with SmtpServer(**options) as server, Client(server.address) as client:
        client.read()
        client.send(b"EHLO c.example\r\n")
        keywords = client.read().split("\n")

    assert {"250-SIZE 70000", "250-ETRN"} <= set(keywords)
    assert not {"250-CHUNKING", "250-BINARYMIME", "250-DSN"} & set(keywords)


def test_given_handlers_are_called_first() -> None:
    app = App()
    seen: list[str] = []

    class Mine:
        def on_mail(self, session: object, mail: object) -> None:
            seen.append(str(mail))

    assert not app.handles("MAIL")
    with SmtpServer(handlers=[Mine()]) as server:
        send(server)

    assert seen == ["MAIL FROM:<a@c.example> SIZE=48"]


def test_reconfigured_server_keeps_its_address() -> None:
    with SmtpServer() as server:
        port = server.port
        send(server)
        server.configure(tls=True, faults=["message -> 451"])
        assert server.port == port
        with pytest.raises(smtplib.SMTPDataError):
            send(server, use=lambda smtp: smtp.starttls(context=server.client_context))

        assert len(server.messages) == 1


class Connecting:
    """A list of handlers that is read while the server restarts, and that connects to the server at this time."""

    def __init__(self, server: SmtpServer) -> None:
        self.server = server
        self.connections: list[socket.socket] = []

    def __iter__(self) -> Iterator[object]:
        self.connections.append(socket.create_connection(self.server.address, timeout=10))
        return iter(())


def test_client_that_connects_during_a_new_configuration_is_served() -> None:
    with SmtpServer() as server:
        handlers = Connecting(server)
        server.configure(handlers=handlers)
        (connection,) = handlers.connections
        with connection:
            assert connection.recv(100).startswith(b"220 ")


def test_server_moves_to_another_port() -> None:
    with SmtpServer() as server:
        old = server.address
        server.configure(port=0)
        assert server.address != old
        send(server)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(old)


def test_server_listens_no_more_if_its_new_configuration_fails() -> None:
    with SmtpServer() as server:
        with pytest.raises(LocalProtocolError, match="needs a handler of auth"):
            server.configure(auth_mechanisms=("PLAIN",))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address)


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        (
            {"tsl": True},
            TypeError,
            "'tsl' is not an option of the test server. The nearest is 'tls'; use one of accept, ",
        ),
        ({"extensions": ["dns"]}, ValueError, "'dns' is not an extension. The nearest is 'DSN'"),
        ({"without": iter(["PIPELINNG"])}, ValueError, "'PIPELINNG' is not an extension. The nearest is 'PIPELINING'"),
        ({"auth_mechanisms": ("PLAIN",)}, LocalProtocolError, "auth_mechanisms needs a handler of auth"),
        ({"faults": ["RCPT -> explode"]}, FaultError, "is not an action"),
    ],
)
def test_unknown_option_is_an_error(options: dict[str, Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why), SmtpServer(**options):
        pass


def test_option_without_a_name_is_an_error() -> None:
    with pytest.raises(TypeError, match="the options of the test server are keyword arguments: 'tls' has no name"):
        SmtpServer("tls")  # type: ignore[call-arg]


# The plugin


def pytest_run(directory: Path, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (directory / "test_it.py").write_text(text)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "pytest_smtpcore", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_project_wide_options_come_from_a_fixture(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef smtp_server_options():\n    return {'hostname': 'here.example'}\n"
    )
    text = (
        "import pytest, smtplib\n"
        "def test_one(smtp_server):\n    assert smtp_server.options.hostname == 'here.example'\n"
        "@pytest.mark.smtp_server(hostname='there.example')\n"
        "def test_other(smtp_server):\n    assert smtp_server.options.hostname == 'there.example'\n"
        "def test_pair(smtp_pair):\n    assert smtp_pair.greeting.code == 220\n"
    )
    done = pytest_run(tmp_path, text, "--strict-markers")

    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("tsl=True", "TypeError: 'tsl' is not an option of the test server. The nearest is 'tls'"),
        ("'tls'", "TypeError: the marker smtp_server takes keyword arguments only, not 'tls'"),
    ],
)
def test_wrong_argument_of_the_marker_is_an_error(argument: str, error: str, tmp_path: Path) -> None:
    text = f"import pytest\n@pytest.mark.smtp_server({argument})\ndef test_it(smtp_server): pass\n"
    done = pytest_run(tmp_path, text)

    assert done.returncode == 1
    assert error in done.stdout


def test_plugin_imports_smtpcore_only_if_a_fixture_is_used(tmp_path: Path) -> None:
    text = (
        "import sys\n"
        "def test_it():\n"
        "    assert 'pytest_smtpcore' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.startswith('smtpcore')]\n"
    )
    done = pytest_run(tmp_path, text)

    assert done.returncode == 0, done.stdout


def test_marker_is_listed_by_pytest_markers(tmp_path: Path) -> None:
    assert "@pytest.mark.smtp_server(**options): options for the" in pytest_run(tmp_path, "", "--markers").stdout


@pytest.mark.parametrize("name", ["accept", "auth_mechanisms", "extensions", "faults", "handlers", "without"])
def test_text_in_place_of_a_list_is_an_error(name: str) -> None:
    given: dict[str, Any] = {name: "DSN"}
    with pytest.raises(TypeError, match=rf"{name} needs a list: write {name}=\['DSN'\]"):
        SmtpServer(**given)
    with SmtpServer() as server, pytest.raises(TypeError, match="needs a list"):
        server.configure(**given)


def test_invalid_fault_is_an_error_before_the_server_starts() -> None:
    with pytest.raises(FaultError, match="250 cannot answer DATA"):
        SmtpServer(faults=["DATA -> 250"])
