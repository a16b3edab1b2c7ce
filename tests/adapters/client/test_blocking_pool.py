"""The pool for threads."""

import threading

import pytest

from tests.adapters.client.test_pool import Gate, pool_of
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import TIMEOUT, running
from tests.adapters.playbook import ONE, SENDER


def test_threads_share_a_pool() -> None:
    gate = Gate()
    with running("threads", gate.app, config=CONFIG) as server:
        with pool_of("threads", server.server.address.port, size=2) as pool:
            threads = [threading.Thread(target=pool.send, args=(b"%d" % n, SENDER, ONE)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
            with pool.client() as client:
                assert client.check()
                assert client.noop().code == 250
        with pytest.raises(RuntimeError, match="is closed"):
            pool.send(b"late", SENDER, ONE)
    assert sorted(gate.bodies) == [b"%d\r\n" % n for n in range(8)]
    assert gate.most <= 2
