"""The units of systemd and the Containerfile in docs/deploy, as far as they can be tried without their runtimes."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from smtpcore_adapters.cli import cli
from tests.adapters.command import run_in_process
from tests.docs.test_running import block
from tests.long import long
from tests.paths import DOCS, ROOT

DEPLOY = DOCS / "deploy"
MOST_EXPOSED = 1.2
"""The exposure that `systemd-analyze security` computes for the service, from 0.0 (none) to 10.0."""

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def values(unit: str, key: str) -> list[str]:
    """Return the values of a key in a unit."""
    return re.findall(rf"^{key}=(.*)$", (DEPLOY / unit).read_text(), re.MULTILINE)


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


# systemd


@needs_systemd
def test_units_are_valid(tmp_path: Path) -> None:
    for unit in ("smtpcore.service", "smtpcore.socket"):
        # A program that exists takes the place of the server.
        (tmp_path / unit).write_text((DEPLOY / unit).read_text().replace("/opt/smtpcore/bin/smtpcore", sys.executable))
    done = analyze("verify", "--man=no", *(str(path) for path in tmp_path.iterdir()))
    assert "smtpcore" not in done.stderr
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_service_has_few_rights() -> None:
    limit = ["--offline=yes", f"--threshold={MOST_EXPOSED * 10:.0f}", "--no-pager"]
    done = analyze("security", *limit, str(DEPLOY / "smtpcore.service"))
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_each_socket_of_the_unit_has_a_listener_in_the_file_of_the_page() -> None:
    listeners = tomllib.loads(block("toml", "hostname"))["listener"]
    assert values("smtpcore.socket", "ListenStream") == [str(each["port"]) for each in listeners]


def test_files_of_the_service_are_the_files_of_the_page() -> None:
    settings = tomllib.loads(block("toml", "hostname"))
    names = {"SMTPCORE_TLS_CERT": "tls_cert", "SMTPCORE_TLS_KEY": "tls_key", "SMTPCORE_USERS": "users"}
    sources = dict(each.split(":", 1) for each in values("smtpcore.service", "LoadCredential"))
    for variable in values("smtpcore.service", "Environment"):
        name, path = variable.split("=", 1)
        directory, _, credential = path.rpartition("/")
        assert directory == "/run/credentials/smtpcore.service"
        assert sources.pop(credential) == settings[names[name]]
    assert sources == {}


# The Containerfile


INSTRUCTIONS = {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}


def instructions() -> list[tuple[str, str]]:
    """Return each instruction of the Containerfile with its argument."""
    text = (DEPLOY / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, argument) for name, _, argument in (line.partition(" ") for line in lines)]


def arguments_of(name: str) -> list[str]:
    return [argument for found, argument in instructions() if found == name]


def test_instructions_of_the_container_are_known() -> None:
    assert {name for name, _ in instructions()} == INSTRUCTIONS | {"ENTRYPOINT", "CMD"}
    assert [name for name, _ in instructions()].count("FROM") == 2


def test_container_runs_without_root_and_stops_with_sigterm() -> None:
    (user,) = arguments_of("USER")
    (useradd,) = [each for each in arguments_of("RUN") if each.startswith("useradd ")]
    assert f"--uid {user} " in useradd
    assert int(user) > 0
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(number for number, name in enumerate(names) if name == "RUN")
    assert arguments_of("STOPSIGNAL") == ["SIGTERM"]


def test_container_exposes_the_ports_of_the_page() -> None:
    listeners = tomllib.loads(block("toml", "hostname"))["listener"]
    assert arguments_of("EXPOSE") == [" ".join(str(each["port"]) for each in listeners)]


def test_commands_of_the_container_are_commands() -> None:
    program = json.loads(arguments_of("ENTRYPOINT")[0])
    health = json.loads(arguments_of("HEALTHCHECK")[0].partition(" CMD ")[2])
    serve = program + json.loads(arguments_of("CMD")[0])
    assert (health[:2], serve[:2]) == (["smtpcore", "ping"], ["smtpcore", "serve"])
    for command in (health, serve):
        cli.commands[command[1]].make_context("smtpcore", command[2:])
    assert health[2] == f"127.0.0.1:{arguments_of('EXPOSE')[0].split()[0]}"


def test_container_copies_what_the_package_needs() -> None:
    copies = [each.split()[-2:] for each in arguments_of("COPY")]
    assert copies == [[".", "/src"], ["/opt/smtpcore", "/opt/smtpcore"]]
    (install,) = [each for each in arguments_of("RUN") if " install " in each]
    (package,) = [each for each in shlex.split(install) if each.startswith("/src")]
    extras = re.findall(r"\w+", package.partition("[")[2])
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras
    assert [extra for extra in extras if extra not in known] == []


def test_directories_of_the_container_are_volumes() -> None:
    volumes = json.loads(arguments_of("VOLUME")[0])
    assert arguments_of("WORKDIR")[0] in volumes
    (command,) = arguments_of("CMD")
    assert str(Path(json.loads(command)[-1]).parent) in volumes


@long
def test_installation_of_the_container_has_the_commands(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    (install,) = [each for each in arguments_of("RUN") if " install " in each]
    command = install.replace("/opt/smtpcore", str(tmp_path / "venv")).replace("/src", str(ROOT))
    subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=300)
    done = subprocess.run([tmp_path / "venv/bin/smtpcore", "config"], check=True, capture_output=True, timeout=60)
    assert b"metrics_port" in done.stdout


def test_file_of_the_page_is_checked_without_systemd(tmp_path: Path) -> None:
    text = re.sub(r"^(tls_\w+|users) = .*$", "", block("toml", "hostname"), flags=re.MULTILINE)
    (tmp_path / "smtpcore.toml").write_text("self_signed = true\n" + text)
    done = run_in_process("config", "--check", cwd=tmp_path, auth="tim:secret")
    assert (done.returncode, done.stderr) == (0, "")
