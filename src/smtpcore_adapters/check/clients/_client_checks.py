"""The definition of a check of a client: a script for the server, and a judgement of the visits of the client."""

# A check fails only because of the step that it tests. A client that does not reach this step is not judged: the check
# is inconclusive, or not applicable if the client does not use the feature at all. A client that is started for each
# check also reports success or failure, and the report has to match what the server replied to the message.

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .._findings import Failed, Finding, Inconclusive, NotApplicable, Outcome, Severity
from ._visit import Body, Line, Script, Sent, Visit, code_of

Tls = Literal["none", "starttls", "implicit"]
"""The use of TLS that the client is set up for: `starttls` and `implicit` mean that the client requires TLS."""


class Judged(Failed):
    """A failure with a severity other than that of the check."""

    def __init__(self, text: str, severity: Severity) -> None:
        super().__init__(text)
        self.severity = severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a client did during one check."""

    visits: Sequence[Visit]
    """The connections of the client, at least one."""
    tls: Tls
    """The use of TLS that the client is set up for."""
    reported: bool | None
    """Whether the client reported that the message was sent; None if the report is unknown."""
    has_delivered: bool
    """Whether the client delivered a message in this check or an earlier check."""

    @property
    def lines(self) -> Iterator[Line]:
        """The commands of all visits."""
        return (line for visit in self.visits for line in visit.lines)

    @property
    def bodies(self) -> list[Body]:
        """The bodies of all visits."""
        return [body for visit in self.visits for body in visit.bodies]

    @property
    def accepted(self) -> int:
        """The number of messages that the server accepted."""
        return sum(visit.accepted for visit in self.visits)

    @property
    def refused(self) -> set[str]:
        """The RCPT commands that the server refused, and did not accept later."""
        codes: dict[str, int] = {}
        for visit in self.visits:
            line: Line | None = None
            for entry in visit.log:
                if isinstance(entry, Line):
                    line = entry
                elif isinstance(entry, Sent) and entry.key == "RCPT" and line:
                    codes[line.text] = min(codes.get(line.text, _REFUSAL), code_of(entry.octets))

        return {text for text, code in codes.items() if code >= _REFUSAL}

    def of(self, *verbs: str) -> list[Line]:
        """Return the commands with these verbs."""
        return [line for line in self.lines if line.verb in verbs]

    def need(self, *verbs: str) -> list[Line]:
        """Return the commands with these verbs. Raise `Inconclusive` if the client sent none of them."""
        lines = self.of(*verbs)
        if not lines:
            raise Inconclusive(f"the client did not send {' or '.join(verbs)}: {self.visits[-1].ended}")

        return lines

    def need_body(self) -> list[Body]:
        """Return the bodies. Raise `Inconclusive` if the client sent none."""
        if not self.bodies:
            raise Inconclusive(f"the client did not send a message: {self.visits[-1].ended}")

        return self.bodies


_REFUSAL = 400
"""The lowest code of a refusal."""

Judge = Callable[[Case], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCheck:
    """One check of a client's behaviour."""

    id: str
    """The id, for example `tls-stripped`; the part before the hyphen is the group."""
    title: str
    """The correct behaviour of a client."""
    severity: Severity
    """The severity of a failure."""
    section: str
    """The section of the RFC that requires the behaviour."""
    expected: str
    """The expected behaviour in this check."""
    script: Script
    """The behaviour of the server."""
    judge: Judge
    """A function that raises `Failed`, `NotApplicable` or `Inconclusive` if the check does not pass."""
    delivers: bool = False
    """Whether a correct client delivers its message to this server; by default no."""
    needs: tuple[Tls, ...] = ("none", "starttls", "implicit")
    """The uses of TLS to which the check applies; by default all."""
    is_for_lmtp: bool = True
    """Whether the check applies to clients of LMTP, too; by default yes."""

    def judged(self, case: Case, *, sent: str, seen: str) -> Finding:
        """Return the finding for a case."""
        outcome, note, severity = Outcome.PASS, "", self.severity
        try:
            self.judge(case)
            if self.delivers:
                _expect_delivery(case)
            _expect_honest_report(case)
        except Judged as exc:
            outcome, note, severity = Outcome.FAIL, str(exc), exc.severity
        except Failed as exc:
            outcome, note = Outcome.FAIL, str(exc)
        except NotApplicable as exc:
            outcome, note = Outcome.NOT_APPLICABLE, str(exc)
        except Inconclusive as exc:
            outcome, note = Outcome.INCONCLUSIVE, str(exc)

        return self.finding(outcome, note, severity, sent=sent, seen=seen)

    def finding(
        self, outcome: Outcome, note: str, severity: Severity | None = None, *, sent: str = "", seen: str = ""
    ) -> Finding:
        """Return a finding of this check."""
        return Finding(
            id=self.id,
            title=self.title,
            severity=severity or self.severity,
            section=self.section,
            outcome=outcome,
            expected=self.expected,
            sent=sent,
            seen=seen,
            note=note,
        )


def _expect_delivery(case: Case) -> None:
    if case.accepted:
        return
    if not case.has_delivered:
        raise Inconclusive("the client has not yet delivered a message to any server of these checks")

    raise Failed(f"the client did not deliver its message: {case.visits[-1].ended}")


def _expect_honest_report(case: Case) -> None:
    if case.reported and not case.accepted:
        raise Judged("the client reported success, but no message was accepted", Severity.FAULT)
    if case.reported and case.refused:
        # A single result cannot say more, and no RFC defines it: swaks reports success if any recipient is accepted.
        raise Judged("the client reported success, but a recipient was refused", Severity.WARNING)
    if case.reported is False and case.accepted and not case.refused:
        raise Judged("the client reported a failure, but its message was accepted", Severity.WARNING)


def judge_nothing(case: Case) -> None:
    """Judge only the delivery and the report of the client, which `ClientCheck.judged` does for each check."""


def client_check(
    id: str,
    title: str,
    section: str,
    expected: str,
    script: Script,
    judge: Judge = judge_nothing,
    *,
    severity: Severity = Severity.FAULT,
    delivers: bool = False,
    needs: tuple[Tls, ...] = ("none", "starttls", "implicit"),
    is_for_lmtp: bool = True,
) -> ClientCheck:
    """Return a check of a client."""
    return ClientCheck(
        id=id,
        title=title,
        severity=severity,
        section=section,
        expected=expected,
        script=script,
        judge=judge,
        delivers=delivers,
        needs=needs,
        is_for_lmtp=is_for_lmtp,
    )
