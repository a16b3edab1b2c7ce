"""The definition of a check: bring a session to a stage, send something, judge the replies."""

# A check fails only because of the step that it tests. All earlier steps are preparation: if an earlier step fails, the
# check is inconclusive. A server may refuse even the tested step for a reason of its own, for example because it does
# not accept the sender. So a refusal counts as a failure only if
#
# - it is final, and neither its code nor its enhanced status code reports a policy (`_is_policy`), and
# - the plain form of the same command is accepted in a new session: the control. Example: the control for a MAIL
#   command with a parameter is a MAIL command without it.

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TypedDict

from ._findings import Failed, Finding, Inconclusive, NotApplicable, Objected, Outcome, Severity
from ._raw_client import NoReply, RawClient, RawReply, ServerClosed, Target, printable


class Stage(IntEnum):
    """The stage that a session has reached when a check begins."""

    GREETED = auto()
    """The server has sent its greeting. STARTTLS was not sent, even if the target asks for it."""
    CONNECTED = auto()
    """The server has sent its greeting, and TLS has begun if the target asks for it. The next command is EHLO."""
    READY = auto()
    """The server has accepted EHLO, and AUTH if the target asks for it."""
    MAIL = auto()
    """The server has accepted a sender."""
    RCPT = auto()
    """The server has accepted the recipient."""
    DATA = auto()
    """The server has replied 354 and waits for a message."""
    SENT = auto()
    """The server has accepted a message."""


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
        with preparing(client):
            self._prepare(client, stage, params)

        client.clear_record()
        return client

    def _prepare(self, client: RawClient, stage: Stage, params: str) -> None:
        _demand(client.reply(), "220", "the connection")
        if stage >= Stage.CONNECTED and self.target.tls == "starttls":
            _demand(client.greet(), "250", self.target.hello)
            _demand(client.ask("STARTTLS"), "220", "STARTTLS")
            client.start_tls()
        if stage >= Stage.READY:
            self._say_hello(client)
        if stage >= Stage.MAIL:
            _demand(client.ask(f"{self.mail}{params}"), "250", "MAIL")
        if stage >= Stage.RCPT:
            _demand(client.ask(self.rcpt), "2yz", "RCPT")
        if stage >= Stage.DATA:
            _demand(client.ask("DATA"), "354", "DATA")
        if stage >= Stage.SENT:
            client.send(self.message() + b".\r\n")
            _demand(client.reply(), "2yz", "the message")

    def _say_hello(self, client: RawClient) -> None:
        _demand(client.greet(), "250", self.target.hello)
        if self.target.user:
            line = b"AUTH PLAIN " + self.target.credentials
            _demand(client.ask(line, shown_as="AUTH PLAIN ***"), "235", "AUTH PLAIN")

    def prepare(self, client: RawClient, line: str | bytes, codes: str) -> RawReply:
        """Send a line before the tested step, and return its reply.

        Raise `Inconclusive` unless the code is among `codes`.
        """
        name = printable(line if isinstance(line, bytes) else line.encode()).partition(" ")[0]
        with preparing(client):
            seen = client.ask(line)
            _demand(seen, codes, name)
            return seen

    def prepare_hello(self, client: RawClient, verb: str | None = None) -> None:
        """Send EHLO, LHLO or `verb` before the tested step. Raise `Inconclusive` unless it is accepted."""
        with preparing(client):
            _demand(client.greet(verb), "250", verb or self.target.hello)

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
        """Raise `Failed` unless the server sends one reply with a code in `codes`, or closes without a reply."""
        try:
            seen = client.reply()
        except ServerClosed:
            return

        expect_nothing_more(client)
        expect(seen, codes)


@contextmanager
def preparing(client: RawClient) -> Iterator[None]:
    """Raise `Inconclusive` in place of `NoReply`, because the steps in the block are not what the check tests."""
    try:
        yield
    except NoReply as exc:
        raise Inconclusive(f"{client.sent[-1] if client.sent else 'the connection'}: {exc}") from exc


def _demand(seen: RawReply, codes: str, line: str) -> None:
    if seen.code == 421 or not matches(seen.code, codes):
        raise Inconclusive(f"the reply to {line} was: {seen}")


def matches(code: int, codes: str) -> bool:
    """Return whether `code` is among `codes`: words like `250`, or like `5yz` for a whole class."""
    return any(str(code) == word or (word.endswith("yz") and str(code)[0] == word[0]) for word in codes.split())


def expect(seen: RawReply, codes: str, *, objections: str = "5yz") -> RawReply:
    """Return the reply if its code is among `codes`.

    `objections` are the codes of refusals that may be failures; any other refusal is inconclusive.

    Raises:
        Inconclusive: the refusal is temporary, is due to a policy, or has a code that is not among `objections`.
        Objected: the command was refused, for a reason other than a policy.
        Failed: the command was accepted with another code, or should have been refused.
    """
    if matches(seen.code, codes) and (seen.code not in _PRECONDITIONS or str(seen.code) in codes.split()):
        return seen
    if _is_policy(seen) or (seen.code // 100 == 5 and not matches(seen.code, objections)):
        raise Inconclusive(f"the server refused for a reason of its own: {seen}")

    raise (Objected if seen.code // 100 == 5 else Failed)(f"the reply was: {seen}")


def _is_policy(seen: RawReply) -> bool:
    """Return whether a refusal is temporary, or reports a policy of the server instead of a mistake in the command."""
    if seen.code // 100 == 4 or seen.code in (*_PRECONDITIONS, _NO_MAIL):
        return True

    status = seen.status
    is_about_policy = status is not None and (status[0] in _POLICY_SUBJECTS or status in _SENDER_DOMAINS)
    return seen.code // 100 == 5 and is_about_policy and status not in _TOO_LARGE


_PRECONDITIONS = (530, 534, 538)
"""Codes of servers that require TLS, a login, or another mechanism first (RFC 3207 and 4954)."""
_NO_MAIL = 521  # RFC 7504 section 3
# RFC 3463: the subject of an enhanced status code.
_POLICY_SUBJECTS = (2, 3, 4, 7)  # they mean: mailbox, system, network, security or policy
_SENDER_DOMAINS = ((1, 8), (1, 10))
_TOO_LARGE = ((2, 3), (3, 4))
SYNTAX_ERRORS = "500 501 502 503 504 555"
"""Codes for a malformed, unknown or misplaced command. Other codes, such as 550, may refuse a mailbox or a client."""


def expect_nothing_more(client: RawClient) -> None:
    """Send QUIT, and raise `Failed` if another reply precedes the reply to QUIT."""
    # A 421 is not the reply to a command, so the server may send it at any time (RFC 5321 3.8).
    surplus = [seen for seen in client.replies_before_goodbye() if seen.code not in (421, 521)]
    if surplus:
        raise Failed(f"the server sent {len(surplus)} unexpected replies: {'; '.join(map(str, surplus))}")


class CannotCheck(Exception):
    """No session with the server can be opened; the text gives the reason."""


class ServerLost(CannotCheck):
    """No session with the server can be opened any more, although earlier checks could open one."""


def reach(target: Target) -> None:
    """Open a session with `target` as every check does. Raise `CannotCheck` if that fails."""
    probe = Probe(target, "reach")
    try:
        probe.at(Stage.READY)
    except (Inconclusive, OSError) as exc:
        raise CannotCheck(f"{target.host} port {target.port}: {exc}") from exc
    finally:
        probe.close()


def expect_alive(target: Target, check: "Check") -> None:
    """Raise `ServerLost` if the server greets no more client within the timeout. `check` is the last check.

    A reply such as 421 is enough: a busy server is alive.
    """
    end = time.monotonic() + target.timeout
    while True:
        try:
            reach(target)
        except CannotCheck as exc:
            cause = exc.__cause__
            if isinstance(cause, Inconclusive) and not isinstance(cause.__cause__, NoReply):
                return
            if time.monotonic() >= end:
                raise ServerLost(f"{exc}; the last check was {check.id}") from exc
            time.sleep(_PAUSE)
        else:
            return


_PAUSE = 0.2  # seconds between two attempts to reach a server that may be starting again


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
    control: Stage = Stage.READY
    """The stage that the control, a session with plain commands, must reach; otherwise a refusal is inconclusive."""
    plain: tuple[str, ...] = ()
    """Further commands of the control, each to be accepted, or refused as unknown; empty by default."""

    def run(self, target: Target) -> Finding:
        """Run the check against `target`."""
        probe = Probe(target, self.id)
        outcome, note = Outcome.PASS, ""
        try:
            if self.lmtp not in (None, target.lmtp):
                raise NotApplicable(f"this check is for {'LMTP' if self.lmtp else 'SMTP'}")

            self.probe(probe)
        except (Objected, NoReply) as exc:
            objection = self._objection_of_control(target)
            outcome = Outcome.INCONCLUSIVE if objection else Outcome.FAIL
            note = f"{exc}; {objection}" if objection else str(exc)
        except Failed as exc:
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

    def _objection_of_control(self, target: Target) -> str:
        """Return the reason why the server refuses plain commands too; empty if the server accepts plain commands."""
        probe = Probe(target, "control")
        try:
            client = probe.at(self.control)
            for line in self.plain:
                # Every server must implement these commands (RFC 5321 4.5.1), so a 500 or 502 is not a policy.
                probe.prepare(client, line, "2yz 500 502")
        except (Inconclusive, OSError) as exc:
            return f"the plain form fails too: {exc}"
        finally:
            probe.close()

        return ""


class _Control(TypedDict):
    control: Stage
    plain: tuple[str, ...]


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
    objections: str = "5yz",
) -> Check:
    """Return a check of the reply to `line`: its code must be among `codes`, and not among `refused`.

    `line` may have the placeholders that `dialogue` describes. `needs` is the keyword of an extension that the server
    must offer. `objections` are the codes of refusals that may be failures.
    """
    expected = " or ".join(codes.split()) + (f", but not {' or '.join(refused.split())}" if refused else "")

    def probe(given: Probe) -> None:
        seen = _run_steps(given, at, needs, ((line, codes),), 0, objections)
        if refused and matches(seen.code, refused):
            expect(seen, "2yz")

    return Check(
        id=id,
        title=title,
        severity=severity,
        section=section,
        expected=expected,
        probe=probe,
        lmtp=lmtp,
        **_control_of(at, line),
    )


def _control_of(at: Stage, *lines: str | bytes) -> _Control:
    # The plain form of a command: the same verb without parameters, in the usual letter case and place.
    verbs = [(line if isinstance(line, str) else line.decode("latin-1"))[:4].upper() for line in lines]
    stage = max([at, Stage.READY, *(_STAGES[verb] for verb in verbs if verb in _STAGES)])
    return {"control": stage, "plain": tuple(verbs[:1]) if verbs[0] in ("NOOP", "RSET") else ()}


_STAGES = {"MAIL": Stage.MAIL, "RCPT": Stage.RCPT}


def dialogue(
    id: str,
    title: str,
    section: str,
    *steps: tuple[str, str],
    at: Stage = Stage.READY,
    needs: str = "",
    preparing: int = 0,
) -> Check:
    """Return a check of several lines, each with the codes that its reply may have.

    A line may contain `{helo}`, `{sender}`, `{recipient}`, `{sender_domain}` and `{domain}` (of the recipient), and the
    octets of a chunk after a BDAT command. `needs` is the keyword of an extension that the server must offer. The first
    `preparing` lines are preparation, and are not tested.
    """
    expected = ", then ".join(f"{' or '.join(codes.split())} to {line.partition(' ')[0]}" for line, codes in steps)

    def probe(given: Probe) -> None:
        _run_steps(given, at, needs, steps, preparing)

    return Check(
        id=id,
        title=title,
        severity=Severity.FAULT,
        section=section,
        expected=expected,
        probe=probe,
        **_control_of(at, *(line for line, _ in steps)),
    )


def _run_steps(
    probe: Probe,
    at: Stage,
    needs: str,
    steps: Iterable[tuple[str | bytes, str]],
    preparing: int,
    objections: str = "5yz",
) -> RawReply:
    client = probe.at(at)
    if needs:
        probe.need(client, needs)

    seen: list[RawReply] = []
    for line, codes in steps:
        octets = line if isinstance(line, bytes) else _fill_in(line, probe.target, client.helo).encode()
        if len(seen) < preparing:
            seen.append(probe.prepare(client, octets, codes))
        else:
            seen.append(expect(client.ask(octets), codes, objections=objections))

    return seen[-1]


def _fill_in(line: str, target: Target, helo: str) -> str:
    values = {
        "{helo}": helo,
        "{sender}": target.sender,
        "{recipient}": target.recipient,
        "{sender_domain}": target.sender.rpartition("@")[2],
        "{domain}": target.recipient.rpartition("@")[2],
    }
    for name, value in values.items():
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

    return Check(
        id=id,
        title=title,
        severity=severity,
        section=section,
        expected=f"{' or '.join(codes.split())}, and no other reply",
        probe=probe,
        lmtp=lmtp,
        control=Stage.SENT if at is Stage.DATA else at,
    )


def check(
    id: str,
    title: str,
    section: str,
    expected: str,
    *,
    severity: Severity = Severity.FAULT,
    lmtp: bool | None = None,
    control: Stage = Stage.READY,
    plain: tuple[str, ...] = (),
) -> Callable[[Callable[[Probe], None]], Check]:
    """Return a decorator that turns a function into a check."""

    def make(probe: Callable[[Probe], None]) -> Check:
        return Check(
            id=id,
            title=title,
            severity=severity,
            section=section,
            expected=expected,
            probe=probe,
            lmtp=lmtp,
            control=control,
            plain=plain,
        )

    return make
