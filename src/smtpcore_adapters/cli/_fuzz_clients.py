"""`smtpcore fuzz --listen`: find the behaviours of a server that lead clients to break the rules of SMTP."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from random import randrange
from typing import TYPE_CHECKING, Any

import click

from ..check.clients import Client, ClientFailed, ClientListener, ClientSetup
from ._check_clients import check_address, client_of
from ._fuzz_reports import Progress, loaded, print_end, print_findings, report_as_json, save_findings

if TYPE_CHECKING:
    from ..testing.fuzz.clients import ClientFinding, ClientFuzzer, ClientSettings


def fuzz_clients(host: str, port: int, options: Mapping[str, Any]) -> int:
    """Listen, run or await clients, print the findings, and return the exit status."""
    from ..testing.fuzz.clients import CannotFuzz, ClientFuzzer, ClientSettings, Unreadable

    check_address(host, is_mine=options["mine"])
    client = client_of(options)
    settings = ClientSettings(
        seconds=options["seconds"],
        examples=options["examples"],
        seed=randrange(2**32) if options["seed"] is None else options["seed"],  # noqa: S311
    )
    setup = ClientSetup(
        host=host, port=port, tls=options["tls"], lmtp=options["lmtp"], timeout=options["timeout"], pause=0
    )
    progress = Progress(settings.seconds) if sys.stderr.isatty() else None
    try:
        with ClientListener(setup) as listener:
            fuzzer = ClientFuzzer(listener, client, settings, progress=progress)
            _announce(fuzzer, client, options)
            if options["replay"]:
                return _replay(fuzzer, options["replay"])

            return _run(fuzzer, settings, progress, options)
    except (CannotFuzz, Unreadable) as exc:
        raise click.ClickException(str(exc)) from exc
    except ClientFailed as exc:
        raise click.ClickException(f"cannot run {exc}") from exc
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}: {exc.strerror}") from exc


def _announce(fuzzer: "ClientFuzzer", client: Client | None, options: Mapping[str, Any]) -> None:
    if client is None:
        listener = fuzzer.listener
        click.echo(f"listening on {listener.setup.host} port {listener.port}; Ctrl-C stops", err=True)
        if options["tls"] != "none":
            click.echo(f"the authority of the certificate is in {listener.authority}", err=True)


def _run(
    fuzzer: "ClientFuzzer", settings: "ClientSettings", progress: Progress | None, options: Mapping[str, Any]
) -> int:
    from ..testing.fuzz.clients import load_behaviour, save_behaviour

    def write(file: Path, finding: "ClientFinding", about: Mapping[str, str]) -> None:
        save_behaviour(file, finding.behaviour, about)

    behaviours = loaded(options["corpus"], load_behaviour)
    try:
        report = fuzzer.run(behaviours)
    except KeyboardInterrupt:
        report = fuzzer.report
    finally:
        if progress:
            progress.clear()

    files = save_findings(options["corpus"], report.findings, write)
    if options["as_json"]:
        setup, port = fuzzer.listener.setup, fuzzer.listener.port
        click.echo(json.dumps(report_as_json(setup.host, port, settings.seed, report, files), indent=2))
    else:
        print_findings(report.findings, files)
        print_end(report, settings.seed)

    return int(bool(report.faults))


def _replay(fuzzer: "ClientFuzzer", file: Path) -> int:
    from ..testing.fuzz.clients import CannotFuzz, lines_of, load_behaviour, violations_of

    behaviour = load_behaviour(file)
    fuzzer.probe()
    evidence = fuzzer.gather(behaviour)
    if evidence is None:
        raise CannotFuzz("the client did not connect")

    click.echo("\n".join(lines_of(evidence)))
    violations = violations_of(evidence)
    for each in violations:
        kind = "warning: " if each.is_warning else ""
        click.echo(f"{kind}{each.law}: {each.verb}: {each.text} ({each.section})")
    if not violations:
        click.echo("no law is broken")
    return int(any(not each.is_warning for each in violations))
