"""The definition of a check: bring a session to a stage, send something, judge the replies."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from ._findings import Failed, Finding, Inconclusive, NotApplicable, Outcome, Severity
from ._raw_client import NoReply, RawClient, RawReply, ServerClosed, Target


class Stage(IntEnum):
    """The stage that a session has reached when a check begins."""

    CONNECTED = auto()
    """The server has sent its greeting."""
    READY = auto()
    """The server has accepted EHLO, and STARTTLS and AUTH if the target asks for them."""
    MAIL = auto()
    """The server has accepted a sender."""
    RCPT = auto()
    """The server has accepted the recipient."""
    DATA = auto()
    """The server has replied 354 and waits for a message."""


class Probe:
    """The tools of one check: connections at any stage, test messages, and judgements of replies."""

    def __init__(self, target: Target, id: str) -> None:
        self.target = target
        self._id = id
        self._clients: list[RawClient] = []

    def close(self) -> None:
        """Close all connections of the check."""
        for client in self._clients:
            client.close()

    @property
    def sent(self) -> list[str]:
        """The lines sent after the stage was reached."""
        return [line for client in self._clients for line in client.sent]

    @property
    def seen(self) -> list[str]:
        """The replies received after the stage was reached."""
        return [line for client in self._clients for line in client.seen]

    # Stages

    def at(self, stage: Stage, *, params: str = "") -> RawClient:
        """Return a new connection at `stage`; `params` are added to MAIL. Raise `Inconclusive` if that fails."""
        client = RawClient(self.target)
        self._clients.append(client)
        try:
            self._prepare(client, stage, params)
        except NoReply as exc:
            raise Inconclusive(f"{client.sent[-1] if client.sent else 'the connection'}: {exc}") from exc

        client.clear_record()
        return client

    def _prepare(self, client: RawClient, stage: Stage, params: str) -> None:
        _demand(client.reply(), 220, "the connection")
        if stage >= Stage.READY:
            self._say_hello(client)
        if stage >= Stage.MAIL:
            _demand(client.ask(f"{self.mail}{params}"), 250, "MAIL")
        if stage >= Stage.RCPT:
            _demand(client.ask(self.rcpt), 250, "RCPT")
        if stage >= Stage.DATA:
            _demand(client.ask("DATA"), 354, "DATA")

    def _say_hello(self, client: RawClient) -> None:
        _demand(client.greet(), 250, self.target.hello)
        if self.target.tls == "starttls":
            _demand(client.ask("STARTTLS"), 220, "STARTTLS")
            client.start_tls()
            _demand(client.greet(), 250, self.target.hello)
        if self.target.user:
            line = b"AUTH PLAIN " + self.target.credentials
            _demand(client.ask(line, shown_as="AUTH PLAIN ***"), 235, "AUTH PLAIN")

    # Commands and messages

    @property
    def mail(self) -> str:
        """A MAIL command with the target's sender."""
        return f"MAIL FROM:<{self.target.sender}>"

    @property
    def rcpt(self) -> str:
        """A RCPT command with the target's recipient."""
        return f"RCPT TO:<{self.target.recipient}>"

    @property
    def header(self) -> bytes:
        """The header of a test message."""
        return (
            f"From: <{self.target.sender}>\r\nTo: <{self.target.recipient}>\r\n"
            f"Subject: smtpcore check: {self._id}\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
            f"Message-ID: <{self._id}.{id(self):x}@smtpcore-check.example>\r\n\r\n"
        ).encode()

    def message(self, body: bytes = b"A test message.\r\n", *, size: int | None = None) -> bytes:
        """Return a test message, padded with lines of text to `size` octets."""
        message = self.header + body
        if size is None:
            return message

        lines, rest = divmod(size - len(message), 72)
        # The last line needs at least two octets for its CR LF.
        filling = b"x" * 70 + b"\r\n"
        last = b"x" * (rest - 2) + b"\r\n" if rest >= 2 else b"x" * (72 + rest - 2) + b"\r\n"
        return message + filling * (lines - (rest < 2)) + last

    # Judgements

    def need(self, client: RawClient, keyword: str) -> str:
        """Return the arguments of the extension `keyword`. Raise `NotApplicable` if the server does not offer it."""
        if keyword not in client.offered:
            raise NotApplicable(f"{keyword} is not offered")

        return client.offered[keyword]

    def expect_alone(self, client: RawClient, codes: str) -> None:
        """Raise `Failed` unless the server sends exactly one reply, or closes the connection without a reply."""
        try:
            expect(client.reply(), codes)
        except ServerClosed:
            return

        expect_nothing_more(client)


def _demand(seen: RawReply, code: int, line: str) -> None:
    if seen.code != code:
        raise Inconclusive(f"the reply to {line} was: {seen}")


def matches(code: int, codes: str) -> bool:
    """Return whether `code` is among `codes`: words like `250`, or like `5yz` for a whole class."""
    return any(str(code) == word or (word.endswith("yz") and str(code)[0] == word[0]) for word in codes.split())


def expect(seen: RawReply, codes: str) -> RawReply:
    """Return the reply if its code is among `codes`, else raise `Failed`."""
    if not matches(seen.code, codes):
        raise Failed(f"the reply was: {seen}")

    return seen


def expect_nothing_more(client: RawClient) -> None:
    """Send QUIT, and raise `Failed` if another reply precedes the reply to QUIT."""
    # A 421 is not the reply to a command, so the server may send it at any time (RFC 5321 3.8).
    surplus = [seen for seen in client.replies_before_goodbye() if seen.code not in (421, 521)]
    if surplus:
        raise Failed(f"the server sent {len(surplus)} unexpected replies: {'; '.join(map(str, surplus))}")


class CannotCheck(Exception):
    """No session with the server can be opened; the text gives the reason."""


def reach(target: Target) -> None:
    """Open a session with `target` as every check does. Raise `CannotCheck` if that fails."""
    probe = Probe(target, "reach")
    try:
        probe.at(Stage.READY)
    except (Inconclusive, OSError) as exc:
        raise CannotCheck(f"{target.host} port {target.port}: {exc}") from exc
    finally:
        probe.close()


# Checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a server's behaviour."""

    id: str
    """The id, for example `tls-twice`; the part before the hyphen is the group."""
    title: str
    """The correct behaviour of a server."""
    severity: Severity
    """The severity of a failure."""
    section: str
    """The section of the RFC that requires the behaviour."""
    expected: str
    """The expected replies."""
    probe: Callable[[Probe], None]
    """The code of the check. If the check does not pass, it raises `Failed`, `NotApplicable` or `Inconclusive`."""
    lmtp: bool | None = None
    """True for a check of LMTP only, False for SMTP only; None (the default) for both."""

    def run(self, target: Target) -> Finding:
        """Run the check against `target`."""
        probe = Probe(target, self.id)
        outcome, note = Outcome.PASS, ""
        try:
            if self.lmtp not in (None, target.lmtp):
                raise NotApplicable(f"this check is for {'LMTP' if self.lmtp else 'SMTP'}")

            self.probe(probe)
        except (Failed, NoReply) as exc:
            outcome, note = Outcome.FAIL, str(exc)
        except NotApplicable as exc:
            outcome, note = Outcome.NOT_APPLICABLE, str(exc)
        except (Inconclusive, OSError) as exc:
            outcome, note = Outcome.INCONCLUSIVE, str(exc)
        finally:
            probe.close()

        return Finding(
            id=self.id,
            title=self.title,
            severity=self.severity,
            section=self.section,
            outcome=outcome,
            expected=self.expected,
            sent="\n".join(probe.sent),
            seen="\n".join(probe.seen),
            note=note,
        )


def answered(
    id: str,
    title: str,
    section: str,
    line: str | bytes,
    codes: str,
    *,
    at: Stage = Stage.READY,
    severity: Severity = Severity.FAULT,
    needs: str = "",
    lmtp: bool | None = None,
    refused: str = "",
) -> Check:
    """Return a check of the reply to `line`: its code must be among `codes`, and not among `refused`.

    `line` may have the placeholders that `dialogue` describes. `needs` is the keyword of an extension that the server
    must offer.
    """
    expected = " or ".join(codes.split()) + (f", but not {' or '.join(refused.split())}" if refused else "")

    def probe(given: Probe) -> None:
        seen = _run_steps(given, at, needs, ((line, codes),))
        if refused and matches(seen.code, refused):
            raise Failed(f"the reply was: {seen}")

    return Check(id=id, title=title, severity=severity, section=section, expected=expected, probe=probe, lmtp=lmtp)


def dialogue(
    id: str,
    title: str,
    section: str,
    *steps: tuple[str, str],
    at: Stage = Stage.READY,
    needs: str = "",
) -> Check:
    """Return a check of several lines, each with the codes that its reply may have.

    A line may contain `{sender}`, `{recipient}` and `{domain}` (of the recipient), and the octets of a chunk after a
    BDAT command. `needs` is the keyword of an extension that the server must offer.
    """
    expected = ", then ".join(f"{' or '.join(codes.split())} to {line.partition(' ')[0]}" for line, codes in steps)

    def probe(given: Probe) -> None:
        _run_steps(given, at, needs, steps)

    return Check(id=id, title=title, severity=Severity.FAULT, section=section, expected=expected, probe=probe)


def _run_steps(probe: Probe, at: Stage, needs: str, steps: Iterable[tuple[str | bytes, str]]) -> RawReply:
    client = probe.at(at)
    if needs:
        probe.need(client, needs)

    seen: list[RawReply] = []
    for line, codes in steps:
        octets = line if isinstance(line, bytes) else _fill_in(line, probe.target).encode()
        seen.append(expect(client.ask(octets), codes))

    return seen[-1]


def _fill_in(line: str, target: Target) -> str:
    domain = target.recipient.rpartition("@")[2]
    for name, value in (("{sender}", target.sender), ("{recipient}", target.recipient), ("{domain}", domain)):
        line = line.replace(name, value)

    return line


def one_reply(
    id: str,
    title: str,
    section: str,
    segments: Sequence[bytes],
    codes: str,
    *,
    at: Stage = Stage.DATA,
    severity: Severity = Severity.SECURITY,
    needs: str = "",
    lmtp: bool | None = None,
) -> Check:
    """Return a check that `segments` get exactly one reply, with one of `codes`.

    At `Stage.DATA` a message header is sent before the first segment.
    """

    def probe(given: Probe) -> None:
        client = given.at(at)
        if needs:
            given.need(client, needs)

        first, *others = segments
        client.send((given.header if at is Stage.DATA else b"") + first)
        try:
            for segment in others:
                client.pause()
                client.send(segment)
        except ServerClosed:
            return  # a server that closed the connection parses no further command

        given.expect_alone(client, codes)

    expected = f"{' or '.join(codes.split())}, and no other reply"
    return Check(id=id, title=title, severity=severity, section=section, expected=expected, probe=probe, lmtp=lmtp)


def check(
    id: str, title: str, section: str, expected: str, *, severity: Severity = Severity.FAULT, lmtp: bool | None = None
) -> Callable[[Callable[[Probe], None]], Check]:
    """Return a decorator that turns a function into a check."""

    def make(probe: Callable[[Probe], None]) -> Check:
        return Check(id=id, title=title, severity=severity, section=section, expected=expected, probe=probe, lmtp=lmtp)

    return make
