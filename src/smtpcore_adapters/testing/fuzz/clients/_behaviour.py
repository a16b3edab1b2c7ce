"""Behaviours of a server that tests clients: small values that can be drawn, reduced, saved and played."""

# A behaviour is a correct server plus changes. Each `Answer` replaces the reply to one command, so an answer can be
# left out without a change of the other replies. Example: Answer("RCPT", b"550 No\r\n", number=2) refuses the second
# recipient of each connection, and accepts the others.

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ....check.clients import Script, Sent, Visit
from ....check.clients._connections import endless
from ....check.clients._visit import closing, code_of

MECHANISMS = ("PLAIN", "LOGIN")
"""The mechanisms of AUTH that a correct server offers."""
_MAX_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5, CRLF included
_NOT_TLS = b"250 2.0.0 This is no handshake of TLS\r\n"

_match_reply = re.compile(rb"(?P<code>[2-5][0-5][0-9])(?:-[\t -~]*\r\n(?P=code))*(?: [\t -~]*)?\r\n").match


class Then(Enum):
    """The behaviour after a reply."""

    CONTINUE = "continue"
    """The session continues."""
    CLOSE = "close"
    """The server closes the connection."""
    LINES = "lines"
    """The reply is never complete: lines follow without end."""
    LINE = "line"
    """The reply is never complete: its last line has no end."""
    GARBAGE = "garbage"
    """Plaintext in place of a handshake of TLS, and the end of the connection."""


def code_of_reply(octets: bytes) -> int:
    """Return the code of `octets` if they are exactly one well-formed reply, else 0 (RFC 5321 4.2)."""
    match = _match_reply(octets)
    is_legal = match and match.end() == len(octets) and max(map(len, octets.split(b"\r\n"))) < _MAX_REPLY_LINE - 1
    return int(match["code"]) if match and is_legal else 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to one command, in place of the ordinary reply."""

    key: str
    """The verb of the command, `GREETING`, `CHALLENGE` for a challenge of AUTH, or `END` for the end of a body.

    `EHLO` stands for LHLO too.
    """
    reply: bytes | None = None
    """The octets; None (the default) for the ordinary reply, empty for no reply before the end of the connection."""
    number: int = 0
    """The number of the reply with this key in the connection, from 1; 0 (the default) for each of them."""
    delay: float = 0.0
    """Maximum seconds to wait for octets that the client sends too early. Default: 0."""
    then: Then = Then.CONTINUE
    """The behaviour after the reply. Default: the session continues."""

    @property
    def code(self) -> int:
        """The code of the reply; 0 if it is malformed or more than one reply."""
        return code_of_reply(self.reply or b"")

    @property
    def is_harmless(self) -> bool:
        """Whether a correct client delivers its message nevertheless."""
        if self.then is Then.CLOSE:
            return self.key == "QUIT" or (self.key == "END" and self.reply is not None and self.code // 100 == 2)
        if self.then is not Then.CONTINUE:
            return False

        return self.reply is None or self.key == "QUIT" or self.code in _HARMLESS.get(self.key, range(200, 300))

    def play(self, visit: Visit) -> None:
        """Send the reply, and do what follows it."""
        visit.notice(self.delay)
        ordinary = visit.ordinary if isinstance(visit.ordinary, bytes) else b""
        reply = ordinary if self.reply is None else self.reply
        match self.then:
            case Then.CLOSE:
                closing(reply)(visit)
            case Then.LINES:
                endless(b"250-check.example\r\n", b"250-XENDLESS\r\n" * 4096)(visit)
            case Then.LINE:
                endless(b"250-check.example ", b"x" * 57_344)(visit)
            case Then.GARBAGE:
                visit.reply(reply or b"220 2.0.0 Go ahead\r\n")
                visit.transmit(_NOT_TLS)
                visit.end("the server closed the connection")
            case _ if self.reply is None:
                visit.play(visit.ordinary)
            case _:
                visit.reply(self.reply)
                if self.key == "STARTTLS" and code_of(self.reply) == _READY:
                    visit.start_tls()


_READY = 220
_HARMLESS = {"GREETING": (220,), "EHLO": (), "DATA": (354,), "STARTTLS": (220,), "AUTH": (235,), "CHALLENGE": ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The behaviour of the server in one run of a client. The default is a correct server without extensions."""

    offers: tuple[str, ...] = ()
    """The lines of the reply to EHLO after its first line, except STARTTLS and AUTH."""
    secure_offers: tuple[str, ...] | None = None
    """The same under TLS; None (the default) for the same lines."""
    starttls: Literal["as set", "always", "never"] = "as set"
    """When STARTTLS is offered: `as set` (the default) means only to a client that is set up to require STARTTLS."""
    mechanisms: tuple[str, ...] = ()
    """The mechanisms of AUTH; empty (the default) for no AUTH."""
    offers_auth_in_plaintext: bool = False
    """Whether AUTH is offered before TLS to a client that uses TLS. Default: false."""
    certificate: Literal["valid", "unknown authority", "wrong name"] = "valid"
    """The certificate of the server. Default: valid."""
    segment_size: int = 0
    """The octets of each segment in which replies are sent; 0 (the default) for one segment."""
    answers: tuple[Answer, ...] = ()
    """The replies that differ from those of a correct server. Default: none."""

    def script(self) -> Script:
        """Return the script of a connection."""
        keys = dict.fromkeys(answer.key for answer in self.answers)
        answers: dict[str, bytes | Callable[[Visit], None]] = {
            key: _choosing([answer for answer in self.answers if answer.key == key]) for key in keys
        }
        return Script(
            offers=self.offers,
            secure_offers=self.secure_offers,
            starttls=self.starttls,
            mechanisms=self.mechanisms,
            offers_auth_in_plaintext=self.offers_auth_in_plaintext,
            certificate=self.certificate,
            segment_size=self.segment_size,
            answers=answers,
        )

    @property
    def keywords(self) -> frozenset[str]:
        """The keywords that the server offers, in upper case."""
        lines = self.offers if self.secure_offers is None else (set(self.offers) & set(self.secure_offers))
        words = {line.split()[0].upper() for line in lines if line.split()}
        return frozenset(words | ({"AUTH"} if self.mechanisms else set()))


def _choosing(answers: list[Answer]) -> Callable[[Visit], None]:
    def answer(visit: Visit) -> None:
        number = 1 + sum(isinstance(entry, Sent) and entry.key == visit.key for entry in visit.log)
        for each in answers:
            if each.number in (0, number):
                each.play(visit)
                return

        visit.play(visit.ordinary)

    return answer
