"""The system account of `smtpcore serve`: root opens ports and reads keys, and an account without rights serves."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import click

from ._sources import Settings

_logger = logging.getLogger("smtpcore")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the system, with the groups of its processes."""

    uid: int
    """The number of the user."""
    gid: int
    """The number of the main group."""
    groups: tuple[int, ...]
    """The numbers of all groups."""

    def become(self) -> None:
        """Give all rights of root up, for this process and its threads. Raises `click.UsageError` if this fails."""
        _import_late_modules()
        try:
            os.setgroups(self.groups)  # in this order: after `setuid` the groups cannot be changed
            os.setgid(self.gid)
            os.setuid(self.uid)
        except OSError as exc:
            raise click.UsageError(f"cannot become the user {self.uid}: {exc.strerror or exc}") from exc
        for regain in (os.setuid, os.seteuid):
            try:
                regain(0)
            except PermissionError:
                continue
            raise click.UsageError("cannot give the rights of root up: the process can become root again")

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Use the rights of the account while the block runs, for example to make files that the account owns."""
        groups, gid = os.getgroups(), os.getegid()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


def _import_late_modules() -> None:
    # asyncio and multiprocessing import these modules at their first use. If Python is in the home of root, the account
    # cannot read them then, and each login or each new worker would fail.
    for name in ("concurrent.futures.thread", "multiprocessing.popen_fork"):
        import_module(name)


def read_account(settings: Settings) -> Account | None:
    """Return the account of the settings `user` and `group`; None if `user` is not set.

    Raises:
        click.UsageError: The user or the group is unknown, or this process is not root.
    """
    user, group = settings["user"], settings["group"]
    if user is None:
        if group is not None:
            raise settings.error("{group} has no effect without {user}: give both")
        return None

    try:
        import grp
        import pwd
    except ImportError:
        raise settings.error("{user} needs a Unix system") from None

    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise settings.error("{user}: this system has no user {value!r}", value=user) from None
    try:
        gid = entry.pw_gid
        if group is not None:
            gid = (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
    except (KeyError, OverflowError):
        raise settings.error("{group}: this system has no group {value!r}", value=group) from None
    if entry.pw_uid == 0:
        raise settings.error("{user} {value} has all rights: name a user without rights", value=user)
    if os.geteuid() != 0:
        raise settings.error("{user} needs a start as root: leave {user} out, or start the server as root")

    return Account(entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)))


def has_rights_of_root(account: Account | None) -> bool:
    """Return whether the server will parse mail as root."""
    return account is None and hasattr(os, "geteuid") and os.geteuid() == 0


def warn_of_root() -> None:
    """Log that octets of strangers are parsed as root."""
    _logger.warning("the server reads data of strangers as root: use --user, or start the server as another user")
