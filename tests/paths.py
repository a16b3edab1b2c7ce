"""Paths in the repository."""

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
ROOT: Final = TESTS.parent
DOCS: Final = ROOT / "docs"
CORPUS: Final = ROOT / "fuzz" / "corpus"
DIALOGS: Final = TESTS / "conformance" / "dialogs"
