"""Generate behaviours: first a list that finds much, then behaviours drawn by Hypothesis."""

# All draws are made before the client is started, because Hypothesis requires that draws do not depend on I/O.

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ....check.clients import Tls
from ._behaviour import MECHANISMS, Answer, Behaviour, Then

_WITHOUT_GROUPS = ("SIZE 67108864", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
STANDARD = Behaviour(offers=("PIPELINING", *_WITHOUT_GROUPS), mechanisms=MECHANISMS)
"""A server with the common extensions."""
_CHUNKING = replace(STANDARD, offers=(*STANDARD.offers, "CHUNKING"))
_SINGLE = replace(STANDARD, offers=_WITHOUT_GROUPS)
_BARE = Behaviour()
_WITH_LOGIN = Behaviour(mechanisms=MECHANISMS)

_DELAY = 0.05
"""Seconds to wait for octets that a client sends too early."""

_ODD_OFFERS = ("XUNKNOWN a=b, (c) <d>", "X-" + "LONG" * 100, "AUTH=PLAIN", "XLAST  two  spaces ", "HELP", "size")
_OFFERS = (*_CHUNKING.offers, "DSN", "SIZE", "SIZE 0", "pipelining", "VRFY", *_ODD_OFFERS)
_TEXTS = (b"OK", b"", b"2.0.0 OK", b"check.example at your service", b"550 is no code here", b"x" * 490, b" =<>&")
_POSITIVE = {
    "GREETING": b"220",
    "STARTTLS": b"220",
    "AUTH": b"235",
    "CHALLENGE": b"334",
    "DATA": b"354",
    "QUIT": b"221",
}
_REFUSALS = {
    "GREETING": (b"421 4.3.2 Busy\r\n", b"554 No SMTP service here\r\n"),
    "EHLO": (b"550 5.7.1 Go away\r\n", b"502 5.5.1 What is EHLO?\r\n"),
    "HELO": (b"550 5.7.1 Go away\r\n",),
    "STARTTLS": (b"454 4.7.0 TLS is not available\r\n", b"501 5.5.4 No\r\n"),
    "AUTH": (b"535 5.7.8 Wrong password\r\n", b"454 4.7.0 Try later\r\n"),
    "CHALLENGE": (b"535 5.7.8 Wrong password\r\n", b"504 5.5.4 Unknown mechanism\r\n", b"334 ***\r\n"),
    "MAIL": (b"550 5.7.1 Not from you\r\n", b"451 4.7.1 Try later\r\n", b"530 5.7.0 Log in first\r\n"),
    "RCPT": (b"550 5.1.1 No such user\r\n", b"450 4.2.1 Try later\r\n", b"452\r\n"),
    "DATA": (b"451 4.3.0 Try later\r\n", b"554-No\r\n554 No\r\n"),
    "BDAT": (b"451 4.3.0 Try later\r\n",),
    "END": (b"554 5.6.0 Refused\r\n", b"451 4.3.0 Try later\r\n", b"552-5.3.4 Too\r\n552 5.3.4 large\r\n"),
    "QUIT": (b"500 5.5.1 What is QUIT?\r\n",),
}
_CLOSING = b"421 4.3.2 check.example closes the connection\r\n"
_MALFORMED = (b"hello\r\n", b"25\r\n", b"2x0 OK\r\n", b"\r\n", b"\0\xff\r\n")
_KEYS = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END", "QUIT", "RSET", "BDAT")


def _with(behaviour: Behaviour, *answers: Answer) -> Behaviour:
    return replace(behaviour, answers=answers)


def openings(tls: Tls) -> Iterator[Behaviour]:
    """Yield behaviours for the typical defects of clients, the most common first."""
    yield from (_BARE, STANDARD, _CHUNKING, _SINGLE, _WITH_LOGIN)
    yield from _refusals()
    yield from _delays()
    yield from _security(tls)
    yield from _forms()
    yield from _ends()
    yield from _malformed()


def _refusals() -> Iterator[Behaviour]:
    for key in ("END", "RCPT", "MAIL", "DATA", "EHLO", "GREETING", "AUTH", "BDAT"):
        for reply in _REFUSALS[key]:
            answers = [Answer(key, reply)]
            if key == "EHLO":
                answers.append(Answer("HELO", b"550 5.7.1 Go away\r\n"))
            for base in (_WITH_LOGIN, STANDARD, _CHUNKING) if key in ("END", "BDAT", "RCPT") else (_WITH_LOGIN,):
                yield _with(base, *answers)
    no_recipients = Answer("RCPT", _REFUSALS["RCPT"][0]), Answer("DATA", b"354 Go ahead\r\n")
    for end in (_REFUSALS["END"][0], None):
        yield _with(STANDARD, *no_recipients, Answer("END", end))
    for number in (1, 2):
        yield _with(STANDARD, Answer("RCPT", _REFUSALS["RCPT"][0], number))
        yield _with(_CHUNKING, Answer("RCPT", _REFUSALS["RCPT"][1], number))
        yield _with(_BARE, Answer("END", _REFUSALS["END"][0], number))
    yield replace(STANDARD, offers=("SIZE 16", "8BITMIME"))


def _delays() -> Iterator[Behaviour]:
    for key in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END", "BDAT"):
        for base in (_BARE, STANDARD) if key in ("EHLO", "DATA") else (_BARE,):
            yield _with(base, Answer(key, delay=_DELAY))


def _security(tls: Tls) -> Iterator[Behaviour]:
    injected = Answer("STARTTLS", b"220 2.0.0 Go ahead\r\n250-injected.example\r\n250 AUTH PLAIN LOGIN\r\n")
    base = replace(STANDARD, starttls="always")
    if tls != "implicit":
        yield base
        yield _with(base, injected, Answer("EHLO", number=2, delay=_DELAY))
        yield replace(base, secure_offers=())
        yield replace(base, offers_auth_in_plaintext=True)
        yield from (_with(base, Answer("STARTTLS", reply)) for reply in _REFUSALS["STARTTLS"])
        yield _with(base, Answer("STARTTLS", _READY, then=Then.CLOSE))
        yield _with(base, Answer("STARTTLS", _READY, then=Then.GARBAGE))
        yield _with(base, Answer("EHLO", b"502 5.5.1 What is EHLO?\r\n"))
    if tls == "starttls":
        yield replace(STANDARD, starttls="never", offers_auth_in_plaintext=True)
        yield replace(_with(STANDARD, Answer("STARTTLS", _REFUSALS["STARTTLS"][0])), offers_auth_in_plaintext=True)
    if tls != "none":
        yield replace(STANDARD, certificate="unknown authority")
        yield replace(STANDARD, certificate="wrong name")
    yield replace(STANDARD, mechanisms=())
    yield replace(STANDARD, mechanisms=("XUNKNOWN",))
    for reply in _REFUSALS["CHALLENGE"]:
        yield _with(_WITH_LOGIN, Answer("CHALLENGE", reply))


_READY = b"220 2.0.0 Go ahead\r\n"


def _forms() -> Iterator[Behaviour]:
    for size in (1, 2, 5):
        yield replace(STANDARD, segment_size=size)
    yield replace(STANDARD, offers=(*_ODD_OFFERS[:1], "8bitmime", *_ODD_OFFERS[1:]))
    positive = ("GREETING", "MAIL", "RCPT", "DATA", "END")
    for lines in ((b"",), (b"OK", b"", b"OK"), (b"2.0.0 a", b"2.0.0 b"), (b"x" * 490,)):
        for key in positive:
            yield _with(STANDARD, Answer(key, _reply(key, lines)))
    for key, code in (("MAIL", b"253"), ("RCPT", b"259"), ("END", b"255")):
        yield _with(STANDARD, Answer(key, code + b" OK\r\n"))
    yield _with(STANDARD, *(Answer(key, _reply(key, (b"",))) for key in positive))


def _ends() -> Iterator[Behaviour]:
    for key in ("END", "QUIT", "RCPT", "MAIL", "DATA", "EHLO", "GREETING"):
        yield _with(_BARE, Answer(key, b"", then=Then.CLOSE))
        yield _with(_BARE, Answer(key, _CLOSING, then=Then.CLOSE))
        yield _with(_BARE, Answer(key, _CLOSING))
    yield _with(_BARE, Answer("END", b"250 2.0.0 Accepted\r\n", then=Then.CLOSE))
    yield _with(_CHUNKING, Answer("END", b"250 2.0.0 Accepted\r\n", then=Then.CLOSE))
    yield _with(_BARE, Answer("QUIT", _REFUSALS["QUIT"][0], then=Then.CLOSE))


def _malformed() -> Iterator[Behaviour]:
    for key, reply in product(("END", "DATA"), _MALFORMED):
        yield _with(_BARE, Answer(key, reply, then=Then.CLOSE))
    yield _with(_BARE, Answer("DATA", b"hello\r\n"))
    yield _with(_BARE, Answer("END", b"354 Go on\r\n", then=Then.CLOSE))  # well-formed, but no acceptance
    refused = Answer("END", _REFUSALS["END"][0], then=Then.CLOSE)
    yield _with(_BARE, Answer("DATA", b"354 Go ahead\r\n250 2.0.0 Early\r\n"), refused)
    yield _with(_BARE, Answer("RCPT", b"250 OK\r\n354 Go ahead\r\n250 2.0.0 Early\r\n"), refused)
    yield _with(_BARE, Answer("END", b"250-OK\r\n550 No\r\n"))
    yield _with(_BARE, Answer("EHLO", then=Then.LINES))
    yield _with(_BARE, Answer("END", then=Then.LINE))


def _reply(key: str, texts: tuple[bytes, ...]) -> bytes:
    code = _POSITIVE.get(key, b"250")
    if key == "GREETING":  # RFC 5321 4.2: the greeting begins with a domain
        texts = (b"check.example " + texts[0], *texts[1:])
    *first, last = texts
    return b"".join(code + b"-" + text + b"\r\n" for text in first) + code + (b" " if last else b"") + last + b"\r\n"


# Behaviours drawn by Hypothesis


def behaviours(tls: Tls) -> SearchStrategy[Behaviour]:
    """Draw behaviours for a client that requires `tls`."""
    lists = [st.just(base.offers) for base in (_BARE, STANDARD, _CHUNKING, _SINGLE)]
    drawn = st.lists(st.sampled_from(_OFFERS), max_size=8, unique=True).map(tuple)
    offers = st.one_of(*lists, drawn)
    return st.builds(
        Behaviour,
        offers=offers,
        secure_offers=st.one_of(st.none(), offers),
        starttls=st.sampled_from(["as set", "as set", "always", "never"]),
        mechanisms=st.sampled_from([MECHANISMS, MECHANISMS, (), ("LOGIN",), ("XUNKNOWN", "PLAIN")]),
        offers_auth_in_plaintext=st.booleans(),
        certificate=st.sampled_from(["valid"] * 6 + ["unknown authority", "wrong name"]),
        segment_size=st.sampled_from([0, 0, 0, 0, 1, 3, 7]),
        answers=st.lists(_answers(tls), max_size=3, unique_by=lambda answer: (answer.key, answer.number)).map(tuple),
    )


def _answers(tls: Tls) -> SearchStrategy[Answer]:
    keys = (*_KEYS, "AUTH", "CHALLENGE", *(() if tls == "implicit" else ("STARTTLS",)))
    return st.sampled_from(keys).flatmap(_answers_to)


def _answers_to(key: str) -> SearchStrategy[Answer]:
    texts = st.lists(st.sampled_from(_TEXTS), min_size=1, max_size=4).map(tuple)
    positive = texts.map(lambda drawn: _reply(key, drawn))
    refusal = st.sampled_from([*_REFUSALS.get(key, (b"500 5.5.1 Unknown command\r\n",)), _CLOSING])
    number, delay = st.sampled_from([0, 0, 1, 2]), st.sampled_from([0.0, 0.0, 0.0, 0.02])
    continuing = st.builds(Answer, st.just(key), st.one_of(st.none(), positive, refusal), number, delay)
    closing = st.one_of(st.none(), st.just(b""), positive, refusal, st.sampled_from(_MALFORMED))
    surplus = st.builds(lambda one, other: one + other, positive, st.one_of(positive, refusal))
    kinds = [continuing] * 4
    kinds.append(st.builds(Answer, st.just(key), closing, number, delay, st.just(Then.CLOSE)))
    kinds.append(st.builds(Answer, st.just(key), surplus, number, delay))
    if key == "EHLO":  # another positive reply would offer nothing
        kinds = [st.builds(Answer, st.just(key), st.one_of(st.none(), refusal), number, delay)]
    return st.one_of(kinds)
