"""The server programs of README and docs, each run in a process of its own."""

import queue
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import trustme

from smtpcore_adapters import Address
from tests.adapters.harness import TIMEOUT, Client
from tests.docs.test_readme import source_of
from tests.forking import start_python
from tests.paths import TESTS

AUTHORITY = trustme.CA()

# A line on standard output for each accepted message, from programs that print no such line themselves.
RECORDER = """
import re

from smtpcore import BodyAborted, DataChunk, DataEnd, DataLine, InvalidData, Reply
from smtpcore_adapters import App, SessionOpened
from smtpcore_adapters.asyncio import BackgroundServer

TRACE = re.compile(rb"\\AReceived: .*\\r\\n(?:[ \\t].*\\r\\n)*")


def show(sender, recipients, size):
    print(f"{sender} -> {', '.join(map(str, recipients))}: {size} octets", flush=True)


def observe(app):
    @app.observe
    def record(session, item):
        state = session.state
        match item:
            case DataLine(data) | DataChunk(data):
                state.body += data
            case InvalidData() | BodyAborted():
                state.body = b""
            case SessionOpened():
                state.body, state.record = b"", None
            case DataEnd():
                mail, recipients = session.transaction.mail, session.transaction.recipients
                size = len(TRACE.sub(b"", state.body))
                state.record = mail.reverse_path, [rcpt.forward_path for rcpt in recipients], size
                state.body = b""
            case Reply() if state.record:
                if item.is_positive:
                    show(*state.record)
                state.record = None

    return app


def next_server():
    app = App()

    @app.on("RCPT")
    def accept(session, rcpt):
        return Reply(250)

    @app.on("message")
    async def keep(session, message):
        await message.read()
        return Reply(250)

    server = BackgroundServer(observe(app), trusted=["127.0.0.1"])
    server.start()
    return server
"""

START = "import example; example.main(0)"
RUN = """
import dataclasses, example, recorder
from smtpcore import BareNewlines, Budgets
from smtpcore_adapters import default_config
from smtpcore_adapters.asyncio import run

options = {}
CHANGES
run(recorder.observe(example.app), 0, on_ready=lambda address: print("listening at", address, flush=True), **options)
"""
FORWARD = RUN.replace("CHANGES", "following = recorder.next_server()\nCHANGES").replace(
    "recorder.observe(example.app)", 'example.make_filter("127.0.0.1", following.address.port)'
)
CONVERSE = """
import example, recorder, socketserver
from smtpcore import ProtocolError

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            example.converse(lambda: self.request.recv(65_536), self.request.sendall, deliver)
        except (ProtocolError, OSError):
            pass

def deliver(transaction, body):
    recipients = [rcpt.forward_path for rcpt in transaction.recipients]
    recorder.show(transaction.mail.reverse_path, recipients, len(body))

server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
print("listening at port", server.server_address[1], flush=True)
server.serve_forever()
"""
# `main` of these programs serves until a line is entered.
UNTIL_ENTER = """
import dataclasses, example, functools, recorder, signal, threading
from smtpcore import BareNewlines, Budgets
from smtpcore_adapters import default_config
from smtpcore_adapters.asyncio import BackgroundServer
import smtpcore_adapters.socket

options = {}
CHANGES
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def wait(prompt):
    while not stop.wait(0.1):
        pass
recorder.observe(example.app)
example.input = wait
example.BackgroundServer = lambda app, port: BackgroundServer(app, **options)
smtpcore_adapters.socket.serving = functools.partial(smtpcore_adapters.socket.serving, **options)
example.print = lambda *texts: print(*texts, flush=True)
example.main()
"""
WEB = """
import asyncio, dataclasses, example, functools, recorder, signal
from smtpcore import BareNewlines, Budgets
from smtpcore_adapters import default_config

options = {}
CHANGES

class Messages(list):
    def append(self, message):
        recorder.show(message["from"], message["to"], message["octets"])

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with example.lifespan(example.web):
        print("listening at", example.web.state.smtp, flush=True)
        await stop.wait()

example.messages = Messages()
example.PORT = 0
example.serving = functools.partial(example.serving, **options)
asyncio.run(main())
"""
FILTER = """
import mail, recorder, sys
CHANGES
sys.argv[1:] = [str(recorder.next_server().address.port)]
import example
example.main(0)
"""


def changed(module: str) -> dict[str, str]:
    """Return the changes of a program whose `CONFIG` and `BUDGETS` are in `module`."""
    names = f"import dataclasses, {module}; from smtpcore import BareNewlines, Budgets; {module}."
    return {
        "strict": f"{names}CONFIG = dataclasses.replace({module}.CONFIG, bare_newlines=BareNewlines.REJECT)",
        "lmtp": f"{names}CONFIG = dataclasses.replace({module}.CONFIG, lmtp=True)",
        "impatient": f"{names}BUDGETS = Budgets(greeting=0.3, command=0.3)",
    }


OPTIONS = {
    "strict": 'options["config"] = dataclasses.replace(default_config(), bare_newlines=BareNewlines.REJECT)',
    "lmtp": 'options["config"] = dataclasses.replace(default_config(), lmtp=True)',
    "small": 'options["config"] = dataclasses.replace(default_config(), max_message_size=65_536)',
    "impatient": 'options["budgets"] = Budgets(greeting=0.3, command=0.3)',
}


@dataclass(frozen=True)
class Program:
    """A server program, and the tests of the suite that apply to it."""

    source: str
    module: tuple[str, str] = ("mail", "def make_driver")
    """The name and the source of the part that the program imports."""
    launch: str = "CHANGES\n" + START
    changes: Mapping[str, str] = field(default_factory=lambda: changed("mail"))
    """Python statements for `CHANGES` in `launch`."""
    requires: str = ""
    is_strict: bool = True
    """Whether a bare LF in a body is refused; otherwise it becomes CR LF."""
    accepts_all: bool = False
    """Whether all recipients are accepted, or refused by the next server only."""
    has_auth: bool = True
    stops: bool = True
    takes_half_closed: bool = True
    """Whether a client that has closed its sending side gets replies."""
    can_jump: bool = False
    """Whether a test moves the clock of the program. Some frameworks use a clock that Python code cannot replace."""
    is_relay: bool = False
    """Whether each recipient is asked for at the next server, so that many recipients take long."""


def of_app(start: str, **settings: object) -> Program:
    """Return a program that makes an `App`, which runs with the default configuration."""
    launch = str(settings.pop("launch", RUN))
    common = {"module": ("", ""), "is_strict": False, "has_auth": False, "changes": OPTIONS}
    return Program(start, launch=launch, **{**common, **settings})  # type: ignore[arg-type]


IN_A_LOOP = {"module": ("handlers", "def make_sessions"), "is_strict": False, "changes": changed("handlers")}
PROGRAMS = {
    "selectors": Program("import mail\n\n\nclass Client:\n    def __init__(self, selector", can_jump=True),
    "asyncio": Program("class Smtp(asyncio.Protocol)", can_jump=True),
    "twisted": Program("import mail\nfrom twisted.internet import reactor", requires="twisted", can_jump=True),
    "tornado": Program(
        "from tornado.tcpserver import TCPServer", requires="tornado", takes_half_closed=False, can_jump=True
    ),
    "qt": Program("from PySide6.QtCore import", requires="PySide6", takes_half_closed=False),
    "filter": Program("def pass_on", launch=FILTER),
    "gevent": Program("class GeventStream", requires="gevent", **IN_A_LOOP),  # type: ignore[arg-type]
    "own loop": Program("class Stream(SocketStream)", can_jump=True, **IN_A_LOOP),  # type: ignore[arg-type]
    "web": of_app("PORT = int(os.environ.get", launch=WEB, has_auth=True, requires="starlette"),
    "readme": of_app("async def only_us"),
    "readme core": of_app("def converse", launch=CONVERSE, is_strict=True, stops=False, changes={}),
    "background": of_app("def accept_each", launch=UNTIL_ENTER, accepts_all=True),
    "header": of_app("def accept_all", accepts_all=True),
    "threads": of_app("import tempfile", launch=UNTIL_ENTER, accepts_all=True),
    "burl": of_app("forwarded without download", accepts_all=True),
    "forward": of_app("def make_filter", launch=FORWARD, accepts_all=True, is_relay=True),
}

SILENT = "example.print = lambda *texts: None\n"
"""For a program that prints lines of its own for each message."""
FETCHES = """
import example

class Response:
    def raise_for_status(self):
        return self

class Http:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        pass

    async def post(self, url, **options):
        return Response()

example.httpx.AsyncClient = Http
"""
FASTAPI = """
import asyncio, dataclasses, example, recorder, signal
from smtpcore_adapters import default_config

options = {}
CHANGES
serving = example.serving

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with example.lifespan(example.api):
        print("listening at port", example.api.state.smtp_port, flush=True)
        await stop.wait()

recorder.observe(example.mail)
example.serving = lambda app, port, **given: serving(app, 0, **given, **options)
asyncio.run(main())
"""
MAKES_SERVER = """
import dataclasses, example, recorder, signal, threading
from smtpcore_adapters import default_config
from smtpcore_adapters.asyncio import BackgroundServer

options = {}
CHANGES
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
example.BackgroundServer = lambda app, port: BackgroundServer(recorder.observe(app), port, **options)
server = example.make_server(0)
server.start()
print("listening at", server.address, flush=True)
stop.wait()
server.stop()
"""
IN_REACTOR = """
import dataclasses, example, recorder
from smtpcore_adapters import default_config

options = {}
CHANGES
recorder.observe(example.app)
example.main(0, **options)
"""
RECIPES = {
    "catch mail": of_app("CAUGHT = Path", launch=SILENT.join(["import example\n", RUN]), accepts_all=True),
    "webhook": of_app("(WEBHOOK, json=values)", launch=FETCHES + RUN, requires="httpx"),
    "own verbs": of_app(
        "def show_queue", launch=RUN.replace("CHANGES", "CHANGES\noptions |= example.OPTIONS"), accepts_all=True
    ),
    "dkim": of_app("def refuse_forged", launch="import example\nexample.dkim.verify = bool\n" + RUN, requires="dkim"),
    "gui": of_app("def poll(window, show)", accepts_all=True),
    "fastapi": of_app("def list_subjects", launch=FASTAPI, requires="fastapi"),
    "systemd": of_app("goes to the journal"),
    "haproxy": of_app("def show_client", accepts_all=True),
    "from aiosmtpd": of_app("    app.include(Inbox())", launch=MAKES_SERVER),
    "from smtpd": of_app("def process_message(session, message)", accepts_all=True),
    "from twisted": of_app("async def count_lines"),
    "in the reactor": of_app("asyncioreactor.install()", launch=IN_REACTOR, requires="twisted", accepts_all=True),
    "aiosmtpd handlers": of_app("def authenticator(server, session"),
}
"""Server programs of the cookbook, and of the pages for people who come from other libraries.

All of them use an adapter, so its limits and its way to stop are tested elsewhere. These programs are not here:

- "SMS gateway" and "Telegram bot" accept a few recipients only; "printers", "account of each user" and "OAuth proxy"
  require a login. Their own tests in `test_cookbook.py` send and refuse messages.
- "LDAP", "SQL", "OAuth tokens", "allow-list", "greylist", "own banner", "root" and "pytest" accept no message.
- "LMTP after Postfix" speaks LMTP only, and "Django" needs a project: their tests run these programs as described.
"""


def write_certificates(directory: Path) -> None:
    certificate = AUTHORITY.issue_cert("mx.example.org", "localhost")
    certificate.private_key_pem.write_to_path(directory / "privkey.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(directory / "fullchain.pem", append=True)


def skip_if_missing(program: Program) -> None:
    if program.requires and find_spec(program.requires) is None:
        pytest.skip(f"{program.requires} is not installed")
    if program.requires == "PySide6" and sys.version_info < (3, 12):
        try:
            broken = version("PySide6-Essentials") == "6.12.0"
        except PackageNotFoundError:
            broken = False
        if broken:
            pytest.skip("PySide6 6.12.0 loses a reference to None with each call of a timer")


class Process:
    """A program that runs in a process, on a free port."""

    def __init__(self, program: Program, directory: Path, changes: Sequence[str] = ()) -> None:
        skip_if_missing(program)
        self.program = program
        write_certificates(directory)
        (directory / "recorder.py").write_text(RECORDER)
        (directory / "clock.py").write_text((TESTS / "forking" / "clock.py").read_text())
        (directory / "example.py").write_text(source_of(program.source))
        name, source = program.module
        if name:
            (directory / f"{name}.py").write_text(source_of(source))
        clock = "import clock; clock.read_jumps()\n" if program.can_jump else ""
        launch = clock + program.launch.replace("CHANGES", "\n".join(program.changes[change] for change in changes))
        self.process = start_python(
            [sys.executable, "-W", "error", "-c", launch],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(600, self.process.kill)
        self._watchdog.start()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port = int(self._line("listening at").rpartition(" ")[2].rpartition(":")[2])

    def _read(self) -> None:
        # In a thread of its own, so that a program that prints much cannot block.
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def _line(self, part: str) -> str:
        while line := self._lines.get(timeout=6 * TIMEOUT):
            if part in line:
                return line

        assert self.process.stderr
        pytest.fail(self.process.stderr.read())

    def line(self) -> str:
        """Return the line of the next accepted message."""
        return self._line(" -> ")

    def connect(self, receive_buffer: int | None = None) -> Client:
        return Client(Address("127.0.0.1", self.port), receive_buffer=receive_buffer)

    def advance(self, seconds: float) -> None:
        """Move the clock of the process forward, when the server has done all that it can do."""
        # Each accepted connection takes a turn of the program's loop. A reply need not take one: Tornado reads at once
        # what has arrived already. A session may need several turns to take its input: a loop can serve the new client
        # first, and a session that worked for long lets the others continue in between.
        for _ in range(4):
            with self.connect() as other:
                other.expect(220)
                for _ in range(2):
                    other.send(b"NOOP\r\n").expect(250)
                other.send(b"QUIT\r\n").expect(221)
        with self.connect() as other:
            other.expect(220)
            assert self.process.stdin
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
            self._line("jumped")
            with suppress(ConnectionError):  # a loop that woke by itself has already ended this session, too
                other.send(b"QUIT\r\n")  # wakes the loop, which checks its deadlines
                other.rest()

    def stop(self, *, signal: bool = True) -> str:
        """End the process, or wait for its end without a `signal`, and return its error output."""
        if signal:
            self.process.terminate()
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        with self.process.stdin, self.process.stdout, self.process.stderr:
            errors = re.sub(r"(?m)^.*: failed to authenticate as .*\n", "", self.process.stderr.read())
            self._reader.join()
        self.process.wait(TIMEOUT)
        self._watchdog.cancel()
        assert self.process.returncode == (0 if self.program.stops else -15), errors
        return errors
