"""A build hook of Hatch that compiles modules of the core with mypyc if `SMTPCORE_COMPILE=1` is set."""

# The sources stay as they are. The hook copies the package, and marks in the copy what mypyc has to know about a class:
# that programs may derive from it, or that it has to stay a class of Python, so that its objects can be pickled.
#
# No module with a coroutine is compiled: mypyc 2.4 raises some exceptions again that a coroutine has caught.
#
# Commands, events, replies and configurations are not compiled: they are small dataclasses, and pickling, matching and
# copying them has to work as in plain Python. "Speed" in `docs/running.md` says how the two builds differ.

import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "SMTPCORE_COMPILE"
PACKAGE = "smtpcore"
COMPILER = ["mypy[mypyc]>=2.4,<3"]

COMPILED = ["_base64", "_buffer", "_client", "_connection", "_default_replies", "_dialects", "_endpoint", "_grammar"]
COMPILED += ["_parser", "_refusals", "_reply_reader", "_requests", "_state", "_states", "_tolerance", "_xtext"]
COMPILED += [f"_bodies/{name}" for name in ("_checks", "_framing", "_header", "_incoming", "_lines", "_outgoing")]
"""The modules that are compiled: the ones through which each command and each body goes."""

DERIVABLE = "@mypyc_attr(allow_interpreted_subclasses=True)"
INTERPRETED = "@(lambda kind: kind)"
"""Any decorator that mypyc does not know keeps a class interpreted. Its methods are compiled nevertheless."""

MARKS = {
    ("_endpoint", "class Endpoint("): DERIVABLE,
    ("_connection", "class Connection("): DERIVABLE,
    ("_client", "class ClientConnection("): DERIVABLE,
    ("_endpoint", "@dataclass(slots=True)\nclass Transaction:"): INTERPRETED,
}
"""The decorator to write above a class, by module and the beginning of the class."""

IMPORT = "\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from mypy_extensions import mypyc_attr\n"


class CompilingHook(BuildHookInterface[Any]):
    """Compiles the modules in `COMPILED`, and adds the extension modules to a wheel."""

    def dependencies(self) -> list[str]:
        """Return the requirements of the build."""
        return COMPILER if self._is_on() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the package, and make the wheel one for this platform and this version of Python."""
        if not self._is_on():
            return
        if version == "editable":
            raise RuntimeError(f"{VARIABLE}: an editable installation is never compiled: leave out -e, or the variable")

        self._directory = TemporaryDirectory()
        built = compile_package(Path(self.root, "src"), Path(self._directory.name))
        for path in sorted(built.rglob("*.*")):
            build_data["force_include"][str(path)] = str(path.relative_to(built))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary files."""
        if self._is_on():
            self._directory.cleanup()

    def _is_on(self) -> bool:
        value = os.environ.get(VARIABLE, "0")
        if value not in ("0", "1"):
            raise ValueError(f"{VARIABLE} is {value!r}: use 1 to compile, or 0")

        return value == "1"


def compile_package(source: Path, directory: Path) -> Path:
    """Compile the modules of the package in `source`. Return the directory of the extension modules, in `directory`."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    shutil.copytree(source / PACKAGE, directory / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for (module, beginning), decorator in MARKS.items():
        mark(directory / PACKAGE / f"{module}.py", beginning, decorator)

    before = Path.cwd()
    os.chdir(directory)  # mypyc names modules after their paths
    try:
        (directory / "mypy.ini").write_text("[mypy]\nstrict = true\n")
        paths = [f"{PACKAGE}/{module}.py" for module in COMPILED]
        extensions = mypycify(
            ["--config-file=mypy.ini", *paths],
            only_compile_paths=paths,
            opt_level="2",
            debug_level="0",
            group_name=f"{PACKAGE}._native",
        )
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = "built", "objects"
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)

    return directory / "built"


def mark(path: Path, beginning: str, decorator: str) -> None:
    """Write `decorator` above the class that begins with `beginning`."""
    text, found = re.subn(rf"^(?={re.escape(beginning)})", f"{decorator}\n", path.read_text(), flags=re.MULTILINE)
    if found != 1:
        raise RuntimeError(f"{path.name} has {found} places with {beginning!r}, which hatch_build.py marks")

    path.write_text(text if IMPORT in text else text + IMPORT)
