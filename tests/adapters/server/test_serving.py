"""Servers over the function table of a framework."""

import asyncio
import signal
from functools import partial
from typing import Never

import anyio
import pytest

from smtpcore_adapters import Address, App, Server
from smtpcore_adapters.server._serving import serve_on, serving_on
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import Client
from tests.adapters.streams.frameworks import FRAMEWORKS


def greeted(server: Server) -> str:
    with Client(server.address) as client:
        return client.read()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_server_accepts_connections_until_the_block_ends(name: str) -> None:
    framework, run = FRAMEWORKS[name]
    servers: list[Server] = []

    async def main() -> None:
        async with serving_on(framework, App(), config=CONFIG) as server:
            servers.append(server)
            assert await framework.run_in_thread(lambda: greeted(server)) == "220 s.example ESMTP"

    run(main)
    with pytest.raises(ConnectionRefusedError):
        greeted(servers[0])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_exception_in_the_block_is_raised_unchanged(name: str) -> None:
    framework, run = FRAMEWORKS[name]
    failure = KeyError("in the block")

    async def main() -> None:
        async with serving_on(framework, App(), config=CONFIG):
            raise failure

    with pytest.raises(KeyError) as caught:
        run(main)
    assert caught.value is failure


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_serve_runs_until_cancelled(name: str) -> None:
    framework, run = FRAMEWORKS[name]
    addresses: list[object] = []

    async def main() -> None:
        with framework.cancel_scope() as scope:

            def stop(address: object) -> None:
                addresses.append(address)
                scope.cancel()

            await serve_on(framework, App(), config=CONFIG, on_ready=stop)

    run(main)
    assert len(addresses) == 1


class WithoutSignals(asyncio.SelectorEventLoop):
    """A loop without signal handlers, like the loops of Windows."""

    def add_signal_handler(self, *args: object) -> Never:
        raise NotImplementedError


@pytest.mark.parametrize("delay", [0, 0.005])
def test_signal_ends_a_server_on_a_loop_without_signal_handlers(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._serving.LONGEST_WAIT", 0.001)
    framework = FRAMEWORKS["anyio-asyncio"][0]

    def start(address: Address) -> None:
        asyncio.get_running_loop().call_later(delay, signal.raise_signal, signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    main = partial(serve_on, framework, App(), on_ready=start, handle_signals=True, config=CONFIG)
    anyio.run(main, backend_options={"loop_factory": WithoutSignals})
    assert signal.getsignal(signal.SIGTERM) is before
