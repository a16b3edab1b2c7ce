"""smtpcore as a benchmark server: `python -m benchmarks.contenders.ours ADAPTER PORT [CHAIN KEY]`."""

import asyncio
import importlib
import sys
from typing import Any, TypeAlias

from smtpcore import Bodies, Config, Rcpt, Reply
from smtpcore_adapters import App, Limits, Message, Options, Session
from smtpcore_adapters.tls import server_context

Run: TypeAlias = Any
"""The `run` function of an adapter, typed as Any because its further parameters depend on the adapter."""

app = App()

WELCOME = Reply(250, "Recipient OK", enhanced="2.1.5")
TAKEN = Reply(250, "Thrown away", enhanced="2.0.0")


@app.on("RCPT")
async def take_everyone(_session: Session, _rcpt: Rcpt) -> Reply:
    return WELCOME


@app.on("message")
async def throw_away(_session: Session, message: Message) -> Reply:
    async for _ in message:
        pass

    return TAKEN


OPTIONS: Options = {
    "config": Config(hostname="mx.example.org", bodies=Bodies.CHUNKS, max_message_size=1_000_000_000),
    "limits": Limits(connections=10_000, connections_per_address=10_000),
}


def run_on_uvloop(port: int, options: Options) -> None:
    uvloop = importlib.import_module("uvloop")
    adapter = importlib.import_module("smtpcore_adapters.asyncio")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(adapter.serve(app, port, handle_signals=True, **options))


def main() -> None:
    adapter, port, *files = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    options = OPTIONS.copy()
    if files:
        options["tls"], options["implicit_tls"] = server_context(*files), True
    if adapter == "uvloop":
        run_on_uvloop(port, options)
        return

    framework, _, backend = adapter.partition("-")
    module = "socket" if framework == "threads" else framework
    run: Run = importlib.import_module(f"smtpcore_adapters.{module}").run
    run(app, port, **options, **({"backend": backend} if backend else {}))


if __name__ == "__main__":
    main()
