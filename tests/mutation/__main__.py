"""Mutation testing of the core: `python -m tests.mutation`, and then `python -m tests.mutation.report`.

Arguments are names of mutants, in which * stands for any part, and the options of `runner`. Mutants with a result are
not tried again, unless their function has changed. A survivor takes as long as a hundred mutants that a test notices:
with `--trust-list`, mutants that `survivors.md` lists with a reason count as survivors without being tried.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mutmut.__main__ import create_mutants
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir

from .report import keep_listed

MUTANTS = Path("mutants")
TRUST_LIST = "--trust-list"


def main() -> None:
    """Make the mutants and try them."""
    shutil.rmtree(MUTANTS / "tests", ignore_errors=True)  # remove tests that no longer exist
    for path in (MUTANTS / "src").rglob("*.py"):
        if not path.relative_to(MUTANTS).exists():  # a module that has been removed or renamed
            for each in (path, *path.parent.glob(f"{path.name}.*")):
                each.unlink()
    MUTANTS.mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(max_children=os.cpu_count() or 1)
    options = sys.argv[1:]
    if TRUST_LIST in options:
        options.remove(TRUST_LIST)
        sys.stdout.write(f"{keep_listed()} survivors are known\n")
    command = [sys.executable, "-m", "tests.mutation.runner", *options]
    environment = os.environ | {"PYTHONPATH": "src", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "MUTANT_UNDER_TEST": ""}
    sys.exit(subprocess.run(command, cwd=MUTANTS, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
