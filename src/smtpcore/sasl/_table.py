"""The table of SASL mechanisms, and the functions that choose from it."""

# One row for each mechanism, the strongest first. Mechanisms that also authenticate the server are preferred, then
# mechanisms bound to the TLS channel, then mechanisms that do not send the password.
#
# Names are compared in upper case, as ASCII, because a peer may send any letter case (RFC 4954 section 8).

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from .._errors import LocalProtocolError
from .._fields import check_argument, check_fields
from ._anonymous import AnonymousClient, AnonymousServer
from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, Credentials, Policy
from ._cram import CramClient, CramServer
from ._external import ExternalClient, ExternalServer
from ._mechanism import ClientMechanism, ServerMechanism
from ._oauth import OAuthBearerClient, OAuthBearerServer, XOAuth2Client, XOAuth2Server
from ._plain import LoginClient, LoginServer, PlainClient, PlainServer
from ._scram import ScramClient, ScramServer

_match_name = re.compile(r"[A-Z0-9_-]{1,20}").fullmatch  # RFC 4422 3.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mechanism:
    """A SASL mechanism."""

    name: str
    """The name in upper case."""
    server: type[ServerMechanism]
    """The class of the server's end."""
    client: type[ClientMechanism]
    """The class of the client's end."""
    fits: Callable[[Channel, bool], bool] = lambda channel, cleartext: True
    """Return whether the mechanism may be used on a channel. The second argument allows passwords without TLS."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not _match_name(self.name):
            raise LocalProtocolError(f"{self.name!r} is not a mechanism: use 1 to 20 characters from A-Z 0-9 - _")


def _is_private(channel: Channel, cleartext: bool) -> bool:
    return channel.tls or cleartext


def _is_tls(channel: Channel, cleartext: bool) -> bool:
    return channel.tls  # RFC 7628 section 3: anyone who reads a token can use it


def _is_bound(channel: Channel, cleartext: bool) -> bool:
    return bool(channel.bindings)


def _is_external(channel: Channel, cleartext: bool) -> bool:
    return channel.external is not None


class _Builtin(tuple[Mechanism, ...]):
    __slots__ = ()

    def __repr__(self) -> str:
        return "MECHANISMS"  # the value would make the help of each function with this default unreadable


MECHANISMS: tuple[Mechanism, ...] = _Builtin(
    (
        Mechanism(name="EXTERNAL", server=ExternalServer, client=ExternalClient, fits=_is_external),
        Mechanism(name="SCRAM-SHA-256-PLUS", server=ScramServer, client=ScramClient, fits=_is_bound),
        Mechanism(name="SCRAM-SHA-1-PLUS", server=ScramServer, client=ScramClient, fits=_is_bound),
        Mechanism(name="SCRAM-SHA-256", server=ScramServer, client=ScramClient),
        Mechanism(name="SCRAM-SHA-1", server=ScramServer, client=ScramClient),
        Mechanism(name="OAUTHBEARER", server=OAuthBearerServer, client=OAuthBearerClient, fits=_is_tls),
        Mechanism(name="XOAUTH2", server=XOAuth2Server, client=XOAuth2Client, fits=_is_tls),
        Mechanism(name="CRAM-MD5", server=CramServer, client=CramClient),
        Mechanism(name="PLAIN", server=PlainServer, client=PlainClient, fits=_is_private),
        Mechanism(name="LOGIN", server=LoginServer, client=LoginClient, fits=_is_private),
        Mechanism(name="ANONYMOUS", server=AnonymousServer, client=AnonymousClient),
    )
)
"""The built-in mechanisms, the strongest first. Pass `(yours, *MECHANISMS)` to the functions below to add your own."""


def make_server(
    name: str,
    channel: Channel = PLAINTEXT,
    policy: Policy = DEFAULT_POLICY,
    *,
    mechanisms: Iterable[Mechanism] = MECHANISMS,
) -> ServerMechanism:
    """Make the server's end of one exchange.

    Args:
        name: the mechanism, in any letter case. The caller checks with `offer` whether it is allowed now.
        channel: properties of the connection.
        policy: settings of the server for all exchanges.
        mechanisms: the table.

    Raises:
        LocalProtocolError: the mechanism is unknown, or it needs a channel binding that the channel lacks.
    """
    row = _find(name, mechanisms)
    return row.server(row.name, channel, policy)


def make_client(
    name: str, credentials: Credentials, channel: Channel = PLAINTEXT, *, mechanisms: Iterable[Mechanism] = MECHANISMS
) -> ClientMechanism:
    """Make the client's end of one exchange.

    Args:
        name: the mechanism, in any letter case. `choose` selects a mechanism.
        credentials: the identity and secrets of the client.
        channel: properties of the connection.
        mechanisms: the table.

    Raises:
        LocalProtocolError: the mechanism is unknown, or it cannot use these credentials or this channel.
    """
    row = _find(name, mechanisms)
    return row.client(row.name, credentials, channel)


def offer(
    names: Iterable[str], channel: Channel, *, cleartext: bool = False, mechanisms: Iterable[Mechanism] = MECHANISMS
) -> tuple[str, ...]:
    """Return the mechanisms in `names` that a server may offer on this channel, in the order of `names`.

    Mechanisms that send a password or token need TLS. `cleartext` allows passwords without TLS, but not tokens.
    EXTERNAL needs external credentials. The -PLUS mechanisms need a channel binding. Raises `LocalProtocolError` for an
    unknown name.
    """
    check_argument("names", names, Iterable[str])
    check_argument("channel", channel, Channel)
    check_argument("mechanisms", mechanisms, Iterable[Mechanism])
    table = tuple(mechanisms)
    rows = [_find(name, table) for name in names]
    return tuple(row.name for row in rows if row.fits(channel, cleartext))


def choose(
    offered: Collection[str],
    credentials: Credentials,
    channel: Channel,
    *,
    cleartext: bool = False,
    mechanisms: Iterable[Mechanism] = MECHANISMS,
) -> str | None:
    """Return the strongest mechanism that the client can use, or None.

    Args:
        offered: the names that the server sent, in any letter case.
        credentials: the client's credentials. Mechanisms that cannot use all of them are skipped.
        channel: properties of the connection.
        cleartext: whether passwords may be sent without TLS. Tokens never are.
        mechanisms: the table. Earlier rows are preferred.
    """
    check_argument("offered", offered, Collection[str])
    check_argument("credentials", credentials, Credentials)
    check_argument("channel", channel, Channel)
    check_argument("mechanisms", mechanisms, Iterable[Mechanism])
    names = {_upper(name) for name in offered}
    for row in mechanisms:
        if row.name in names and row.fits(channel, cleartext) and row.client.is_enough(credentials):
            return row.name

    return None


def _find(name: str, mechanisms: Iterable[Mechanism]) -> Mechanism:
    check_argument("name", name, str)
    check_argument("mechanisms", mechanisms, Iterable[Mechanism])
    wanted = _upper(name)
    for row in mechanisms:
        if row.name == wanted:
            return row

    raise LocalProtocolError(f"there is no mechanism {name[:24]!r}: see smtpcore.sasl.MECHANISMS")


def _upper(name: str) -> str:
    # The upper case of some letters beyond ASCII is an ASCII letter, such as I.
    return name.upper() if name.isascii() else name
