"""Slow clients over real sockets: each adapter disconnects them on time, also under TLS."""

import ssl

import pytest
import trustme

from smtpcore import Bodies, Config
from smtpcore_adapters.users import Users
from tests.adapters.clocks import Clock
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import running
from tests.certificates import context_trusting
from tests.slowloris import CASES, run_attack

CONFIG = Config(hostname="s.example", bodies=Bodies.CHUNKS, auth_mechanisms=("LOGIN",))


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = context_trusting(authority)
    return server, client


@pytest.mark.parametrize(("attack", "encrypted"), CASES)
def test_slow_client_is_disconnected_on_time(
    attack: str, encrypted: bool, backend: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    app = accepting(MessageStore(), Users({"tim": "secret"}))
    with running(backend, app, clock=Clock(), config=CONFIG, tls=contexts[0]) as server, server.connect() as client:
        run_attack(attack, client, server.clock.advance, contexts[1] if encrypted else None)
        assert server.reason() in ("timeout", "lost")
