"""The build hook names modules and classes that exist, and refuses what it cannot do."""

import re
from pathlib import Path

import pytest

from hatch_build import COMPILED, COMPILER, MARKS, PACKAGE, VARIABLE, CompilingHook, mark
from tests.paths import ROOT

SOURCE = ROOT / "src" / PACKAGE


def hook() -> CompilingHook:
    # Hatch gives a hook more than it needs here.
    return CompilingHook(str(ROOT), {}, None, None, str(ROOT / "dist"), "wheel")  # type: ignore[arg-type]


def test_compiled_modules_exist() -> None:
    assert [name for name in COMPILED if not (SOURCE / f"{name}.py").is_file()] == []


def test_compiled_modules_have_no_coroutines() -> None:
    # mypyc raises some exceptions again that a coroutine has caught.
    found = [name for name in COMPILED if re.search(r"\basync def\b|\bawait\b", (SOURCE / f"{name}.py").read_text())]
    assert found == []


@pytest.mark.parametrize(("module", "beginning"), MARKS)
def test_each_mark_has_one_place(module: str, beginning: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text((SOURCE / f"{module}.py").read_text())
    mark(path, beginning, MARKS[module, beginning])
    assert f"{MARKS[module, beginning]}\n{beginning}" in path.read_text()


def test_mark_without_a_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("class A:\n    pass\n")
    with pytest.raises(RuntimeError, match=r"module.py has 0 places with 'class B', which hatch_build.py marks"):
        mark(path, "class B", "@marked")


def test_nothing_is_compiled_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    data: dict[str, object] = {}
    hook().initialize("standard", data)
    hook().finalize("standard", data, "")
    assert (hook().dependencies(), data) == ([], {})


def test_compiler_is_required_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert hook().dependencies() == COMPILER


def test_editable_installation_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(RuntimeError, match="an editable installation is never compiled: leave out -e"):
        hook().initialize("editable", {})


def test_other_value_of_the_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(ValueError, match="SMTPCORE_COMPILE is 'yes': use 1 to compile, or 0"):
        hook().dependencies()
