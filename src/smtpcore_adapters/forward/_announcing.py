"""Adapt the configuration of a server to the next server, so that clients are offered only usable extensions."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from smtpcore import EXTENSIONS, ClientBudgets, Config

from ..client._client import Client

MOST_SECONDS = 5.0  # seconds for each step of asking the next server
_MOST_WAIT = 1.0  # seconds that the start of our server waits for the answer
_MIN_MESSAGE_SIZE = 65_536  # RFC 5321 4.5.3.1.7
_BETWEEN_NEIGHBOURS = frozenset({"SIZE", "AUTH", "BURL"})
"""Extensions whose parameters have a meaning only between one client and its server, so they are not forwarded."""
_CARRIED = frozenset(known.keyword for known in EXTENSIONS if known.mail or known.rcpt) - _BETWEEN_NEIGHBOURS


class Announcement:
    """The extensions that the next server offered most recently."""

    def __init__(self) -> None:
        self._offers: Mapping[str, object] | None = None
        self._is_verified = False
        self._applied: dict[Config, Config] = {}
        """The configurations that `apply` has returned, by the original configuration."""
        self._inquiry: threading.Thread | None = None

    @property
    def is_known(self) -> bool:
        """Whether the next server was asked successfully."""
        return self._offers is not None

    @property
    def is_pending(self) -> bool:
        """Whether the next server has been asked and has not answered yet."""
        return self._inquiry is not None and self._inquiry.is_alive()

    def ask(self, inquire: "Callable[[Announcement], None]") -> bool:
        """Call `inquire` in a thread, wait for a short time, and return whether the call has ended."""
        self._inquiry = threading.Thread(target=inquire, args=(self,), daemon=True)
        self._inquiry.start()
        self._inquiry.join(_MOST_WAIT)
        return not self.is_pending

    def learn(self, client: Client) -> None:
        """Store the extensions that the next server offers to `client`."""
        if (client.extensions, client.is_verified) != (self._offers, self._is_verified):
            self._offers, self._is_verified = dict(client.extensions), client.is_verified
            self._applied = {}

    def apply(self, config: Config) -> Config:
        """Return `config` with these extensions, or unchanged while the extensions are unknown."""
        if self._offers is None:
            return config

        applied, offers = self._applied, self._offers  # another thread may call `learn` meanwhile
        if config not in applied:
            applied[config] = announced(config, offers, is_verified=self._is_verified)
        return applied[config]


def shortened(budgets: ClientBudgets) -> ClientBudgets:
    """Return the time limits of a connection that is opened only to ask for the extensions."""
    return replace(budgets.at_most(MOST_SECONDS), quit=min(budgets.quit, 1.0))


def announced(config: Config, offers: Mapping[str, object], *, is_verified: bool) -> Config:
    """Return `config` with the built-in extensions that the next server offers, and with the smaller limit of SIZE.

    `offers` are the extensions of the next server, as in `ClientConnection.extensions`. REQUIRETLS is offered only if
    `is_verified` says that the connection to the next server uses verified TLS.
    """
    offered = _CARRIED.intersection(offers) - (frozenset() if is_verified else {"REQUIRETLS"})
    disabled = (config.disabled | _CARRIED) - offered
    # An extension is disabled too if it needs a disabled extension: for example, BINARYMIME needs CHUNKING.
    lacking = {known.keyword for known in EXTENSIONS if known.needs & disabled}

    limit, ours = offers.get("SIZE"), config.max_message_size
    if type(limit) is int:
        ours = max(min(limit, ours or limit), _MIN_MESSAGE_SIZE)

    minimum, policy = offers.get("DELIVERBY"), offers.get("MT-PRIORITY")
    return replace(
        config,
        disabled=disabled | lacking,
        max_message_size=ours,
        min_by_time=max(minimum, config.min_by_time or 0) if type(minimum) is int else config.min_by_time,
        priority_policy=policy if isinstance(policy, str) else config.priority_policy,
    )
