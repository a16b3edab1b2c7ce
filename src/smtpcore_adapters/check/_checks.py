"""Bring a server to the point where something can be checked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from ._findings import Failed, Finding, Inconclusive, NotApplicable, Outcome, Severity
from ._raw_client import HungUp, NoReply, Seen, Target, Wire


class Stage(IntEnum):
    """How far a session has come."""

    CONNECTED = auto()
    """The server has greeted."""
    READY = auto()
    """It knows who the client is: EHLO, and TLS and AUTH where they are wanted."""
    MAIL = auto()
    """It has accepted a sender."""
    RCPT = auto()
    """It has accepted the recipient."""
    DATA = auto()
    """It awaits a message."""


class Probe:
    """What a check has in its hands: connections to the server that come to any stage, and judgements."""

    def __init__(self, target: Target, id: str) -> None:
        self.target = target
        self._id = id
        self._wires: list[Wire] = []

    def close(self) -> None:
        """Close every connection."""
        for wire in self._wires:
            wire.close()

    @property
    def sent(self) -> list[str]:
        """What was sent behind the stages."""
        return [line for wire in self._wires for line in wire.sent]

    @property
    def seen(self) -> list[str]:
        """What was answered behind the stages."""
        return [line for wire in self._wires for line in wire.seen]

    # Stages

    def at(self, stage: Stage, *, params: str = "") -> Wire:
        """A new connection that has come to `stage`, MAIL with `params`. Raises `Inconclusive`."""
        wire = Wire(self.target)
        self._wires.append(wire)
        try:
            self._prepare(wire, stage, params)
        except NoReply as exc:
            raise Inconclusive(f"{wire.sent[-1] if wire.sent else 'the connection'}: {exc}") from exc

        wire.forget()
        return wire

    def _prepare(self, wire: Wire, stage: Stage, params: str) -> None:
        _demand(wire.reply(), 220, "the connection")
        if stage >= Stage.READY:
            self._introduce(wire)
        if stage >= Stage.MAIL:
            self.enter(wire, params=params, rcpt=stage >= Stage.RCPT)
        if stage >= Stage.DATA:
            _demand(wire.ask("DATA"), 354, "DATA")

    def _introduce(self, wire: Wire) -> None:
        _demand(wire.greet(), 250, self.target.hello)
        if self.target.tls == "starttls":
            _demand(wire.ask("STARTTLS"), 220, "STARTTLS")
            wire.start_tls()
            _demand(wire.greet(), 250, self.target.hello)
        if self.target.user:
            line = b"AUTH PLAIN " + self.target.credentials
            _demand(wire.ask(line, shown_as="AUTH PLAIN ***"), 235, "AUTH PLAIN")

    def enter(self, wire: Wire, *, params: str = "", rcpt: bool = True) -> None:
        """Begin a transaction. Raises `Inconclusive`, or `NoReply`."""
        _demand(wire.ask(f"{self.mail}{params}"), 250, "MAIL")
        if rcpt:
            _demand(wire.ask(self.rcpt), 250, "RCPT")

    # What is sent

    @property
    def mail(self) -> str:
        """A MAIL command."""
        return f"MAIL FROM:<{self.target.sender}>"

    @property
    def rcpt(self) -> str:
        """A RCPT command."""
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
        """A test message, which is filled up to `size` octets with lines of text."""
        message = self.header + body
        if size is None:
            return message

        lines, rest = divmod(size - len(message), 72)
        # A line has at least its CR LF.
        filling = b"x" * 70 + b"\r\n"
        last = b"x" * (rest - 2) + b"\r\n" if rest >= 2 else b"x" * (72 + rest - 2) + b"\r\n"
        return message + filling * (lines - (rest < 2)) + last

    # Judgements

    def need(self, wire: Wire, keyword: str) -> str:
        """The arguments of an extension. Raises `NotApplicable` if it is not offered."""
        if keyword not in wire.offered:
            raise NotApplicable(f"{keyword} is not offered")

        return wire.offered[keyword]

    def expect_alone(self, wire: Wire, codes: str) -> None:
        """Expect one reply and nothing behind it; closing the connection without one will do. Raises `Failed`."""
        try:
            expect(wire.reply(), codes)
        except HungUp:
            return

        expect_nothing_more(wire)


def _demand(seen: Seen, code: int, line: str) -> None:
    if seen.code != code:
        raise Inconclusive(f"{line} was answered {seen}")


def matches(code: int, codes: str) -> bool:
    """Whether `code` is among `codes`: words like `250`, or like `5yz` for a whole class."""
    return any(str(code) == word or (word.endswith("yz") and str(code)[0] == word[0]) for word in codes.split())


def expect(seen: Seen, codes: str) -> Seen:
    """Raise `Failed` if the reply has none of these codes."""
    if not matches(seen.code, codes):
        raise Failed(f"answered {seen}")

    return seen


def expect_nothing_more(wire: Wire) -> None:
    """Say QUIT, and raise `Failed` if there is any reply before the one to that."""
    surplus = wire.replies_before_goodbye()
    # A goodbye answers nothing, and so may come at any time (RFC 5321 3.8).
    surplus = [seen for seen in surplus if seen.code not in (421, 521)]
    if surplus:
        raise Failed(f"{len(surplus)} more replies came than were due: {'; '.join(map(str, surplus))}")


class CannotCheck(Exception):
    """There is no server to be checked; the text says what there is."""


def reach(target: Target) -> None:
    """Come as far as every check has to. Raises `CannotCheck`."""
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
    """Something that should be true of every server."""

    id: str
    """Its name."""
    title: str
    """What should be true."""
    severity: Severity
    """How bad it is where it is not."""
    section: str
    """Where that is written."""
    expected: str
    """What a server should answer."""
    probe: Callable[[Probe], None]
    """Raises `Failed`, `NotApplicable` or `Inconclusive` if it is not so, or cannot be told."""
    lmtp: bool | None = None
    """Whether it is for LMTP only, or for SMTP only; None for both."""

    def run(self, target: Target) -> Finding:
        """Check `target`."""
        probe = Probe(target, self.id)
        outcome, note = Outcome.PASS, ""
        try:
            if self.lmtp not in (None, target.lmtp):
                raise NotApplicable(f"this is for {'LMTP' if self.lmtp else 'SMTP'}")

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
    """A check that one line gets one of `codes`, and none of `refused`; see `dialogue`."""
    expected = " or ".join(codes.split()) + (f", but not {' or '.join(refused.split())}" if refused else "")

    def probe(given: Probe) -> None:
        seen = _say(given, at, needs, ((line, codes),))
        if refused and matches(seen.code, refused):
            raise Failed(f"answered {seen}")

    return Check(id=id, title=title, severity=severity, section=section, expected=expected, probe=probe, lmtp=lmtp)


def dialogue(
    id: str,
    title: str,
    section: str,
    *steps: tuple[str, str],
    at: Stage = Stage.READY,
    needs: str = "",
) -> Check:
    """A check that each line gets one of its codes.

    A line may name `{sender}`, `{recipient}`, and the `{domain}` of that; and it may go on with what is no line.
    `needs` is an extension.
    """
    expected = ", then ".join(f"{' or '.join(codes.split())} to {line.partition(' ')[0]}" for line, codes in steps)

    def probe(given: Probe) -> None:
        _say(given, at, needs, steps)

    return Check(id=id, title=title, severity=Severity.FAULT, section=section, expected=expected, probe=probe)


def _say(probe: Probe, at: Stage, needs: str, steps: Iterable[tuple[str | bytes, str]]) -> Seen:
    wire = probe.at(at)
    if needs:
        probe.need(wire, needs)

    seen: list[Seen] = []
    for line, codes in steps:
        octets = line if isinstance(line, bytes) else fill_in(line, probe.target).encode()
        seen.append(expect(wire.ask(octets), codes))

    return seen[-1]


def fill_in(line: str, target: Target) -> str:
    """`line` with what it names."""
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
    """A check that `segments`, behind a header at `Stage.DATA`, get one reply with one of `codes`, and no more."""

    def probe(given: Probe) -> None:
        wire = given.at(at)
        if needs:
            given.need(wire, needs)

        first, *others = segments
        wire.send((given.header if at is Stage.DATA else b"") + first)
        try:
            for segment in others:
                wire.pause()
                wire.send(segment)
        except HungUp:
            return  # who does not listen any more hears no command

        given.expect_alone(wire, codes)

    expected = f"{' or '.join(codes.split())}, and no other reply"
    return Check(id=id, title=title, severity=severity, section=section, expected=expected, probe=probe, lmtp=lmtp)


def check(
    id: str, title: str, section: str, expected: str, *, severity: Severity = Severity.FAULT, lmtp: bool | None = None
) -> Callable[[Callable[[Probe], None]], Check]:
    """Turn the function below into a check."""

    def make(probe: Callable[[Probe], None]) -> Check:
        return Check(id=id, title=title, severity=severity, section=section, expected=expected, probe=probe, lmtp=lmtp)

    return make
