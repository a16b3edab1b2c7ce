"""The state of a session as the server's own replies define it."""

# The model never predicts a policy: a server may refuse any command. It only follows what the server has accepted, and
# so knows which later acceptance contradicts the RFCs. Example: after a refused MAIL, an accepted RCPT is a violation.

from collections.abc import Sequence

from ..steps import BodyStep, ChunkStep, Step

_WITHOUT_EFFECT = ("RCPT", "NOOP", "HELP", "VRFY", "EXPN")  # RFC 5321 4.1.1.6 to 4.1.1.9


class SessionModel:
    """The progress of a session, updated with each step and the codes of its replies."""

    def __init__(self) -> None:
        self.offers: frozenset[str] = frozenset()
        """The keywords of the last accepted EHLO or LHLO."""
        self.recipients = 0
        """The number of recipients accepted for the current message."""
        self.messages: list[tuple[bytes, bool]] = []
        """The contents of accepted messages, each with whether it has to be delivered unchanged."""
        self.mechanisms: frozenset[str] = frozenset()
        """The mechanisms of AUTH that the last accepted EHLO or LHLO offered."""
        self.uses_tls = False
        """Whether the client has sent STARTTLS and the server has accepted."""
        self.is_authenticated = False
        """Whether a login has certainly succeeded."""
        self._has_sender = False
        self._is_certain = True
        self._chunks = b""
        self._cause = "the start of the session"
        self._mails: set[bytes] = set()
        """The lines of MAIL that were accepted."""
        self._is_undisturbed = False
        """Whether only commands without effect on the transaction have followed the accepted MAIL."""

    def observe(self, step: Step, codes: Sequence[int]) -> str:
        """Update the state, and return the violation of the sequence of commands, or an empty text."""
        if not codes:
            return ""

        breach = self._wrong_503(step) if codes[0] == 503 else ""
        self._is_undisturbed &= step.verb in _WITHOUT_EFFECT
        return breach or self._change(step, codes)

    def _wrong_503(self, step: Step) -> str:
        """Return the violation if 503, which means a bad sequence of commands, answers a command in sequence."""
        if step.verb in ("DATA", "BDAT") and self._is_undisturbed and self.recipients:
            return f"{step.verb} got 503, although MAIL and RCPT were accepted"
        # Some servers send 503 in place of 530 or 550, so the same command must have been accepted before.
        if step.verb == "MAIL" and self.in_transaction is False and step.pieces[0] in self._mails:
            return f"MAIL got 503 after {self._cause}, without an open transaction"

        return ""

    def _change(self, step: Step, codes: Sequence[int]) -> str:
        is_accepted = codes[-1] // 100 == 2
        match step.verb:
            case "HELO" if is_accepted:  # RFC 5321 4.1.4: HELO begins a session without extensions
                self._forget_offers()
                self._reset("an accepted HELO")
            case "EHLO" | "LHLO" | "RSET" if is_accepted:
                self._reset(f"an accepted {step.verb}")
            case "STARTTLS" if codes[-1] == 220:
                self.uses_tls = True
                self._begin_again("STARTTLS")
            case "XCLIENT" if is_accepted:
                breach = "XCLIENT was accepted in a transaction" if self.in_transaction else ""
                self._begin_again("XCLIENT")
                return breach
            case "AUTH":
                self.is_authenticated |= codes[-1] == 235
            case "MAIL" if is_accepted:
                self._reset("an accepted MAIL")
                self._has_sender = self._is_undisturbed = True
                self._mails.add(step.pieces[0])
            case "RCPT" if is_accepted:
                return self._accept_recipient()
            case _ if isinstance(step, BodyStep):
                return self._end_body(step, codes)
            case _ if isinstance(step, ChunkStep):
                return self._end_chunk(step, codes)
            case _:
                pass

        return ""

    @property
    def in_transaction(self) -> bool | None:
        """Whether a transaction is open; None after a refused chunk."""
        return self._has_sender if self._is_certain else None

    def take_offers(self, lines: Sequence[bytes]) -> None:
        """Remember the keywords in the lines of an accepted EHLO or LHLO, except the first line."""
        words = [line[4:].decode("latin-1").upper().split() for line in lines]
        self.offers = frozenset(found[0] for found in words if found)
        self.mechanisms = frozenset(word for found in words if found[:1] == ["AUTH"] for word in found[1:])

    def _forget_offers(self) -> None:
        self.offers = self.mechanisms = frozenset()

    def _begin_again(self, cause: str) -> None:
        """Forget what came before STARTTLS or XCLIENT: RFC 3207 4.2, Postfix XCLIENT_README."""
        self._forget_offers()
        self._mails.clear()
        self.is_authenticated = False
        self._reset(cause)

    def _reset(self, cause: str) -> None:
        self._has_sender, self.recipients, self._is_certain, self._chunks = False, 0, True, b""
        self._cause = cause

    def _accept_recipient(self) -> str:
        if self._is_certain and not self._has_sender:
            return f"RCPT was accepted after {self._cause}, without an accepted MAIL"

        self.recipients += 1
        return ""

    def _end_body(self, step: BodyStep, codes: Sequence[int]) -> str:
        if codes[0] != 354:
            return ""

        has_recipients = self.recipients > 0 or not self._is_certain
        cause = self._cause
        self._reset("the end of a message")
        if any(code // 100 == 2 for code in codes[1:]):
            self.messages.append((step.body, step.is_plain))
            if not has_recipients:
                return f"a message was accepted after {cause}, without an accepted RCPT"

        return ""

    def _end_chunk(self, step: ChunkStep, codes: Sequence[int]) -> str:
        if not any(code // 100 == 2 for code in codes):
            # RFC 3030 section 2 leaves open what the server keeps until RSET.
            self._is_certain = False
            return ""
        if self._is_certain and not self.recipients:
            return f"BDAT was accepted after {self._cause}, without an accepted RCPT"

        self._chunks += step.chunk
        if step.is_last:
            self.messages.append((self._chunks, BodyStep(self._chunks).is_plain))
            self._reset("the end of a message")

        return ""
