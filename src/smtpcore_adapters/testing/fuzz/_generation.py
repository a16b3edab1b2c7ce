"""Generate experiments: first a list of sessions that find much, then sessions drawn by Hypothesis."""

# All draws of an experiment are made before its first octet is sent, because Hypothesis requires that draws do not
# depend on I/O. Hypothesis' shrinker is not used; see `_reduction`.

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import product

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .._proxied import CLIENTS, WRONG_CLIENTS, WRONG_HEADERS
from ..steps import AuthStep, BodyStep, ChunkStep, LineStep, Step, TlsStep
from ..strategies import FALSE_ENDS, MISTAKES, steps
from ._logins import failed_logins, logins
from ._plans import RSET, Experiment, Kind, Plan

_HEADER = b"Subject: x\r\n\r\n"
_BODY = BodyStep(_HEADER + b"y\r\n")
_CUTS = st.lists(st.sampled_from([1, 2, 3, 4, 5, 7, 12]), min_size=1, max_size=4, unique=True).map(tuple)
_MOST_STEPS = 24
_SPLITS = (510, 512, 998, 999, 1000, 1001, 1022, 1023, 1024, 2046, 2047, 2048, 4095, 4096, 8191, 8192)
"""Octets after which some servers split a line."""


def _cut(plan: Plan, cuts: tuple[int, ...]) -> Experiment:
    return Experiment(replace(plan, cuts=cuts), Kind.CUTS)


class Generator:
    """Generates experiments for a server.

    Args:
        offers: The keywords of the extensions that the server offers.
        hello: The EHLO or LHLO of most sessions.
        sender: The sender of most messages.
        recipients: The recipients.
        lmtp: Whether the server speaks LMTP.
        mechanisms: The mechanisms of AUTH that the server offers before a login.
        has_credentials: Whether the user and password of a login are known.
        has_proxy: Whether a PROXY header begins each connection.
    """

    def __init__(
        self,
        *,
        offers: Collection[str],
        hello: LineStep,
        sender: str,
        recipients: Sequence[str],
        lmtp: bool = False,
        mechanisms: Collection[str] = (),
        has_credentials: bool = False,
        has_proxy: bool = False,
    ) -> None:
        self._offers = frozenset(offers)
        self._mechanisms = frozenset(mechanisms)
        self._logins = logins(mechanisms) if has_credentials else []
        self._wrong_logins = logins(mechanisms, is_wrong=True) if has_credentials else []
        self._has_proxy = has_proxy
        self._hello = hello
        self._mail = LineStep(f"MAIL FROM:<{sender}>".encode())
        self._rcpts = [LineStep(f"RCPT TO:<{each}>".encode()) for each in recipients]
        self._senders = [sender, "", '"a b"@c.example', "@r.example:a@c.example"]
        self._recipients = list(recipients)
        self._lmtp = lmtp

    # Sessions that find much

    def openings(self) -> Iterator[Experiment]:
        """Yield sessions for the typical defects of servers, the most common first."""
        yield from self._bodies()
        yield from self._sequences()
        yield from self._pairs()
        if "CHUNKING" in self._offers:
            yield from self._chunks()
        yield from self._parameters()
        yield from self._auths() if self._mechanisms else [self._auth(AuthStep("LOGIN", None, (b"*",)))]
        yield from self._clients() if "XCLIENT" in self._offers else [self._one(CLIENTS[0])]
        if self._has_proxy:
            yield from (Experiment(Plan((self._hello,), header=header)) for header in WRONG_HEADERS)
        yield from self._mistakes()

    def _one(self, *middle: Step) -> Experiment:
        return Experiment(Plan((self._hello, *middle)))

    @property
    def _envelope(self) -> tuple[Step, ...]:
        return self._mail, self._rcpts[0]

    def _bodies(self) -> Iterator[Experiment]:
        contents = [b"", b"y\r\n", b".\r\n..\r\n.y\r\n", b"QUIT\r\nRSET\r\n", b"z" * 998 + b"\r\n", b"\r\n\r\n"]
        contents += [b"y" + end + b"RSET\r\nNOOP\r\n" for end in FALSE_ENDS]
        # A server that splits long lines may take the last part of a line for the end.
        contents += [b"".join(b"z" * length + b".\r\n" for length in _SPLITS)]
        contents += [b"y\0\r\n", b"z" * 5000 + b"\r\n", b"y\r\n" * 2000]
        for content in contents:
            yield self._one(*self._envelope, BodyStep(_HEADER + content))
        # A message ends the transaction also if it is refused.
        for content in (b"", b"y\r\n", b".\r\n", _HEADER + b"y\0\r\n", _HEADER + b"z" * 5000 + b"\r\n"):
            yield self._one(*self._envelope, BodyStep(content), self._rcpts[0])
        if "8BITMIME" in self._offers:
            mail = LineStep(self._mail.line + b" BODY=8BITMIME")
            yield self._one(mail, self._rcpts[0], BodyStep(_HEADER + b"\xc3\xa4\xff\x80\r\n"))
        for count in (2, 3):
            yield self._one(self._mail, *(self._rcpts * count)[:count], _BODY)

    def _sequences(self) -> Iterator[Experiment]:
        rcpt = self._rcpts[0]
        for again in (RSET, self._hello, *([] if self._lmtp else [LineStep(b"HELO c.example")])):
            yield self._one(*self._envelope, again, self._mail, _BODY)
            yield self._one(*self._envelope, again, rcpt, _BODY)
            yield self._one(*self._envelope, again, _BODY)
        yield self._one(*self._envelope, _BODY, _BODY)
        yield self._one(*self._envelope, _BODY, rcpt, _BODY)
        yield self._one(*self._envelope, _BODY, self._mail, _BODY)
        yield self._one(*self._envelope, _BODY, *self._envelope, _BODY, self._mail)
        yield self._one(rcpt, _BODY)
        yield self._one(self._mail, _BODY, rcpt, _BODY)
        yield self._one(LineStep(b"MAIL FROM:<@>"), rcpt, _BODY)
        yield Experiment(Plan((LineStep(b"NOOP"), self._hello)))
        for line in (b"NOOP", b"HELP", b"VRFY u", b"EXPN staff"):
            yield self._one(LineStep(line), RSET)
            yield self._one(*self._envelope, LineStep(line), _BODY, self._mail)
        yield self._one(*self._in_both_cases())
        if "STARTTLS" in self._offers:
            yield self._one(TlsStep(), self._hello, *self._envelope, _BODY)
            yield self._one(*self._envelope, TlsStep(), rcpt, _BODY)
            yield self._one(TlsStep(b"NOOP\r\n"), self._hello)
            yield self._one(TlsStep(), self._hello, TlsStep())

    def _in_both_cases(self) -> Iterator[Step]:
        lines = (*self._envelope, LineStep(b"NOOP"), RSET)
        yield from lines
        for step in (*lines, self._hello):
            verb, _, rest = step.pieces[0][:-2].partition(b" ")
            keyword, colon, path = rest.partition(b":")
            yield LineStep(b" ".join(filter(None, [verb.lower(), keyword.lower() + colon + path if colon else rest])))

    def _pairs(self) -> Iterator[Experiment]:
        message: tuple[Step, ...] = (*self._envelope, _BODY)
        twice = Plan((self._hello, *message, *message))
        dotted = Plan((self._hello, *self._envelope, BodyStep(_HEADER + b".\r\n..\r\n")))
        for cuts in ((1,), (2,), (3,), (4,), (5,), (1, 2, 3, 4, 5, 6)):
            for plan in (twice, dotted):
                yield Experiment(Plan(plan.steps, cuts=cuts), Kind.CUTS)
        groups: list[tuple[Step, ...]] = [
            (*message, *message),
            (*message, RSET, *message),
            (self._mail, *self._rcpts, LineStep(b"RCPT TO:<@>"), *self._rcpts, _BODY),
            (self._mail, RSET, *self._envelope, RSET, self._mail, _BODY),
            (self._rcpts[0], *message),
        ]
        for group in groups:
            yield Experiment(Plan((self._hello, *group), is_pipelined=True), Kind.PIPELINING)
        for before, after in product(
            (self._envelope, (self._mail,), (LineStep(b"NOOP"),), message), (message, (self._mail, _BODY), (_BODY,))
        ):
            yield Experiment(Plan((self._hello, *before, RSET, *after)), Kind.RESET)

    def _chunks(self) -> Iterator[Experiment]:
        whole, commands = _HEADER + b"y\r\n", ChunkStep(b"NOOP\r\nRSET\r\n")
        yield self._one(*self._envelope, ChunkStep(whole), *self._envelope, _BODY)
        yield self._one(*self._envelope, ChunkStep(whole[:5], is_last=False), ChunkStep(whole[5:]))
        yield self._one(*self._envelope, ChunkStep(whole, is_last=False), ChunkStep(b""))
        yield self._one(*self._envelope, ChunkStep(_HEADER + b".\r\ny\r\n"))
        yield self._one(commands)
        yield self._one(self._mail, commands, RSET)
        yield self._one(*self._envelope, ChunkStep(whole, is_last=False), RSET, commands)
        yield self._one(*self._envelope, ChunkStep(whole, is_last=False), RSET, self._mail, ChunkStep(b""))
        yield Experiment(
            Plan(
                (self._hello, *self._envelope, ChunkStep(whole, is_last=False), ChunkStep(b"z\r\n")), is_pipelined=True
            ),
            Kind.PIPELINING,
        )

    def _parameters(self) -> Iterator[Experiment]:
        for text in (b" SIZE=10", b" BODY=8BITMIME", b" BODY=8BITMIME SMTPUTF8"):
            plain = LineStep(b"MAIL FROM:<a@c.example>")
            yield self._one(plain, RSET, LineStep(plain.line + text), self._rcpts[0], _BODY)
        yield self._one(LineStep(b"MAIL FROM:<a@c.example> X=1"))

    def _auth(self, *middle: Step) -> Experiment:
        return Experiment(Plan((self._hello, *middle), is_logged_in=False))

    def _auths(self) -> Iterator[Experiment]:
        message: tuple[Step, ...] = (*self._envelope, _BODY)
        for login in self._logins:
            yield self._auth(login, *message, login)
            yield self._auth(login, RSET, self._hello, login)
            yield self._auth(self._mail, login, RSET, login, *message)
            yield self._auth(*self._envelope, login, _BODY)
            if "STARTTLS" in self._offers:
                yield self._auth(login, TlsStep(), self._hello, login)
            yield _cut(self._auth(login, *message).plan, (1, 2, 4, 7))
        for login in self._wrong_logins:
            yield self._auth(login, *self._logins[:1], *message)
        for login in failed_logins(self._mechanisms):
            yield self._auth(login, RSET, *self._logins[:1], self._mail)

    def _clients(self) -> Iterator[Experiment]:
        message: tuple[Step, ...] = (*self._envelope, _BODY)
        for client in CLIENTS:
            yield self._one(client, self._hello, *message)
            yield self._one(*self._envelope, client, self._hello, _BODY)
            yield self._one(*self._envelope, client, self._rcpts[0], RSET)
            yield self._one(*message, client, self._rcpts[0], _BODY)
            yield self._one(client, client, self._hello, client)
            for login in self._logins[:1]:
                yield self._auth(login, client, self._hello, login, *message)
        for client in WRONG_CLIENTS:
            yield self._one(client, RSET, self._hello, *message)

    def _mistakes(self) -> Iterator[Experiment]:
        states: tuple[tuple[Step, ...], ...] = ((), self._envelope, (self._mail,))
        lines = [
            *MISTAKES,
            b"NOOP " + b"x" * 600,
            b"NOOP " + b"x" * 5000,
            b"MAIL FROM:<" + b"x" * 3000 + b"@c.example>",
        ]
        for before, line in product(states, lines):
            yield self._one(*before, LineStep(line), RSET)

    # Sessions drawn by Hypothesis

    def experiments(self) -> SearchStrategy[Experiment]:
        """Draw experiments."""
        valid, invalid = self._steps(valid=True), self._steps(valid=False)
        either = st.sampled_from([invalid, invalid, valid]).flatmap(lambda strategy: strategy)
        kinds: list[SearchStrategy[Experiment]] = [
            either.map(lambda drawn: Experiment(Plan(drawn))),
            st.builds(_cut, either.map(Plan), _CUTS),
            self._resets(),
        ]
        if "PIPELINING" in self._offers:
            kinds.append(
                either.map(lambda drawn: Experiment(Plan(drawn, is_pipelined=True), Kind.PIPELINING)),
            )
        kinds += self._with_others(either)

        return st.sampled_from(kinds).flatmap(lambda strategy: strategy)

    def _with_others(self, drawn: SearchStrategy[tuple[Step, ...]]) -> Iterator[SearchStrategy[Experiment]]:
        """Yield sessions with a login or with XCLIENT at one or two places."""

        def insert(others: list[Step], *, is_logged_in: bool) -> SearchStrategy[Experiment]:
            def build(steps: tuple[Step, ...], inserted: list[tuple[int, Step]]) -> Experiment:
                found = list(steps)
                for place, step in inserted:
                    found.insert(1 + place % (len(steps) + 1), step)
                return Experiment(Plan(tuple(found), is_logged_in=is_logged_in))

            places = st.tuples(st.integers(0, _MOST_STEPS), st.sampled_from(others))
            return st.builds(build, drawn, st.lists(places, min_size=1, max_size=2))

        if self._mechanisms:
            some = [*self._logins * 4, *self._wrong_logins, *failed_logins(self._mechanisms)]
            yield insert(some, is_logged_in=False)
        if "XCLIENT" in self._offers:
            yield insert([*CLIENTS, *WRONG_CLIENTS], is_logged_in=True)

    def _steps(self, *, valid: bool, offers: frozenset[str] | None = None) -> SearchStrategy[tuple[Step, ...]]:
        drawn = steps(
            valid=valid,
            offers=(self._offers if offers is None else offers) - {"AUTH", "XCLIENT"},
            lmtp=self._lmtp,
            senders=self._senders,
            recipients=self._recipients,
        )
        return drawn.map(lambda found: tuple(found[:-1][:_MOST_STEPS]))  # the player adds QUIT

    def _resets(self) -> SearchStrategy[Experiment]:
        # TLS before RSET would outlive it.
        drawn = self._steps(valid=True, offers=self._offers - {"STARTTLS"})

        def build(before: tuple[Step, ...], length: int, after: tuple[Step, ...]) -> Experiment:
            prefix = [step for step in before[1 : 1 + length] if step != RSET]
            return Experiment(Plan((self._hello, *prefix, RSET, *after[1:])), Kind.RESET)

        return st.builds(build, drawn, st.integers(1, 12), drawn)
