"""Real clients authenticate with bearer tokens (RFC 7628) and SCRAM, which the command line does not offer."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from queue import Queue

import pytest

from smtpcore import Reply
from smtpcore.sasl import Answer, CheckToken, Question, TokenError
from smtpcore_adapters import App, Message, Session, Timeouts
from smtpcore_adapters.tls import self_signed_context
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import BACKENDS, TIMEOUT, Running, running

TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
MECHANISMS = ("OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256")


class TokenApp:
    """Accepts one token, and records the sender's identity and body of each message."""

    def __init__(self) -> None:
        self.messages: Queue[tuple[str | None, bytes]] = Queue()
        self.questions: Queue[Question] = Queue()

    def on_auth(self, session: Session, question: Question) -> Answer:
        self.questions.put(question)
        if isinstance(question, CheckToken):
            return "tim" if question.token == TOKEN else TokenError(scope="mail")
        return None

    def on_rcpt(self, session: Session, rcpt: object) -> Reply | None:
        return Reply(250, "Welcome", enhanced="2.1.5") if session.identity else None

    async def on_message(self, session: Session, message: Message) -> Reply:
        self.messages.put((session.identity, await message.read()))
        return Reply(250, "Taken")


class Server:
    def __init__(self, tokens: TokenApp, running: Running) -> None:
        self.tokens = tokens
        self.port = running.server.address.port


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    app = App()
    app.include(tokens := TokenApp())
    app.include(Users({"tim": "tans taaf"}))
    config = replace(CONFIG, auth_mechanisms=MECHANISMS)
    timeouts = Timeouts(auth_delay=0)
    with running(
        request.param, app, config=config, tls=self_signed_context(["s.example"]), timeouts=timeouts
    ) as server:
        yield Server(tokens, server)


def client(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        arguments, input=b"Subject: x\r\n\r\nhi\r\n", capture_output=True, timeout=TIMEOUT, check=False
    )


def curl(server: Server, *login: str) -> "subprocess.CompletedProcess[bytes]":
    url = f"smtp://127.0.0.1:{server.port}/c.example"
    arguments = ["--mail-from", "a@c.example", "--mail-rcpt", "b@s.example", "-T", "-"]
    return run(client("curl"), "-sS", "--ssl-reqd", "-k", url, *arguments, *login)


def msmtp(server: Server, *login: str) -> "subprocess.CompletedProcess[bytes]":
    arguments = ["--host=127.0.0.1", f"--port={server.port}", "--from=a@c.example", "--tls=on", "--tls-certcheck=off"]
    return run(client("msmtp"), "-C", "/dev/null", *arguments, *login, "b@s.example")


def assert_sent_by_tim(server: Server, done: "subprocess.CompletedProcess[bytes]") -> None:
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    identity, content = server.tokens.messages.get(timeout=TIMEOUT)
    assert identity == "tim"
    assert content.endswith(b"\r\nhi\r\n")


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_curl_authenticates_with_a_token(server: Server, mechanism: str) -> None:
    login = ["--user", "tim:", "--login-options", f"AUTH={mechanism}", "--oauth2-bearer"]
    assert_sent_by_tim(server, curl(server, *login, TOKEN))
    question = server.tokens.questions.get(timeout=TIMEOUT)
    assert isinstance(question, CheckToken)
    assert question.username == "tim"
    if mechanism == "OAUTHBEARER":
        assert (question.host, question.port) == ("127.0.0.1", server.port)

    done = curl(server, *login, "another")
    assert done.returncode == 67, done.stderr  # curl's status for a denied login
    assert server.tokens.messages.empty()


@pytest.mark.parametrize("mechanism", ["oauthbearer", "xoauth2"])
def test_msmtp_authenticates_with_a_token(server: Server, mechanism: str) -> None:
    login = [f"--auth={mechanism}", "--user=tim"]
    assert_sent_by_tim(server, msmtp(server, *login, f"--passwordeval=echo {TOKEN}"))
    done = msmtp(server, *login, "--passwordeval=echo another")
    assert done.returncode != 0
    assert b"authentication failed" in done.stderr
    assert server.tokens.messages.empty()


def test_curl_authenticates_with_scram(server: Server) -> None:
    if b"gsasl" not in subprocess.run([client("curl"), "--version"], capture_output=True, check=True).stdout.lower():
        pytest.skip("this build of curl has no SCRAM, as it lacks GNU SASL")

    login = ["--user", "tim:tans taaf", "--login-options", "AUTH=SCRAM-SHA-256"]
    assert_sent_by_tim(server, curl(server, *login))
