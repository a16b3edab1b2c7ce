"""The command `smtpcore`, also available as `python -m smtpcore` and `python -m smtpcore_adapters`."""

import sys

from ._hangups import hold_hangups
from ._installation import EXTRAS, describe, short_help


def main() -> None:
    """Run the command line, or report which package is missing."""
    if sys.argv[1:2] == ["serve"]:  # before further imports, which take half a second
        hold_hangups()
    try:
        from .cli import main as run
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in EXTRAS["cli"]:
            raise  # a defect, which no package repairs

        if sys.argv[1:] in ([], ["-h"], ["--help"], ["--version"]):
            print(describe() if sys.argv[1:] == ["--version"] else short_help())  # noqa: T201
            return

        print(f"smtpcore: the command line needs {exc.name}: pip install 'smtpcore[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:  # the import takes so long that a user may press Ctrl-C meanwhile
        sys.exit(130)

    sys.exit(run())


if __name__ == "__main__":
    main()
