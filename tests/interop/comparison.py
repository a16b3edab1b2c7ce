"""The table of docs/sending.md that compares clients."""

from tests.paths import DOCS


def cells_of(row: str) -> list[str]:
    """Return the cells of a row, without its title."""
    (line,) = [line for line in (DOCS / "sending.md").read_text().splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]
