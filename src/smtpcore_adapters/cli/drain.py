"""`smtpcore drain`: deliver the mail in a queue of NATS JetStream."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..maildir import Maildir
from ..stores import Envelope, StoreHandler
from ._destinations import SCHEMES, Target, connect_options, make_handlers, parse_destination
from ._jetstream import jetstream_of
from ._numbers import NumberRange
from ._output import log_handler, show_line

if TYPE_CHECKING:
    from ..drain import Deliver

_DAY = 86400.0


@click.command()
@click.argument("source", metavar="NATS-URL")
@click.option(
    "--deliver",
    required=True,
    metavar="URL",
    help="Destination: maildir:PATH, smtp://HOST:PORT, lmtp://HOST:PORT, or another one of `serve --deliver`.",
)
@click.option(
    "--durable",
    default="drain",
    show_default=True,
    metavar="NAME",
    help="Name of the queue. Processes with the same name share its mail.",
)
@click.option("--domain", help="Deliver only mail whose first recipient is in this domain.  [default: all domains]")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="NUMBER",
    help="Messages that are delivered at the same time.",
)
@click.option(
    "--retry",
    multiple=True,
    type=NumberRange(0, min_open=True),
    metavar="SECONDS",
    help="Delay after a failed attempt. Repeatable; the last delay is repeated.  [default: 1800, 1800, 7200]",
)
@click.option(
    "--give-up",
    type=NumberRange(0),
    default=5.0,
    show_default=True,
    metavar="DAYS",
    help="Age of a message that is no longer tried, and becomes a dead letter.",
)
@click.option(
    "--grace",
    type=NumberRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to complete deliveries after SIGINT or SIGTERM.",
)
@click.option("--hostname", help="Name of this client for EHLO.  [default: the name of this machine]")
@click.option("-v", "--verbose", is_flag=True, help="Log each delivery.")
def drain(source: str, *, deliver: str, hostname: str | None, verbose: bool, **options: Any) -> int:
    """Deliver the mail in a queue of NATS JetStream, and try again after failures.

    NATS-URL is the URL of `serve --deliver`: nats://HOST[,HOST...]/STREAM, with the same parameters. A recipient who
    has the message, or was refused with 5yz, is not tried again. A message that is refused for a recipient, or is too
    old, becomes a dead letter for these recipients: it stays in the stream under the subject STREAM.dead. Nothing is
    sent to the sender.

    Exit status: 0 after SIGINT or SIGTERM, 2 for arguments that cannot be used.
    """
    logger = logging.getLogger("smtpcore")
    handler = log_handler()
    handler.addFilter(OneOfEqual())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        target = parse_destination(source)
        if target.scheme != "nats":
            raise ValueError(f"{target.url} is not a queue: use {SCHEMES['nats'].form}")
        run = _runner(target, parse_destination(deliver), hostname, **options)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc

    show_line(f"delivering the mail in {target.url.partition('?')[0]}; Ctrl-C stops")
    run()
    return 0


class OneOfEqual(logging.Filter):
    """Drops a record that has the text of the record before it, if less than ten seconds lie between them.

    All deliveries that run at the same time lose the cluster together, and each writes the same record.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = "", -_SAME

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        text, time = self._last
        if record.getMessage() == text and record.created - time < _SAME:
            return False

        self._last = record.getMessage(), record.created
        return True


_SAME = 10.0


def _runner(
    source: Target,
    destination: Target,
    hostname: str | None,
    *,
    retry: Sequence[float],
    give_up: float,
    concurrency: int,
    **options: Any,
) -> "partial[None]":
    try:
        url, of_cluster = jetstream_of(source)
        from ..drain import Schedule, run
        from ..stores.jetstream import JetStream
        from ..stores.jetstream._consumer import check_queue

        JetStream(url, **of_cluster)  # raises for impossible options
        check_queue(options["durable"], options["domain"])
        _check_not_the_same(source, destination)
        delivery = make_delivery(destination, hostname, concurrency)
    except OSError as exc:
        raise ValueError(f"cannot read {exc.filename}: {exc.strerror}") from exc

    schedule = Schedule(delays=tuple(retry) or Schedule().delays, give_up=give_up * _DAY)
    return partial(run, url, delivery, schedule=schedule, concurrency=concurrency, **options, **of_cluster)


def _check_not_the_same(source: Target, destination: Target) -> None:
    # The queue would take its own message for a duplicate, and delete the message.
    if destination.scheme == "nats":
        (servers, stream), (others, other) = _place_of(source), _place_of(destination)
        if stream == other and servers & others:
            raise ValueError(f"{destination.url} is the queue itself: deliver to another stream")


def _place_of(target: Target) -> tuple[set[str], str]:
    servers, _, stream = target.path.removeprefix("//").rpartition("/")
    return {server if ":" in server.rpartition("]")[2] else f"{server}:4222" for server in servers.split(",")}, stream


def make_delivery(target: Target, hostname: str | None, concurrency: int) -> "Deliver":
    """Return the function that delivers messages to a destination. Raises `ValueError` or `OSError`."""
    from ..asyncio import Pool
    from ..drain import NextServer, ToStore

    if SCHEMES[target.scheme].asks_about_recipients:
        ignored = [name for name in ("xclient", "xforward", "proxy_protocol", "announce") if name in target.parameters]
        if ignored:
            raise ValueError(f"{target.url}: {ignored[0]} has no effect here: the client of the message has left")
        return NextServer(Pool(target.host, target.port, concurrency, **connect_options(target, hostname)))

    (made,) = make_handlers([target], hostname, 1) if target.scheme != "print" else (None,)
    if isinstance(made, Maildir):
        return ToStore(StoreHandler(made, fields=_delivery_fields, max_hops=made.max_hops))
    handler = getattr(made, "handler", made)
    if isinstance(handler, StoreHandler):
        return ToStore(handler)

    raise ValueError(f"{target.url} cannot be the destination of a queue")


def _delivery_fields(envelope: Envelope) -> bytes:
    return envelope.delivery_fields
