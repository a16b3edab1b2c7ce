"""Build the `App` of `smtpcore serve`: users, rules for recipients, and a destination."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smtpcore import LocalProtocolError

from ..greylist import Greylist
from ..recipients import AnyRecipient, RecipientPolicy, RelayPolicy
from ..server._app import App
from ..server._config import effective_config
from ..server._limits import Limits
from ._access import AcceptedRecipients, ServerUsers, error_of_strangers, read_users, rule_of
from ._backends import event_loop_of
from ._destinations import DEFAULT, SCHEMES, Target, check_together, make_handlers, parse_destination
from ._listening import Prepared, context_of, limits_of, prepare_listeners
from ._loading import load_app
from ._privileges import Account, has_rights_of_root, read_account
from ._sharing import greylist, shared_counts
from ._sources import Settings

if TYPE_CHECKING:
    from ..shared_limits import RedisCounts

_logger = logging.getLogger("smtpcore")


@dataclass(frozen=True, slots=True)
class Plan:
    """A server that is ready to be started: all settings are checked, and nothing is bound."""

    server: Settings
    """The settings of the server."""
    app: App[Any]
    """The app of the user, or an empty app; `add_handlers` completes it."""
    listeners: Sequence[Prepared]
    """The listeners."""
    users: ServerUsers | None
    """The users who may log in."""
    rules: Sequence[RecipientPolicy]
    """The rules for recipients."""
    targets: Sequence[Target]
    """The destinations."""
    limits: Limits
    """The limits of the whole server."""
    event_loop: str = ""
    """The package of the event loop, "" for the event loop of Python or of another framework."""
    account: Account | None = None
    """The system account that serves; None for the account that starts the server."""
    shared: "RedisCounts | None" = None
    """The counts of several machines."""
    greylist: Greylist | None = None
    """The greylist."""
    is_check: bool = False
    """Whether the server is only checked, and not run."""

    @property
    def is_parsing_as_root(self) -> bool:
        """Whether octets of strangers would be parsed as root."""
        is_root = has_rights_of_root(self.account)
        return is_root and any(error_of_strangers(each.settings, each.listener) for each in self.listeners)

    @property
    def is_printing(self) -> bool:
        """Whether messages are written to standard output."""
        return any(target.scheme == "print" for target in self.targets)

    @property
    def is_asking(self) -> bool:
        """Whether the destination decides about recipients."""
        return any(SCHEMES[target.scheme].asks_about_recipients for target in self.targets)


def make_plan(server: Settings, *, is_check: bool = False) -> Plan:
    """Return the server that the settings describe.

    With `is_check`, the server is only checked: its handlers create nothing and ask no other server, and it may lack
    sockets of systemd.

    Raises:
        click.UsageError: A setting is wrong, a file cannot be used, or strangers could send mail to any recipient.
    """
    if server["quiet"] and server["verbose"]:
        raise server.error("{quiet} and {verbose} exclude each other: give one of them")
    if server["fault_seed"] is not None and not server["fault"]:
        raise server.error("{fault_seed} has no effect without {fault}: give both")
    if server.is_set("metrics_host") and server["metrics_port"] is None:
        raise server.error("{metrics_host} has no effect without {metrics_port}: give both")
    if server["metrics_port"] is not None and not find_spec("prometheus_client"):
        raise server.error("{metrics_port} needs another package: pip install 'smtpcore[metrics]'")
    if server["reload"] and not find_spec("watchfiles"):
        raise server.error("{reload} needs another package: pip install 'smtpcore[reload]'")

    app = load_app(server["app"]) if server["app"] else App()
    account = read_account(server)
    users, mechanisms = read_users(server)
    listeners = prepare_listeners(server, app, mechanisms, is_check=is_check)
    sharing = shared_counts(server), greylist(server)
    how = limits_of(server), event_loop_of(server)
    plan = Plan(server, app, listeners, users, [], _targets(server), *how, account, *sharing, is_check)
    return replace(plan, rules=_rules(plan))


def _targets(server: Settings) -> Sequence[Target]:
    entries = server["deliver"]
    has_others = server["maildir"] or server["print"] or server["app"]
    try:
        targets = [parse_destination(each) for each in entries or ([] if has_others else [DEFAULT])]
        if server["maildir"]:
            path = server["maildir"]
            targets.append(Target(f"maildir:{path}", "maildir", path=str(Path(path).expanduser())))
        if server["print"]:
            targets.append(parse_destination("print:"))
        check_together(targets)
    except ValueError as exc:
        name = next((name for name in ("deliver", "maildir", "print") if server[name]), "deliver")
        raise server.error(f"{{{name}}}: {{reason}}", reason=exc) from exc

    return targets


def _rules(plan: Plan) -> Sequence[RecipientPolicy]:
    rules: dict[str, RecipientPolicy] = {}
    for each in plan.listeners:
        assert each.listener.config, "each listener has a configuration"
        has_users = bool(each.listener.config.auth_mechanisms)
        is_open = plan.is_asking or not plan.server["app"]
        rule = rule_of(each.settings, each.listener, has_users=has_users, is_open=is_open)
        # A relay for users does not relay for other clients, not even on a loopback address.
        is_relay = plan.is_asking and plan.users
        if rule and not (is_relay and isinstance(rule, AnyRecipient)):
            rules[each.listener.name] = rule

    return [AcceptedRecipients(rules)] if rules else []


def add_handlers(plan: Plan) -> None:
    """Add the handlers that the settings describe, after the handlers of the app. Raises `click.UsageError`."""
    app, server, users = plan.app, plan.server, plan.users
    if server["fault"]:
        app.include(_faults(plan))
    if plan.greylist:
        app.include(plan.greylist)
    if plan.is_asking and (users or plan.rules):  # the destination decides about all recipients that are not refused
        app.include(RelayPolicy(users, *plan.rules))
    else:
        for policy in (*([users] if users else []), *plan.rules):
            app.include(policy)

    # The account owns a new Maildir. Every other destination may read files of root, such as a password.
    stores = any(target.scheme == "maildir" for target in plan.targets)
    with plan.account.acting() if plan.account and stores else nullcontext():
        handlers = _make_handlers(plan)
    for handler in handlers:
        app.include(handler)
    if server["app"]:
        _check_app(plan)


def _make_handlers(plan: Plan) -> Sequence[object]:
    server = plan.server
    try:
        return make_handlers(plan.targets, server["hostname"], server["workers"], is_check=plan.is_check)
    except ValueError as exc:
        name = "maildir" if server["maildir"] else "deliver"
        raise server.error(f"{{{name}}}: {{reason}}", reason=exc) from exc


def _check_app(plan: Plan) -> None:
    """Raise `click.UsageError` if the app of the user and the configuration of a listener do not fit together."""
    if not plan.app.handles("RCPT"):
        _logger.warning("%s has no handler of RCPT, so each recipient is refused", plan.server["app"])
    for each in plan.listeners:
        assert each.listener.config, "each listener has a configuration"
        try:
            effective_config(each.listener.config, plan.app, each.listener.tls)
        except (LocalProtocolError, ValueError) as exc:
            raise plan.server.error("{app}: {reason}", reason=exc) from exc


def _faults(plan: Plan) -> object:
    from ..testing.faults import FaultError, Faults, parse_fault

    server, listeners = plan.server, plan.listeners
    if server["app"]:
        raise server.error("{fault} and {app} exclude each other: the app has handlers of its own")

    trusted = any(each.settings["trusted"] for each in listeners)
    implicit_tls = all(each.settings["tls"] == "implicit" for each in listeners)
    try:
        for line in server["fault"]:
            if server["workers"] > 1 and parse_fault(line).counts_sessions:
                text = "{fault} {line!r} and {workers} exclude each other: each process counts alone"
                raise server.error(text, line=line)

        faults = Faults(*server["fault"], trusted=trusted, implicit_tls=implicit_tls, seed=server["fault_seed"])
        only_faults = App()
        only_faults.include(faults)
        if plan.users:
            only_faults.on("auth")(lambda session, question: None)
        for context in {context for each in listeners if (context := context_of(each.tls))}:
            faults.apply_to(context)
        for each in listeners:
            assert each.listener.config, "each listener has a configuration"
            effective_config(each.listener.config, only_faults, context_of(each.tls))
        return faults
    except FaultError as exc:
        raise server.error("{fault}: {reason}", reason=exc) from exc
