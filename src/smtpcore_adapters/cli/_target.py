"""The server that `smtpcore check` and `smtpcore fuzz` test."""

from collections.abc import Mapping
from typing import Any

import click

from smtpcore import ClientConfig, LocalProtocolError, Mailbox

from ..check import Target
from ..client._options import check_connect_options
from ._password import read_password


def refuse_given(options: Mapping[str, Any], names: Mapping[str, str], why: str) -> None:
    """Raise `click.UsageError` if an option was given. `names` has the name of each option as the user writes it."""
    given = [option for name, option in names.items() if options[name]]
    if given:
        raise click.UsageError(f"{given[0]} {why}")


def target_of(options: Mapping[str, Any]) -> Target:
    """Return the target that the options of `smtpcore check` describe. Raise `click.UsageError`."""
    host, port = address_of(options["server"])
    if not options["recipient"]:
        raise click.UsageError("give the recipient of the test messages: --to ADDRESS")

    sender = options["sender"] or options["recipient"]
    for address in (sender, options["recipient"]):
        try:
            Mailbox(address)
        except LocalProtocolError as exc:
            raise click.UsageError(str(exc)) from exc

    try:
        helo = options["helo"] and ClientConfig(hostname=options["helo"]).hostname
    except LocalProtocolError as exc:
        raise click.UsageError(f"--helo: {exc}") from exc

    user = options["auth"] or ""
    password = read_password(user) if user else ""
    may_be_plaintext = options.get("allow_plaintext_auth", False)
    if may_be_plaintext and not user:
        raise click.UsageError("--allow-plaintext-auth has no effect without --auth: give both")
    if user and options["tls"] == "none" and not may_be_plaintext:
        other = ", or --allow-plaintext-auth" if "allow_plaintext_auth" in options else ""
        text = f"--auth without TLS would expose the password: add --tls starttls or --tls implicit{other}"
        raise click.UsageError(text)

    return Target(
        host=host,
        port=port,
        sender=sender,
        recipient=options["recipient"],
        tls=options["tls"],
        insecure=options["insecure"],
        user=user,
        password=password,
        lmtp=options["lmtp"],
        timeout=options["timeout"],
        helo=helo,
    )


def address_of(server: str, *, port: str = "25") -> tuple[str, int]:
    """Return the host and the port of `HOST[:PORT]`, by default `port`. Raise `click.UsageError`.

    The default port 0 allows port 0: a server that listens there gets a free port.
    """
    if not server:
        raise click.UsageError("give a server: HOST or HOST:PORT")

    least = int(port != "0")
    host, _, port = server.rpartition(":") if server.count(":") == 1 or "]:" in server else (server, "", port)
    host = host.strip("[]")
    try:
        check_connect_options(host, int(port) if port.isdecimal() else -1, {})
        if host and int(port) >= least:
            return host, int(port)
    except ValueError:
        pass
    raise click.UsageError(f"{server!r} is not a server: give HOST or HOST:PORT")
