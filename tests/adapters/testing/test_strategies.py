"""The module of all strategies exports each of them."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from hypothesis import Phase, find, settings
from hypothesis.strategies import SearchStrategy

from smtpcore_adapters.testing import _session_strategies, _value_strategies, strategies


def public_functions(module: object) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == getattr(module, "__name__", None)
    }


def test_each_strategy_is_exported() -> None:
    exported = public_functions(_session_strategies) | public_functions(_value_strategies)

    assert set(strategies.__all__) == exported | {"FALSE_ENDS", "MISTAKES", "OFFERS", "stuffed"}
    assert set(strategies.__all__) <= set(dir(strategies))


HELO, QUIT = "LineStep(line=b'EHLO c.example')", "LineStep(line=b'QUIT')"

SIMPLEST: list[tuple[str, SearchStrategy[Any], str]] = [
    ("bodies", strategies.bodies(), "b''"),
    ("bodies", strategies.bodies(binary=True), "b''"),
    ("commands", strategies.commands(), "NOOP"),
    ("commands", strategies.commands(utf8=True), "NOOP"),
    ("domains", strategies.domains(), "c.example"),
    ("domains", strategies.domains(utf8=True), "c.example"),
    ("hostile_bodies", strategies.hostile_bodies(), repr(b"Subject: x\r\n\r\ny\x00\r\n")),
    ("hostile_lines", strategies.hostile_lines(), "b'XYZZY'"),
    ("mail_params", strategies.mail_params(), ""),
    ("mailboxes", strategies.mailboxes(), "a@c.example"),
    ("mailboxes", strategies.mailboxes(utf8=True), "a@c.example"),
    ("paths", strategies.paths(), "a@c.example"),
    ("paths", strategies.paths(null=False, utf8=True), "a@c.example"),
    ("proxy_headers", strategies.proxy_headers(), repr(b"PROXY TCP4 192.0.2.1 192.0.2.2 49152 25\r\n")),
    ("proxy_headers", strategies.proxy_headers(valid=False), repr(b"PROXY\r\n")),
    ("rcpt_params", strategies.rcpt_params(), ""),
    ("replies", strategies.replies(), "250 text"),
    ("replies", strategies.replies(positive=False), "450 text"),
    ("segments", strategies.segments(b"abcdef"), "[b'abcdef']"),
    ("sessions", strategies.sessions(), repr([b"EHLO c.example\r\n", b"QUIT\r\n"])),
    ("sessions", strategies.sessions(valid=False), repr([b"EHLO c.example\r\n", b"QUIT\r\n"])),
    ("steps", strategies.steps(), f"[{HELO}, {QUIT}]"),
    ("steps", strategies.steps(senders=["a@c.example"], recipients=["u@s.example"]), f"[{HELO}, {QUIT}]"),
    ("steps", strategies.steps(lmtp=True), f"[{HELO}, {QUIT}]".replace("EHLO", "LHLO")),
    ("steps", strategies.steps(valid=False, offers={"AUTH", "STARTTLS"}), f"[{HELO}, {QUIT}]"),
]
without_explanation = settings(database=None, phases=[Phase.generate, Phase.shrink])


def test_the_simplest_value_of_each_strategy_is_known() -> None:
    assert {name for name, _, _ in SIMPLEST} == set(strategies.__all__) - {
        "FALSE_ENDS",
        "MISTAKES",
        "OFFERS",
        "stuffed",
    }


@pytest.mark.parametrize(("strategy", "text"), [case[1:] for case in SIMPLEST], ids=[case[0] for case in SIMPLEST])
def test_each_strategy_shrinks_to_a_short_and_plain_value(strategy: SearchStrategy[object], text: str) -> None:
    assert str(find(strategy, lambda _: True, settings=without_explanation)) == text


@pytest.mark.parametrize(
    ("strategy", "condition", "text"),
    [
        (strategies.segments(b"abcdef"), lambda pieces: len(pieces) > 1, "[b'a', b'bcdef']"),
        (strategies.paths(), lambda path: not str(path), ""),
        (strategies.rcpt_params(), bool, " NOTIFY=SUCCESS"),
        (strategies.bodies(), bool, repr(b"\r\n")),
        (strategies.replies(), lambda reply: reply.enhanced, "250 2.5.0 text"),
    ],
    ids=["segments", "paths", "rcpt_params", "bodies", "replies"],
)
def test_value_with_a_property_shrinks_to_a_plain_value(
    strategy: SearchStrategy[object], condition: Callable[[Any], bool], text: str
) -> None:
    assert str(find(strategy, condition, settings=without_explanation)) == text
