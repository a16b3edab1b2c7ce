"""Webhooks meet nginx, whose errors are temporary refusals except for its size limit, and a program of Node.js."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from benchmarks.ports import reserved_ports
from smtpcore_adapters.stores.webhook import Webhook
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, RCPT, accepting
from tests.adapters.harness import running
from tests.adapters.stores.endpoint import Endpoint, running_endpoint
from tests.adapters.stores.tried import without_fields
from tests.paths import DOCS

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
CONFIGURATION = """
{user} daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/errors;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    client_max_body_size 1m;
    proxy_http_version 1.1;
    server {{
        listen 127.0.0.1:{port};
        location /buffered/ {{ proxy_pass {program}/; }}
        location /streamed/ {{ proxy_request_buffering off; proxy_pass {program}/; }}
        location /dead/ {{ proxy_pass http://127.0.0.1:1/; }}
        location /moved/ {{ return 301 /buffered/; }}
    }}
}}
"""
LARGE = b"Subject: x\r\n\r\n" + (b"x" * 98 + b"\r\n") * 5000


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Endpoint]]:
    """Run nginx in front of a program, and yield its URL and the program."""
    if NGINX is None:
        pytest.skip("nginx is not installed")

    directory = tmp_path_factory.mktemp("nginx")
    with reserved_ports(1) as (port,), running_endpoint() as (endpoint, url, path):
        program = url.removesuffix(path)
        user = "user root;" if os.geteuid() == 0 else ""  # the directory belongs to the user of the tests
        text = CONFIGURATION.format(directory=directory, port=port, program=program, user=user)
        (directory / "nginx.conf").write_text(text)
        command = [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")]
        subprocess.run([*command, "-t", "-q"], check=True, stderr=subprocess.DEVNULL)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}", endpoint
        finally:
            process.terminate()
            process.wait(10)


def wait_for(port: int) -> None:
    for _ in range(1000):
        with socket.socket() as probe:
            probe.settimeout(0.01)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail("nginx does not listen")


def deliver(hook: Webhook, body: bytes) -> str:
    with running("asyncio", accepting(hook), config=CONFIG) as server, server.connect() as client:
        client.send(EHLO + MAIL + RCPT + DATA).expect(220, 250, 250, 250, 354).send(body + b".\r\n")
        return client.read()


@pytest.mark.parametrize("form", ["raw", "multipart"])
@pytest.mark.parametrize("way", ["buffered", "streamed"])
def test_message_passes_nginx_whole(way: str, form: str, nginx: tuple[str, Endpoint]) -> None:
    origin, endpoint = nginx
    hook = Webhook(f"{origin}/{way}/{form}", format="raw" if form == "raw" else "multipart", secret="secret")
    assert deliver(hook, LARGE).startswith("250")
    assert without_fields(endpoint.messages[f"/{form}"][-1]) == LARGE


def test_message_over_the_size_limit_of_nginx_is_refused(nginx: tuple[str, Endpoint]) -> None:
    assert deliver(Webhook(f"{nginx[0]}/streamed/large"), LARGE * 8).startswith("552 5.3.4")


@pytest.mark.parametrize("path", ["dead", "moved", "missing"])
def test_other_errors_of_nginx_are_temporary(path: str, nginx: tuple[str, Endpoint]) -> None:
    assert deliver(Webhook(f"{nginx[0]}/{path}/x"), LARGE).startswith("451")


@pytest.mark.parametrize(("secret", "code"), [("secret", "250"), ("another", "451"), (None, "451")])
def test_receiver_of_the_documentation_verifies_trailers(secret: str | None, code: str, node: str) -> None:
    assert deliver(Webhook(node, secret=secret), LARGE).startswith(code)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """Run the receiver for Node.js in docs/stores.md, and yield its URL."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")

    found = re.search(r"(?s)```js\n(.*?)```", (DOCS / "stores.md").read_text())
    assert found
    environment = {**os.environ, "SECRET": "secret"}
    with subprocess.Popen([program, "-e", found[1]], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        finally:
            process.kill()
