"""`smtpcore serve`: receive mail, with a destination for it or with an app of one's own."""

import errno
import os
import signal
from functools import partial
from typing import Any

import click

from ..streams._stream import Address
from ..tls import ServerTls
from ._application import Plan, add_handlers, make_plan
from ._backends import runner_of
from ._options import GroupedCommand, with_settings
from ._output import show_mail, shower_of, start_log
from ._privileges import warn_of_root
from ._processes import Run, raise_descriptor_limit, reloading, run_alone, run_workers
from ._reloader import serve_again_after_changes
from ._sharing import counting
from ._sources import read_settings
from ._systemd import NO_SYSTEMD, Notifier

_FILES_PER_CONNECTION = 4  # threads need two for a connection, and two more for one that is being refused
_OTHER_FILES = 64


@click.command(cls=GroupedCommand)
@with_settings
def serve(**options: Any) -> None:
    """Receive mail, and store it in a Maildir, print it, forward it, or send it to a webhook.

    With MODULE:ATTRIBUTE, such as server:app, an App of your own handles the mail.

    Each option is also a key of the file of --config, and a variable: --max-size is max_size and SMTPCORE_MAX_SIZE. An
    option takes precedence over its variable, and a variable over the file. In the file, [[listener]] tables describe
    several listeners. A listener takes an open socket of systemd (socket activation) at its place.

    Without --accept and --users every recipient is accepted. The server must then be unreachable for other machines:
    on a loopback address, without --proxy-protocol and --trusted.
    """
    server = read_settings(options, os.environ)
    if server["reload"]:
        descriptors = [each["fd"] for each in server.listeners if each["fd"] is not None]
        serve_again_after_changes(click.get_current_context().obj, descriptors)
        return

    start_log(server)
    plan = make_plan(server)
    notifier = Notifier(os.environ)
    run = runner_of(server["backend"], plan.event_loop, plan.limits)
    run = counting(_reloading(run, plan, notifier), plan.shared, plan.greylist)
    add_handlers(plan)
    show_mail(plan.app, server, is_printing=plan.is_printing)
    raise_descriptor_limit(_FILES_PER_CONNECTION * server["max_connections"] + _OTHER_FILES)

    listeners = [each.listener for each in plan.listeners]
    how: dict[str, Any] = {"account": plan.account, "notifier": notifier, "show": shower_of(server)}
    how |= {"drain_delay": server["drain_delay"], "event_loop": plan.event_loop}
    if server["metrics_port"] is not None:
        how["metrics_at"] = Address(server["metrics_host"], server["metrics_port"])
    if plan.is_parsing_as_root:
        how["on_open"] = warn_of_root
    try:
        if server["workers"] > 1:
            run_workers(run, listeners, server["workers"], plan.app, limits=plan.limits, **how)
        else:
            run_alone(run, listeners, plan.app, **how)
    except ChildProcessError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        hint = "; ports below 1024 need CAP_NET_BIND_SERVICE, see docs/running.md" * (exc.errno == errno.EACCES)
        raise click.UsageError(f"cannot listen on {exc.filename}: {exc.strerror or exc}{hint}") from exc


def _reloading(run: Run, plan: Plan, notifier: Notifier = NO_SYSTEMD) -> Run:
    if not hasattr(signal, "SIGHUP"):
        return partial(run, plan.app)  # Windows has no SIGHUP

    certificates = {each.tls: each.settings for each in plan.listeners if isinstance(each.tls, ServerTls)}
    files = [
        (f"certificate {settings['tls_cert']} with {settings['tls_key']}", tls.reload)
        for tls, settings in certificates.items()
    ]
    if plan.users and plan.users.path:
        files.append((f"file of users {plan.users.path}", plan.users.reload))

    def run_reloading(**arguments: Any) -> None:
        with reloading(files, notifier):
            run(plan.app, **arguments)

    return run_reloading
