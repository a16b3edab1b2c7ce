"""`smtpcore serve module:app` loads an app of the working directory, and explains each mistake in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from smtpcore_adapters import App
from smtpcore_adapters.cli._loading import load_app

SERVER = """\
from smtpcore_adapters import App
app = App()
number = 5
class tools:
    app = app
def make():
    return app
def make_nothing():
    return None
def fail():
    return 1 / 0
def leave():
    raise SystemExit(3)
def needs(path):
    return App()
async def later():
    return App()
mapping = dict  # has no signature
def stop():
    raise KeyboardInterrupt
def cancel():
    raise BaseException("cancelled")
class lazy:
    @property
    def app(self):
        return 1 / 0
lazy = lazy()
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "rtserver.py").write_text(SERVER)
    (tmp_path / "rtbroken.py").write_text("import json\njson.loads('{')\n")
    (tmp_path / "rtsyntax.py").write_text("x = 1\ndef (\n")
    (tmp_path / "rtneeds.py").write_text("\nimport no_such_package\n")
    wrong = 'from smtpcore_adapters import App\napp = App()\n\n@app.on("RCPT")\nasync def r(session): ...\n'
    (tmp_path / "rtwrong.py").write_text(wrong)
    (tmp_path / "rtexits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("rt"):
            del sys.modules[name]


@pytest.mark.parametrize("place", ["rtserver:app", "rtserver:tools.app", "rtserver:make"])
def test_app_is_loaded_from_the_working_directory(place: str) -> None:
    assert isinstance(load_app(place), App)
    assert isinstance(load_app(place), App)  # the directory is already on the path


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("rtserver.py", "'rtserver.py' is not a module: write rtserver:app, without .py"),
        ("json:ap", "json has no attribute 'ap': it has no App"),
        ("./pkg/rtserver.py:main", "is not a module: write pkg.rtserver:main, without .py"),
        ("smtpcore.toml", "'smtpcore.toml' is not a module: write --config smtpcore.toml"),
        ("rtserver", "'rtserver' does not name an app: write MODULE:ATTRIBUTE, such as server:app"),
        ("rt server:app", "does not name an app"),
        ("rtserve:app", "there is no module 'rtserve' in {cwd} or installed: is it 'rtserver'?"),
        ("rtserver.x:app", "there is no module 'rtserver.x' in"),
        ("rtserver:apq", "rtserver has no attribute 'apq': is it 'app'?"),
        ("rtserver:zzz", "rtserver has no attribute 'zzz': use one of app"),
        (
            "rtserver:number",
            "rtserver:number is of the type int: it has to be an App, or a function that returns an App",
        ),
        ("rtserver:make_nothing", "rtserver:make_nothing is of the type NoneType"),
        (
            "rtserver:fail",
            "rtserver:fail cannot be used: ZeroDivisionError: division by zero ({cwd}/rtserver.py, line 11)",
        ),
        ("rtserver:leave", "rtserver:leave cannot be used: SystemExit: 3 ({cwd}/rtserver.py, line 13)"),
        ("rtserver:cancel", "rtserver:cancel cannot be used: BaseException: cancelled ({cwd}/rtserver.py, line 22)"),
        ("rtserver:lazy.app", "rtserver:lazy.app cannot be used: ZeroDivisionError: division by zero ({cwd}/"),
        ("rtserver:needs", "rtserver:needs cannot be called without arguments: missing a required argument: 'path'"),
        ("rtserver:mapping", "rtserver:mapping is of the type dict: it has to be an App"),
        ("rtserver:later", "rtserver:later is a coroutine function: write def in place of async def"),
        ("rtbroken:app", "rtbroken cannot be used: JSONDecodeError: "),
        ("rtbroken:app", "({cwd}/rtbroken.py, line 2)"),
        ("rtsyntax:app", "rtsyntax cannot be used: SyntaxError: invalid syntax ({cwd}/rtsyntax.py, line 2)"),
        (
            "rtwrong:app",
            "ValueError: the handler r of RCPT cannot be called with (session, event): too many positional",
        ),
        ("rtwrong:app", "({cwd}/rtwrong.py, line 4)"),
        ("rtneeds:app", "ModuleNotFoundError: No module named 'no_such_package' ({cwd}/rtneeds.py, line 2)"),
        ("rtexits:app", "rtexits cannot be used: SystemExit: 3 ({cwd}/rtexits.py, line 1)"),
    ],
)
def test_mistake_is_explained_in_one_line(place: str, error: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        load_app(place)
    assert error.format(cwd=Path.cwd()) in caught.value.message
    assert "\n" not in caught.value.message


def test_interrupt_in_the_code_of_the_user_is_not_an_error() -> None:
    Path("rtstop.py").write_text("raise KeyboardInterrupt\n")
    for place in ("rtserver:stop", "rtstop:app"):
        with pytest.raises(KeyboardInterrupt):
            load_app(place)


def test_module_in_an_empty_directory_has_no_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(click.UsageError, match=r"there is no module 'rtnowhere' .*: this directory has no modules"):
        load_app("rtnowhere:app")
