"""Programs that type checkers must accept, and programs that they must reject, at the marked lines."""

# mypy and pyright (as basedpyright, in its mode "strict") check all programs in one run each.

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

IMPORTS = """\
from dataclasses import dataclass
from typing import Any, NoReturn

from smtpcore import Config, Mail, Rcpt, Reply, UnknownCommand
from smtpcore.sasl import Answer, Question
from smtpcore_adapters import DROP, App, Author, Drop, Header, MechanismExchange, Message, Observed, Reason, Session
from smtpcore_adapters.asyncio import run

app = App()
"""

PROGRAMS = {
    "handlers": """
@app.on("RCPT")
async def decide(session: Session, rcpt: Rcpt) -> Reply | None:
    session.state.seen = rcpt.forward_path.domain
    return Reply(250) if rcpt.forward_path == "a@b.example" else None

@app.on("message", blocking=True)
def store(session: Session, message: Message) -> Reply:
    return Reply(250, message.sender, *message.recipients, message.parse_blocking().get_content_type())

@app.on("message")
async def deliver(session: Session, message: Message) -> list[Reply]:
    return [Reply(250) for _ in message.recipients]

async def call(session: Session, rcpt: Rcpt) -> Reply | None:
    return await decide(session, rcpt)
""",
    "options": """
run(app, 25, hostname="mx.example.org", require_auth=True, max_message_size=100_000, enabled={"DSN"})
Config(hostname="mx.example.org", plaintext_auth=("SCRAM-SHA-256",), enabled={"DSN"})
""",
    "verb": """
@app.on("RCTP")  # error
def decide(session: Session, rcpt: Rcpt) -> Reply:
    return Reply(250)
""",
    "event": """
def decide(session: Session, mail: Mail) -> Reply:
    return Reply(250)

app.on("RCPT")(decide)  # error
""",
    "result": """
def decide(session: Session, rcpt: Rcpt) -> str:
    return "250 OK"

app.on("RCPT")(decide)  # error
""",
    "option": """
run(app, 25, host_name="mx.example.org")  # error
run(app, 25, require_tls="yes")  # error
run(app, 25, starttls=True)  # error
""",
    "config": """
Config(hostname="mx.example.org", enabled="DSN")  # error
Config(hostname="mx.example.org", plaintext_auth="PLAIN")  # error
""",
    "state": """
@dataclass
class Visit:
    refused: int = 0

visited = App(state=Visit)

@visited.on("RCPT")
async def decide(session: Session[Visit], rcpt: Rcpt) -> Reply | None:
    session.state.refused += 1
    return None

@visited.on("message", blocking=True)
def count(session: Session[Visit], message: Message) -> Reply:
    return Reply(250, str(session.state.refused))

@visited.on("disconnect")
def end(session: Session[Visit], reason: Reason) -> None:
    print(session.state.refused)

@visited.on_verb("XQUOTA")
def quota(session: Session[Visit], command: UnknownCommand) -> Reply:
    return Reply(250, command.argument)

@visited.on("connect")
def refuse(session: Session[Any], opened: object) -> Drop:
    return DROP

@visited.on("NOOP")
def fail(session: Session[object], noop: object) -> NoReturn:
    raise NotImplementedError

visited.on("HELP")(lambda session, help: Reply(214, str(session.state.refused)))
visited.observe(lambda session, item: print(session.state.refused, item))
run(visited, 25)

def returns_state() -> Visit:
    return Visit(refused=1)

other: App[Visit] = App(state=returns_state)
bare: App = app
""",
    "another_state": """
@dataclass
class Visit:
    refused: int = 0

visited = App(state=Visit)

@visited.on("RCPT")
async def decide(session: Session[Visit], rcpt: Rcpt) -> Reply | None:
    session.state.refusd += 1  # error
    return None

def bare(session: Session, rcpt: Rcpt) -> Reply:
    return Reply(250)

def of_text(session: Session[str], rcpt: Rcpt) -> Reply:
    return Reply(250)

def of_visit(session: Session[Visit], rcpt: Rcpt) -> Reply:
    return Reply(250)

def words(session: Session[str], reply: Reply, author: Author) -> Reply:
    return reply

visited.on("RCPT")(bare)  # error
visited.on("RCPT")(of_text)  # error
visited.on_verb("XQUOTA")(of_text)  # error
visited.wording(words)  # error
app.on("RCPT")(of_visit)  # error
App(state=Visit())  # error
App(Visit)  # error
""",
    "errors": """
@app.on("error")
async def report(session: Session, exception: BaseException) -> Reply | None:
    return Reply(451, type(exception).__name__)

@app.on("error")
def ignore(session: Session, exception: BaseException) -> None:
    print(exception)
""",
    "error": """
def narrow(session: Session, exception: ValueError) -> Reply:
    return Reply(451)

def text(session: Session, exception: BaseException) -> str:
    return "451"

async def late(session: Session, exception: BaseException) -> bool:
    return True

def alone(exception: BaseException) -> Reply:
    return Reply(451)

app.on("error")(narrow)  # error
app.on("error")(text)  # error
app.on("error")(late)  # error
app.on("error")(alone)  # error
app.on("errors")(alone)  # error
""",
    "wordings": """
@app.wording
def words(session: Session, reply: Reply, author: Author) -> Reply | None:
    return Reply(reply.code, author.rule) if session.peer else None

def call(session: Session, reply: Reply, author: Author) -> Reply | None:
    return words(session, reply, author)
""",
    "wording": """
async def late(session: Session, reply: Reply, author: Author) -> Reply:
    return reply

def text(session: Session, reply: Reply, author: Author) -> str:
    return "No"

def short(session: Session, reply: Reply) -> Reply:
    return reply

def swapped(session: Session, author: Author, reply: Reply) -> Reply:
    return reply

app.wording(late)  # error
app.wording(text)  # error
app.wording(short)  # error
app.wording(swapped)  # error
app.words(text)  # error
""",
    "mechanisms": """
@app.mechanism("X-TOKEN")
async def token(session: Session, exchange: MechanismExchange) -> str | Reply | None:
    sent = exchange.initial_response
    if sent is None:
        sent = await exchange.challenge(b"token?")
    return "tim" if sent == b"4f6c1e" else None

@app.mechanism("X-NEVER")
async def never(session: Session, exchange: MechanismExchange) -> None:
    exchange.claimed = "tim"
""",
    "mechanism": """
def plain(session: Session, exchange: MechanismExchange) -> str:
    return "tim"

async def octets(session: Session, exchange: MechanismExchange) -> bytes:
    return await exchange.challenge(b"token?")

async def truth(session: Session, exchange: MechanismExchange) -> bool:
    return True

async def question(session: Session, exchange: Question) -> str:
    return "tim"

async def text(session: Session, exchange: MechanismExchange) -> str:
    await exchange.challenge("token?")  # error
    return "tim"

app.mechanism("X-TOKEN")(plain)  # error
app.mechanism("X-TOKEN")(octets)  # error
app.mechanism("X-TOKEN")(truth)  # error
app.mechanism("X-TOKEN")(question)  # error
app.mechanism(text)  # error
""",
    "other_events": """
def connect(session: Session, opened: object) -> bool:
    return True

def header(session: Session, header: Header) -> bool:
    return True

def message(session: Session, message: Message) -> bool:
    return True

def login(session: Session, question: Question) -> Answer | list[str]:
    return ["tim"]

def short(session: Session) -> Reply:
    return Reply(250)

async def watch(session: Session, item: Rcpt) -> None:
    print(item)

def part(session: Session, burl: object) -> str:
    return "text"

app.on("connect")(connect)  # error
app.on("header")(header)  # error
app.on("message")(message)  # error
app.on("auth")(login)  # error
app.on("RCPT")(short)  # error
app.on("BURL")(part)  # error
app.on("RCPT")  # the decorator alone is no error
app.on(RCPT)  # error
app.on["RCPT"]  # error
app.observe(watch)  # error
""",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all programs."""
    place = tmp_path_factory.mktemp("programs")
    for name, text in PROGRAMS.items():
        (place / f"{name}.py").write_text(IMPORTS + text)
    return place


def output_of(directory: Path, *command: str) -> str:
    ran = subprocess.run([sys.executable, "-m", *command], cwd=directory, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr + ran.stdout
    return ran.stdout


@pytest.fixture(scope="module")
def found_by_mypy(directory: Path) -> set[tuple[str, int]]:
    """The program and the line of each error that mypy reports."""
    options = ("--strict", "--no-error-summary", "--cache-dir", str(directory / "cache"))
    text = output_of(directory, "mypy", *options, *[f"{name}.py" for name in PROGRAMS])
    return {(name, int(line)) for name, line in re.findall(r"^(\w+)\.py:(\d+): error", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def found_by_pyright(directory: Path) -> set[tuple[str, int]]:
    """The program and the line of each error that pyright reports."""
    settings = {"typeCheckingMode": "strict", "include": ["."], "reportUnusedImport": False}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    text = output_of(directory, "basedpyright", "--outputjson", "--pythonpath", sys.executable)
    found = json.loads(text)["generalDiagnostics"]
    return {(Path(each["file"]).stem, each["range"]["start"]["line"] + 1) for each in found}


def lines_of(name: str, found: Iterable[tuple[str, int]]) -> list[int]:
    return sorted(line for program, line in found if program == name)


def marked(name: str) -> list[int]:
    text = IMPORTS + PROGRAMS[name]
    return [number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# error")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_mypy_reports_exactly_the_marked_lines(name: str, found_by_mypy: set[tuple[str, int]]) -> None:
    assert lines_of(name, found_by_mypy) == marked(name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_pyright_reports_exactly_the_marked_lines(name: str, found_by_pyright: set[tuple[str, int]]) -> None:
    assert lines_of(name, found_by_pyright) == marked(name)
