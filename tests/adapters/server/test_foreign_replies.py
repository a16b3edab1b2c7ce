"""Replies of other servers and of stores are changed so that our client can get them."""

import pytest

from smtpcore import Path, Reply
from smtpcore_adapters.server._foreign_replies import mildest, mixed, presentable


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Reply(250, "fine", enhanced="2.0.0"), Reply(250, "fine", enhanced="2.0.0")),
        (Reply(421, "bye"), Reply(451, "bye")),
        (Reply(521, "no mail"), Reply(554, "no mail")),
        (Reply(550, "nö", "x" * 1000), Reply(550, "n?", "x" * 480)),
    ],
)
def test_reply_neither_ends_our_session_nor_needs_utf8(given: Reply, expected: Reply) -> None:
    assert presentable(given) == expected


def test_reply_has_at_most_20_lines() -> None:
    assert len(presentable(Reply(550, *["x"] * 50)).lines) == 20


def test_refusal_is_permanent_only_if_all_are() -> None:
    replies = [Reply(550, "a"), Reply(452, "b"), Reply(554, "c")]
    assert mildest(replies) == replies[1]
    assert mildest([replies[0], replies[2]]) == replies[0]


def test_reply_for_some_recipients_names_the_others() -> None:
    refused = [
        (Path("a@s.example"), Reply(550, "unknown")),
        (Path("b@s.example"), Reply(452, "full", enhanced="4.2.2")),
    ]
    assert mixed(refused, 3) == Reply(
        452, "Accepted for 1 of 3 recipients", "a@s.example: unknown", "b@s.example: full", enhanced="4.2.2"
    )
