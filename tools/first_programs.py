"""Run the first programs of a README with the installed packages: the server, and the client that sends to it.

python -m tools.first_programs README.md
"""

import asyncio
import re
import sys
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from typing import Any, Final

from smtpcore_adapters.asyncio import BackgroundServer, send

_program = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

MESSAGE: Final = b"Subject: Hello\r\n\r\nHi!\r\n"


def programs_of(readme: str, directory: Path) -> dict[str, Any]:
    """Write the programs of a README into a directory, execute them, and return their names."""
    names: dict[str, Any] = {}
    for number, source in enumerate(_program.findall(readme)):
        file = directory / f"program{number}.py"
        file.write_text(source, encoding="utf-8")
        names |= run_path(str(file), run_name="program")
    return names


async def talk(names: dict[str, Any], port: int, message: Path) -> tuple[int, int]:
    """Send two messages, and return the codes of the replies to a local and to another recipient."""
    other = "me@example.net"
    accepted = await names["deliver"]("127.0.0.1", port, message)
    refused = await send(MESSAGE, host="127.0.0.1", port=port, sender="you@example.org", recipients=[other])
    return accepted["you@example.org"].code, refused[other].code


def codes_of(readme: str) -> tuple[int, int]:
    """Run both programs, and return the codes of the replies to a local and to another recipient."""
    with TemporaryDirectory() as directory:
        names = programs_of(readme, Path(directory))
        message = Path(directory) / "message.eml"
        message.write_bytes(MESSAGE)
        with BackgroundServer(names["app"], 0) as server:
            return asyncio.run(talk(names, server.address.port, message))


def main(path: str) -> None:
    """Run the programs of a file, and raise SystemExit with status 1 if the replies are wrong."""
    codes = codes_of(Path(path).read_text(encoding="utf-8"))
    if codes != (250, 550):
        sys.exit(f"the replies to the first programs should be 250 and 550, but are {codes[0]} and {codes[1]}")


if __name__ == "__main__":
    main(sys.argv[1])
