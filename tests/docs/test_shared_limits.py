"""The example of limits of several machines in docs/server.md."""

from typing import Any

from smtpcore_adapters.testing import SmtpPair
from tests.adapters.redis_server import redis_server
from tests.docs.test_readme import source_of


def test_example_defers_the_first_attempt() -> None:
    with redis_server() as server:
        names: dict[str, Any] = {}
        exec(source_of("RedisCounts(").replace("redis://:secret@127.0.0.1:6379/0", f"{server.url}?timeout=20"), names)
        with names["counts"] as counts:
            pair = SmtpPair(names["app"])
            replies = pair.deliver("a@c.example", ["b@example.org"], b"x\r\n")
            assert [reply.code for reply in replies] == [250, 451]
            assert counts.is_available()
