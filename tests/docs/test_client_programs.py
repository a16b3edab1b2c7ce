"""Each documented program that sends mail reports a refusal of every step, and a lost connection at every step."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smtpcore import ProtocolError
from smtpcore_adapters import Disconnected, RecipientsRefused, Refused, SendResult, TlsMode

from ..adapters.peers import Answering, closing
from ..adapters.peers import serving as peer_serving
from .test_readme import run_example

TO = "you@example.org"
BODY = b"Subject: x\r\n\r\nHi!\r\n"
STEPS = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END")
LOST = 451
"""The code of a recipient whose reply never came, and the code that stands here for an error of the connection."""

TOKENS = SimpleNamespace(get=lambda: "token", renew=lambda: "token")
Call = Callable[..., Any]
PROGRAMS: dict[str, tuple[str, Callable[[Call, int, Path], Any]]] = {
    "deliver": ("async def deliver(host, port, path)", lambda call, port, path: call("127.0.0.1", port, path)),
    "invite": ("async def invite", lambda call, port, _: call("127.0.0.1", port, TO, tls=TlsMode.NONE, auth=None)),
    "announce": ("async def announce", lambda call, port, _: call("127.0.0.1", port, [TO], BODY)),
    "deliver_all": ("def deliver_all", lambda call, port, _: call("127.0.0.1", port, [BODY])),
    "send_with_token": (
        "async def send_with_token",
        lambda call, port, _: call("127.0.0.1", port, BODY, TOKENS, tls=TlsMode.NONE, auth=None),
    ),
    "notify_by_smtpcore": ("def notify_by_smtpcore", lambda call, port, _: call("127.0.0.1", port, [TO])),
    "notify_async_by_smtpcore": ("def notify_async_by_smtpcore", lambda call, port, _: call("127.0.0.1", port, [TO])),
}
"""For each program, a text that only its example contains, and a call of the program."""


def codes_of(name: str, server: Answering, directory: Path) -> set[int]:
    """Run a program, and return the codes that it reports, by its result or by an exception."""
    start, call = PROGRAMS[name]
    path = directory / "message.eml"
    path.write_bytes(BODY)
    with peer_serving(server) as address:
        try:
            result = call(run_example(start)[name], address.port, path)
            if asyncio.iscoroutine(result):
                result = asyncio.run(result)
        except RecipientsRefused as exc:
            result = exc.result
        except (Refused, Disconnected) as exc:
            return {exc.reply.code if exc.reply else LOST}
        except (OSError, ProtocolError):
            return {LOST}

    results = result if isinstance(result, list) else [result]
    return {
        code if isinstance(code, int) else code.code
        for each in results
        for code in (each.refused if isinstance(each, SendResult) else each).values()
    }


@pytest.mark.parametrize("code", [450, 550])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_refusal_of_each_step_is_reported(name: str, step: str, code: int, tmp_path: Path) -> None:
    refusals = {step: b"%d no\r\n" % code}
    if step == "EHLO":
        refusals["HELO"] = refusals["EHLO"]
    assert codes_of(name, Answering(**refusals), tmp_path) == {code}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_421_at_each_step_is_reported(name: str, step: str, tmp_path: Path) -> None:
    assert codes_of(name, Answering(**{step: closing(b"421 no\r\n")}), tmp_path) == {421}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_connection_lost_at_each_step_is_reported(name: str, step: str, tmp_path: Path) -> None:
    assert codes_of(name, Answering(**{step: closing(b"")}), tmp_path) == {LOST}


@pytest.mark.parametrize("step", STEPS)
def test_newsletter_is_sent_later_after_a_temporary_refusal(step: str) -> None:
    send = run_example("async def send_newsletter")["send_newsletter"]

    def later(answer: Any) -> list[str]:
        with peer_serving(Answering(**{step: answer, "HELO": answer})) as address:
            found: list[str] = asyncio.run(send("127.0.0.1", address.port, "Hi!", [TO]))
            return found

    assert later(b"450 no\r\n") == [TO]
    assert later(closing(b"421 no\r\n")) == [TO]
    assert later(closing(b"")) == [TO]
