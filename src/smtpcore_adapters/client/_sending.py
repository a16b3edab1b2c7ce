"""Send one message over a connection of its own."""

from typing import Any

from .._names import check_options
from ._connecting import connected
from ._envelope import Recipients, Sender, SendOptions, check_send_options, make_rcpts, sender_path
from ._header_envelope import envelope_of
from ._options import HINTS, ConnectOptions, Opener
from ._results import SendResult
from ._sources import Body


class OneCallOptions(ConnectOptions, SendOptions, total=False):
    """The options of `send` in each adapter: all options of `connect` and of `Client.send`, and the envelope."""

    sender: Sender | None
    """The address for failure reports. By default the address in Sender or else the first in From."""
    recipients: Recipients | None
    """The recipients. By default all addresses in To, Cc and Bcc."""


_HINTS = {
    **HINTS,
    **dict.fromkeys(("from_addr", "from_", "mail_from"), "pass sender="),
    **dict.fromkeys(("to_addrs", "to", "rcpt_to"), "pass recipients="),
}


def split(options: OneCallOptions) -> tuple[dict[str, Any], SendOptions]:
    """Return the options for the connection and those for the message. Raises `TypeError` for an unknown option."""
    check_options("an option of send", options, OneCallOptions.__annotations__, _HINTS)
    sending: Any = {name: value for name, value in options.items() if name in SendOptions.__annotations__}
    return {name: value for name, value in options.items() if name in ConnectOptions.__annotations__}, sending


async def send_over(open_stream: Opener, message: Body, host: str, port: int, options: OneCallOptions) -> SendResult:
    """Connect, send a message, and disconnect: the `send` of an adapter."""
    connecting, sending = split(options)
    sender, recipients = envelope_of(message, options.get("sender"), options.get("recipients"))
    check_send_options(sending)
    path, rcpts = sender_path(sender), make_rcpts(recipients, sending)  # errors are raised before connecting
    sending.pop("notify", None)  # the recipients have it now; an iterator could not be read again
    async with connected(open_stream, host, port, **connecting) as client:
        return await client.send(path, rcpts, message, **sending)
