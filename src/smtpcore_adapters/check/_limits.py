"""Checks of sizes: a server accepts the sizes of RFC 5321 4.5.3.1, and handles larger sizes safely."""

import re

from ._checks import SYNTAX_ERRORS, Check, Probe, Stage, check, expect, expect_nothing_more, one_reply, preparing
from ._findings import Failed, Inconclusive, NotApplicable, Objected
from ._raw_client import RawReply, ServerClosed

_MAX_LOCAL_PART = 64
_MAX_PATH = 256
"""Maximum octets of a path, with its brackets (RFC 5321 4.5.3.1.3)."""
_MAX_LABEL = 63
_MAX_COMMAND_LINE = 512
_MAX_TEXT_LINE = 1000
_MIN_MESSAGE = 65_536
_MIN_RECIPIENTS = 100
_MOST_TO_SEND = 1_048_576
"""Maximum octets of a message that a check sends to test a limit."""

_TOO_LONG = f"{SYNTAX_ERRORS} 552 553"
"""Codes with which a server may report that something is too long."""
_TOO_LARGE_STATUS = ((2, 3), (3, 4))  # RFC 3463: message length exceeds limit, message too big for system
_search_too_many = re.compile(r"too many (?:rcpt|recipient)", re.IGNORECASE).search


def _expect_sender(probe: Probe, long: str, short: str) -> None:
    if len(f"<{long}>") > _MAX_PATH:
        raise NotApplicable(f"with the domain of the sender, a path would exceed {_MAX_PATH} octets")

    # A server may refuse a sender that does not exist. So a short address that does not exist either is tried first.
    probe.prepare(probe.at(Stage.READY), f"MAIL FROM:<{short}>", "250")
    expect(probe.at(Stage.READY).ask(f"MAIL FROM:<{long}>"), "250", objections=_TOO_LONG)


@check("limit-local-part", "A local part may have 64 octets", "RFC 5321 4.5.3.1.1", "250 to such a sender")
def _local_part(probe: Probe) -> None:
    _, _, domain = probe.target.sender.rpartition("@")
    _expect_sender(probe, f"{'l' * _MAX_LOCAL_PART}@{domain}", f"l@{domain}")


# A domain of 255 octets does not fit into a path of 256, nor into the DNS (RFC 1035 2.3.4).
@check(
    "limit-domain",
    "A domain may have 252 octets in a path of 256",
    "RFC 5321 4.5.3.1.2",
    "250 to such a sender",
)
def _domain(probe: Probe) -> None:
    _, _, domain = probe.target.sender.rpartition("@")
    if domain.startswith("["):
        raise NotApplicable("the domain of the sender is an address literal")

    filling = _MAX_PATH - len("<a@.>") - len(domain)
    labels: list[str] = []
    while filling > 0:
        # A label is followed by a dot and at least one octet, or by nothing.
        label = min(filling, _MAX_LABEL - (filling == _MAX_LABEL + 1))
        labels.append("d" * label)
        filling -= label + 1

    _expect_sender(probe, f"a@{'.'.join([*labels, domain])}", f"a@d.{domain}")


@check(
    "limit-command-line",
    "A command line may have 512 octets",
    "RFC 5321 4.5.3.1.4",
    "250 to such a NOOP",
    plain=("NOOP x",),
)
def _command_line(probe: Probe) -> None:
    expect(probe.at(Stage.READY).ask("NOOP ".ljust(_MAX_COMMAND_LINE - len("\r\n"), "x")), "250")


@check("limit-recipients", "A message may have 100 recipients", "RFC 5321 4.5.3.1.8", "2yz to 100 RCPT commands")
def _recipients(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    for number in range(2, _MIN_RECIPIENTS + 1):
        with preparing(client):
            seen = client.ask(probe.rcpt)
        if seen.code // 100 in (2, 3):
            continue
        if seen.status == (5, 3) or _search_too_many(" ".join(seen.texts)):
            raise Failed(f"the reply to recipient {number} was: {seen}")

        raise Inconclusive(f"the server refused recipient {number} for another reason: {seen}")


def _expect_taken(seen: RawReply) -> None:
    # A refusal counts as a failure only if it names the form or the size of the message, not its content.
    if seen.code // 100 == 5 and seen.status in _TOO_LARGE_STATUS:
        raise Objected(f"the reply was: {seen}")

    expect(seen, "2yz", objections=f"{SYNTAX_ERRORS} 552")


@check(
    "limit-text-line",
    "A text line may have 1,000 octets",
    "RFC 5321 4.5.3.1.6",
    "2yz to the message",
    control=Stage.SENT,
)
def _text_line(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.send(probe.message(b"x" * (_MAX_TEXT_LINE - 2) + b"\r\n") + b".\r\n")
    _expect_taken(client.reply())


@check(
    "limit-message", "A message may have 65,536 octets", "RFC 5321 4.5.3.1.7", "2yz to the message", control=Stage.SENT
)
def _message(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.send(probe.message(size=_MIN_MESSAGE) + b".\r\n")
    _expect_taken(client.reply())


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


@check(
    "size-declared",
    "A declared size equal to the limit is accepted",
    "RFC 1870 6.1",
    "250 to SIZE=limit",
    control=Stage.MAIL,
)
def _declared(probe: Probe) -> None:
    limit = _limit(probe)
    expect(probe.at(Stage.READY).ask(f"{probe.mail} SIZE={limit}"), "250")


@check(
    "size-declared-over",
    "A declared size above the limit is refused",
    "RFC 1870 6.1",
    "552 to SIZE=limit+1",
    control=Stage.MAIL,
)
def _declared_over(probe: Probe) -> None:
    limit = _limit(probe)
    expect(probe.at(Stage.READY).ask(f"{probe.mail} SIZE={limit + 1}"), "552 452")


@check(
    "size-malformed",
    "A declared size that is not a number is refused",
    "RFC 1870 4",
    "5yz to SIZE=x",
    control=Stage.MAIL,
)
def _malformed(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    probe.need(client, "SIZE")
    expect(client.ask(f"{probe.mail} SIZE=x"), "5yz")


@check(
    "size-exact",
    "A message of exactly the announced limit is accepted",
    "RFC 1870 5",
    "2yz to the message",
    control=Stage.SENT,
)
def _exact(probe: Probe) -> None:
    limit = _small_limit(probe)
    client = probe.at(Stage.DATA)
    # The added dots and the final dot do not count toward the size.
    message = probe.message(b".dot\r\n" * 8, size=limit)
    client.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    _expect_taken(client.reply())


@check(
    "size-over",
    "A message above the announced limit is refused",
    "RFC 1870 6.3",
    "552, and no other reply",
    control=Stage.SENT,
)
def _over(probe: Probe) -> None:
    limit = _small_limit(probe)
    client = probe.at(Stage.DATA)
    try:
        client.send(probe.message(size=limit + 2) + b".\r\n")
        expect(client.reply(), "552 554 550 421 452")
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
