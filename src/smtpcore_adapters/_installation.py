"""The texts of `smtpcore --version` and `smtpcore --help`, also without the packages of the command line."""

import platform
import ssl
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from smtpcore import COMPILED, __version__

EXTRAS = {
    "cli": ("click", "cryptography", "msgspec", "rich", "trustme"),
    "trio": ("trio",),
    "anyio": ("anyio",),
    "metrics": ("prometheus-client",),
    "reload": ("watchfiles",),
    "speed": ("uvloop",),
    "idna": ("idna",),
    "shared-limits": ("redis",),
    "nats": ("nats-py", "nkeys"),
    "webhook": ("h11",),
    "testing": ("hypothesis", "pytest", "trustme"),
}
"""The packages of each extra for users, as in pyproject.toml."""
SUMMARY = "Receive, send, check, fuzz and explain mail with SMTP and LMTP."
COMMANDS = {
    "check": "Check whether a server complies with the RFCs and is safe; with --listen, a client.",
    "config": "Show the settings of a server with the same options, and the origin of each.",
    "drain": "Deliver the mail in a queue of NATS JetStream, and try again after failures.",
    "explain": "Explain a recorded dialogue and report each breach of the RFCs.",
    "fuzz": "Play generated sessions against a server or a client, and report the rules that it breaks.",
    "ping": "Check the health of a server: connect, wait for its greeting, send EHLO and QUIT.",
    "send": "Send a message, header and body, from FILE or standard input.",
    "serve": "Receive mail, and store it in a Maildir, print it, forward it, or send it to a webhook.",
    "user": "Manage the users who may log in to smtpcore serve.",
}
"""The commands with the first sentence of their help."""


def short_help() -> str:
    """Return a help for an installation that lacks packages of the command line."""
    rows = "\n".join(f"  {name:<8} {text}" for name, text in COMMANDS.items())
    return (
        f"Usage: smtpcore COMMAND [OPTIONS]\n\n  {SUMMARY}\n\n"
        f"The commands need more packages: pip install 'smtpcore[cli]'\n\nCommands:\n{rows}"
    )


def describe() -> str:
    """Return the versions of smtpcore, of Python and of the packages of each extra, line by line."""
    lines = [
        f"smtpcore, version {__version__}{', compiled' * COMPILED}",
        f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}, {platform.platform()}",
        *(f"extra {name}: {_packages(names)}" for name, names in EXTRAS.items()),
    ]
    return "\n".join(lines)


def _packages(names: Iterable[str]) -> str:
    found = {name: _version(name) for name in names}
    present = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    missing = ", ".join(name for name, number in found.items() if not number)
    return "; ".join(text for text in (present, f"missing {missing}" * bool(missing)) if text)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
