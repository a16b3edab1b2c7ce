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
from smtpcore import Config, Mail, Rcpt, Reply
from smtpcore_adapters import App, Message, Session
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
