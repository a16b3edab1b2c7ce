"""Checks of sizes: a server accepts the sizes of RFC 5321 4.5.3.1, and handles larger ones safely."""

from ._checks import Check, Probe, Stage, check, expect, expect_nothing_more, one_reply
from ._findings import Failed, Inconclusive, NotApplicable
from ._raw_client import RawReply, ServerClosed

_MAX_LOCAL_PART = 64
_MAX_DOMAIN = 255
_MAX_COMMAND_LINE = 512
_MAX_TEXT_LINE = 1000
_MIN_MESSAGE = 65_536
_MIN_RECIPIENTS = 100
_MOST_TO_SEND = 1_048_576
"""Maximum octets of a message that a check sends to test a limit."""

_TOO_LONG = (500, 501, 502, 552, 553, 555)
"""Codes with which a server may report that something is too long."""


def _judge(seen: RawReply) -> None:
    if seen.code in _TOO_LONG:
        raise Failed(f"the reply was: {seen}")
    if seen.code // 100 != 2:
        raise Inconclusive(f"the server may have refused for another reason: {seen}")


@check("limit-local-part", "A local part may have 64 octets", "RFC 5321 4.5.3.1.1", "250 to such a sender")
def _local_part(probe: Probe) -> None:
    _, _, domain = probe.target.sender.rpartition("@")
    _judge(probe.at(Stage.READY).ask(f"MAIL FROM:<{'l' * _MAX_LOCAL_PART}@{domain}>"))


@check("limit-domain", "A domain may have 255 octets", "RFC 5321 4.5.3.1.2", "250 to such a sender")
def _domain(probe: Probe) -> None:
    labels = ".".join(["d" * 63] * 4)[: _MAX_DOMAIN - len(".example")]
    _judge(probe.at(Stage.READY).ask(f"MAIL FROM:<a@{labels}.example>"))


@check("limit-command-line", "A command line may have 512 octets", "RFC 5321 4.5.3.1.4", "250 to such a NOOP")
def _command_line(probe: Probe) -> None:
    expect(probe.at(Stage.READY).ask("NOOP ".ljust(_MAX_COMMAND_LINE - len("\r\n"), "x")), "250")


@check("limit-recipients", "A message may have 100 recipients", "RFC 5321 4.5.3.1.8", "2yz to 100 RCPT commands")
def _recipients(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    for number in range(2, _MIN_RECIPIENTS + 1):
        seen = client.ask(probe.rcpt)
        if seen.code // 100 != 2:
            raise Failed(f"the reply to recipient {number} was: {seen}")

    client.ask("RSET")


@check("limit-text-line", "A text line may have 1,000 octets", "RFC 5321 4.5.3.1.6", "2yz to the message")
def _text_line(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.send(probe.message(b"x" * (_MAX_TEXT_LINE - 2) + b"\r\n") + b".\r\n")
    expect(client.reply(), "2yz")


@check("limit-message", "A message may have 65,536 octets", "RFC 5321 4.5.3.1.7", "2yz to the message")
def _message(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.send(probe.message(size=_MIN_MESSAGE) + b".\r\n")
    expect(client.reply(), "2yz")


# SIZE


def _limit(probe: Probe) -> int:
    arguments = probe.need(probe.at(Stage.READY), "SIZE")
    if not arguments.isdigit() or int(arguments) == 0:
        raise NotApplicable("the server announces SIZE without a limit")

    return int(arguments)


def _small_limit(probe: Probe) -> int:
    limit = _limit(probe)
    if not _MIN_MESSAGE <= limit <= _MOST_TO_SEND:
        raise NotApplicable(f"the limit is {limit} octets; this check sends at most {_MOST_TO_SEND} octets")

    return limit


@check("size-declared", "A declared size equal to the limit is accepted", "RFC 1870 6.1", "250 to SIZE=limit")
def _declared(probe: Probe) -> None:
    limit = _limit(probe)
    expect(probe.at(Stage.READY).ask(f"{probe.mail} SIZE={limit}"), "250")


@check("size-declared-over", "A declared size above the limit is refused", "RFC 1870 6.1", "552 to SIZE=limit+1")
def _declared_over(probe: Probe) -> None:
    limit = _limit(probe)
    expect(probe.at(Stage.READY).ask(f"{probe.mail} SIZE={limit + 1}"), "552 452")


@check("size-malformed", "A declared size that is not a number is refused", "RFC 1870 4", "5yz to SIZE=x")
def _malformed(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    probe.need(client, "SIZE")
    expect(client.ask(f"{probe.mail} SIZE=x"), "5yz")


@check("size-exact", "A message of exactly the announced limit is accepted", "RFC 1870 5", "2yz to the message")
def _exact(probe: Probe) -> None:
    limit = _small_limit(probe)
    client = probe.at(Stage.DATA)
    # The added dots and the final dot do not count toward the size.
    message = probe.message(b".dot\r\n" * 8, size=limit)
    client.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    expect(client.reply(), "2yz")


@check("size-over", "A message above the announced limit is refused", "RFC 1870 6.3", "552, and no other reply")
def _over(probe: Probe) -> None:
    limit = _small_limit(probe)
    client = probe.at(Stage.DATA)
    try:
        client.send(probe.message(size=limit + 2) + b".\r\n")
        expect(client.reply(), "552 554 550 421")
    except ServerClosed:
        return  # a server that refuses a message need not read the rest of the message

    expect_nothing_more(client)


LIMITS: tuple[Check, ...] = (
    _local_part,
    _domain,
    _command_line,
    one_reply(
        "limit-command-line-over",
        "A line of 70,000 octets gets one reply, and its end is not parsed as a command",
        "RFC 5321 4.5.3.1.9",
        [b"NOOP " + b"x" * 70_000 + b" RSET\r\n"],
        "2yz 5yz 421",
        at=Stage.READY,
    ),
    _recipients,
    _text_line,
    one_reply(
        "limit-text-line-over",
        "The text after a line of 17,000 octets in a message is not parsed as commands",
        "RFC 5321 4.5.3.1.9",
        [b"x" * 17_000 + b"\r\n", b"NOOP\r\n.\r\n"],
        "2yz 5yz 421",
    ),
    one_reply(
        "limit-text-line-far-over",
        "The text after a line of 70,000 octets in a message is not parsed as commands",
        "RFC 5321 4.5.3.1.9",
        [b"x" * 70_000 + b"\r\n", b"NOOP\r\n.\r\n"],
        "2yz 5yz 421",
    ),
    _message,
    _declared,
    _declared_over,
    _malformed,
    _exact,
    _over,
)
