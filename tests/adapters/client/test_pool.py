"""The pool of connections."""

import contextlib
import io
import os
from collections import deque
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import Any

import anyio
import pytest

from smtpcore import Mail, Noop, Notify, Path, ProtocolError, Reply
from smtpcore_adapters import App, Client, Message, Pool, Refused, Session, Stream, TlsMode
from tests.adapters.client.storm import Storm, report_of
from tests.adapters.fakes import CONFIG, SILENCE, Early, Step, step, suspend
from tests.adapters.harness import BACKENDS, LOOPS, TIMEOUT, module_of, run_in, running
from tests.adapters.playbook import ACCEPTED, BYE, ONE, SENDER, TAKEN, TWO, ScriptedServer
from tests.playbook import GO_AHEAD, GREETING, OK, offer

MESSAGE = (OK + OK + GO_AHEAD, ACCEPTED)
CLOSING = b"421 bye\r\n"
OPTIONS: Any = {"tls": TlsMode.NONE, "hostname": "c.example"}


class FakeEvent:
    """An event whose wait suspends the coroutine once."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    async def wait(self) -> None:
        if not self._is_set:
            await suspend(self)


class NoSeeking(io.BytesIO):
    """A file that cannot be read again, such as a pipe."""

    def seekable(self) -> bool:
        return False


class Script:
    """A pool with scripted servers, one for each connection, and a clock."""

    def __init__(self, *connections: tuple[Step, ...], offers: tuple[str, ...] = ("PIPELINING",), **options: Any):
        servers = [ScriptedServer().send(GREETING, offer(*offers), *steps) for steps in connections]
        self.streams = [server.stream for server in servers]
        self._left = deque(servers)
        self.now = 1000.0
        script = self

        class Scripted(Pool):
            _new_event = staticmethod(FakeEvent)
            _clock = staticmethod(lambda: script.now)

            @staticmethod
            async def _open_stream(
                host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
            ) -> Stream:
                return await script._left.popleft().open(host, port, timeout)

        self.pool: Pool = Scripted("s.example", 25, **OPTIONS, **options)

    @property
    def opened(self) -> int:
        """The number of connections that were opened."""
        return len(self.streams) - len(self._left)

    def send(self, body: Any = b"hi\r\n", **options: Any) -> Any:
        return step(self.pool.send(body, SENDER, ONE, **options))

    def has_quit(self, connection: int) -> bool:
        stream = self.streams[connection]
        return stream.sent[-1] == b"QUIT\r\n" and bool(stream.close_timeouts)


# Connections are used again


def test_messages_share_a_connection() -> None:
    script = Script((*MESSAGE, *MESSAGE, BYE))
    assert script.send().accepted
    assert script.send().accepted
    step(script.pool.aclose())

    assert script.opened == 1
    assert script.has_quit(0)


@pytest.mark.parametrize("sign", [Early(CLOSING), Early(b"221 bye\r\n"), Early(b""), Early(b"nonsense\r\n")])
def test_stale_connection_is_noticed_before_mail(sign: Early) -> None:
    script = Script((*MESSAGE, sign), MESSAGE)
    assert script.send().accepted
    assert script.send().accepted
    assert script.opened == 2
    assert script.streams[0].output.count(b"MAIL") == 1


@pytest.mark.parametrize(
    "end",
    [
        (CLOSING,),
        (OK + CLOSING,),
        (OK + OK + CLOSING,),
        (ConnectionResetError(),),
        (b"",),
        (OK, b""),
        (b"nonsense\r\n",),
    ],
)
def test_message_is_sent_again_if_a_used_connection_ends_before_the_body(end: tuple[Step, ...]) -> None:
    script = Script((*MESSAGE, *end), MESSAGE)
    assert script.send().accepted
    assert script.send().accepted
    assert script.opened == 2


def test_recipients_and_options_are_read_once_for_both_connections() -> None:
    script = Script((*MESSAGE, CLOSING), MESSAGE, offers=("PIPELINING", "DSN"))
    script.send()
    notify = iter([Notify.NEVER])
    assert step(script.pool.send([b"hi\r\n"], SENDER, iter([ONE]), notify=notify)).accepted
    assert b"RCPT TO:<b@s.example> NOTIFY=NEVER\r\n" in script.streams[1].output


@pytest.mark.parametrize("body", [b"hi\r\n", [b"hi\r\n"], io.BytesIO(b"hi\r\n"), EmailMessage()])
def test_body_that_can_be_read_again_is_sent_again(body: Any) -> None:
    script = Script((*MESSAGE, b""), MESSAGE)
    script.send()
    assert script.send(body).accepted
    assert script.opened == 2


@pytest.mark.parametrize("body", [iter([b"hi\r\n"]), NoSeeking(b"hi\r\n")])
def test_body_that_can_be_read_only_once_is_sent_once_after_a_noop(body: Any) -> None:
    script = Script((*MESSAGE, OK, b""), MESSAGE)
    script.send()
    with pytest.raises(ConnectionError):
        script.send(body)
    assert script.streams[0].sent.count(b"NOOP\r\n") == 1
    assert script.opened == 1


@pytest.mark.parametrize("end", [ConnectionResetError(), b"", b"nonsense\r\n"])
def test_message_is_never_sent_again_after_a_part_of_its_body(end: Step) -> None:
    script = Script((*MESSAGE, OK + OK + GO_AHEAD, end), MESSAGE)
    script.send()
    with pytest.raises((OSError, ProtocolError)):
        script.send()
    assert script.opened == 1


def test_421_to_a_body_is_the_result() -> None:
    script = Script((*MESSAGE, OK + OK + GO_AHEAD, CLOSING), MESSAGE)
    script.send()
    assert script.send().final == Reply(421, "bye")
    assert script.opened == 1
    assert script.send().accepted
    assert script.opened == 2


@pytest.mark.parametrize("end", [ConnectionResetError(), b""])
def test_new_connection_is_not_replaced(end: Step) -> None:
    script = Script((end,), MESSAGE)
    with pytest.raises(ConnectionError):
        script.send()
    assert script.opened == 1
    assert script.send().accepted


def test_421_of_a_new_connection_is_the_result() -> None:
    assert Script((CLOSING,)).send().final == Reply(421, "bye")


def test_message_is_not_sent_again_after_a_timeout() -> None:
    script = Script((*MESSAGE, SILENCE), MESSAGE)
    script.send()
    with pytest.raises(TimeoutError):
        script.send()
    assert script.opened == 1


def test_refused_message_leaves_the_connection_in_the_pool() -> None:
    script = Script((OK + b"550 no\r\n" + b"554 no\r\n", OK, *MESSAGE))
    assert not script.send().accepted
    assert script.send().accepted
    assert script.opened == 1


def test_noop_is_sent_before_a_message_after_a_pause() -> None:
    script = Script((*MESSAGE, OK, *MESSAGE))
    script.send()
    script.now += 16
    script.send()
    assert script.streams[0].sent.count(b"NOOP\r\n") == 1


def test_connection_that_does_not_answer_after_a_pause_is_replaced_soon() -> None:
    script = Script((*MESSAGE, SILENCE), MESSAGE)
    script.send()
    script.now += 16
    assert script.send().accepted
    assert script.opened == 2
    assert script.streams[0].receive_timeouts[-1] <= 5


# Limits


def test_connection_ends_with_quit_after_its_last_message() -> None:
    script = Script((*MESSAGE, *MESSAGE, BYE), MESSAGE, max_uses=2)
    for _ in range(3):
        script.send()
    assert script.opened == 2
    assert script.has_quit(0)


def test_announced_limit_of_messages_is_kept() -> None:
    script = Script((*MESSAGE, BYE), MESSAGE, offers=("PIPELINING", "LIMITS MAILMAX=1"))
    script.send()
    script.send()
    assert script.has_quit(0)


def test_message_that_is_sent_several_times_gets_a_connection_that_takes_them_all() -> None:
    twice = (*MESSAGE, *MESSAGE)
    script = Script((*twice, BYE), twice, offers=("PIPELINING", "LIMITS MAILMAX=3 RCPTMAX=1"))
    script.send()
    script.send()
    assert len(step(script.pool.send(b"hi\r\n", SENDER, [ONE, TWO])).accepted) == 2
    assert script.has_quit(0)


def test_limit_of_messages_is_learnt_from_a_421() -> None:
    script = Script((*MESSAGE, *MESSAGE, CLOSING), (*MESSAGE, *MESSAGE, BYE), MESSAGE)
    for _ in range(5):
        assert script.send().accepted
    assert script.opened == 3
    assert script.has_quit(1), "the pool has ended the second connection itself"


def test_old_connection_is_replaced() -> None:
    script = Script((*MESSAGE, BYE), MESSAGE, max_age=60)
    script.send()
    script.now += 60
    script.send()
    assert script.opened == 2
    assert script.has_quit(0)


def test_old_idle_connections_are_closed_after_a_message() -> None:
    script = Script((*MESSAGE, BYE), MESSAGE, max_age=60)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            lending = script.pool.client()
            client = step(lending.__aenter__())
            stack.callback(leave, lending)
            step(client.send(SENDER, ONE, b"hi\r\n"))
            script.now += 30
    # The second connection returned first. It is 30 seconds old, and the first connection 60.
    assert script.has_quit(0)
    assert not script.streams[1].close_timeouts


# Blocks


def leave(lending: contextlib.AbstractAsyncContextManager[Client]) -> None:
    step(lending.__aexit__(None, None, None))


def lend(script: Script, use: Callable[[Any], Awaitable[object]]) -> None:
    async def main() -> None:
        async with script.pool.client() as client:
            await use(client)

    step(main())


def test_block_gets_a_client_and_returns_it() -> None:
    script = Script((OK, OK))
    for _ in range(2):
        lend(script, lambda client: client.noop())
    assert script.opened == 1


def test_connection_returns_after_an_exception_of_the_block() -> None:
    script = Script((OK,))

    async def fail(client: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        lend(script, fail)
    lend(script, lambda client: client.noop())
    assert script.opened == 1


def test_open_transaction_is_closed_with_quit() -> None:
    script = Script((OK, BYE), (OK,))
    lend(script, lambda client: client.ask(Mail(Path(SENDER))))
    lend(script, lambda client: client.ask(Noop()))
    assert script.opened == 2
    assert script.has_quit(0)


@pytest.mark.parametrize("command", ["xclient", "xforward"])
def test_connection_is_closed_after_xclient_and_xforward(command: str) -> None:
    hello = offer() if command == "xclient" else OK
    replies = (GREETING, hello) if command == "xclient" else (OK,)
    script = Script((*replies, BYE), (OK,), offers=("XCLIENT ADDR", "XFORWARD ADDR"))
    lend(script, lambda client: getattr(client, command)({"ADDR": "192.0.2.1"}))
    assert script.has_quit(0)


# Errors


def test_task_whose_connection_was_refused_waits_for_another() -> None:
    script = Script((*MESSAGE, *MESSAGE), (), size=3)
    script.streams[1].script[0] = b"421 4.7.0 too many connections\r\n"
    lending = script.pool.client()
    step(lending.__aenter__())
    waiting = script.pool.send(b"hi\r\n", SENDER, ONE)
    assert isinstance(waiting.send(None), FakeEvent), "it waits for the connection of the block"
    step(lending.__aexit__(None, None, None))
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    assert done.value.value.accepted

    lending = script.pool.client()
    step(lending.__aenter__())
    again = script.pool.send(b"hi\r\n", SENDER, ONE)
    again.send(None)
    assert script.opened == 2, "the pool keeps to one connection"
    again.close()


@pytest.mark.parametrize("greeting", [b"421 too many connections\r\n", b"554 no\r\n"])
def test_refusal_of_the_only_connection_is_an_error(greeting: bytes) -> None:
    script = Script((), (*MESSAGE, BYE))
    script.streams[0].script[0] = greeting
    with pytest.raises(Refused):
        script.send()
    assert script.send().accepted
    step(script.pool.aclose())


def test_closed_pool_refuses_messages() -> None:
    script = Script(MESSAGE)
    step(script.pool.aclose())
    for call in (script.send, lambda: lend(script, lambda client: client.noop())):
        with pytest.raises(RuntimeError, match=r"the pool of connections to s\.example:25 is closed"):
            call()
    assert script.opened == 0


def test_fork_of_a_process_cannot_use_the_connections_of_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(MESSAGE + MESSAGE)
    script.send()
    before = script.streams[0].sent[:]
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        for call in (script.send, lambda: lend(script, lambda client: client.noop())):
            with pytest.raises(RuntimeError, match="the pool was used in another process before"):
                call()
        step(script.pool.aclose())
        assert script.streams[0].sent == before, "not even QUIT"
    script.send()
    assert script.opened == 1


def test_pool_may_be_made_before_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(MESSAGE)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    script.send()


@pytest.mark.parametrize("limits", [{"size": "4"}, {"size": 2.5}, {"max_age": None}, {"max_uses": "100"}])
def test_limit_of_another_type_is_an_error(limits: Any) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(limits))} is .*, which is of type"):
        Script(MESSAGE, **limits)


@pytest.mark.parametrize("option", ["size", "max_age", "max_uses"])
def test_limit_below_one_is_an_error(option: str) -> None:
    limits: dict[str, Any] = {option: 0}
    with pytest.raises(ValueError, match=f"{option} is 0: it must be more than 0"):
        Script(**limits)


def test_options_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match="'lmpt' is not an option of Pool"):
        Script(lmpt=True)
    with pytest.raises(TypeError, match=r"'sizes' is not an option of Pool. The nearest is 'size'"):
        Script(sizes=3)
    with pytest.raises(TypeError, match="'envld' is not an option of send"):
        Script().send(envld="x")


def test_path_of_a_unix_socket_names_the_pool() -> None:
    script = Script(path="/run/lmtp")
    step(script.pool.aclose())
    with pytest.raises(RuntimeError, match="connections to /run/lmtp is closed"):
        script.send()


# On each framework


class Gate:
    """A server that counts the messages that it receives at the same time."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.running = 0
        self.most = 0
        self.app = App()
        self.app.on("RCPT")(lambda session, rcpt: Reply(250, "taken"))

        @self.app.on("message", blocking=True)
        def take(session: Session, message: Message) -> Reply:
            self.running += 1
            self.most = max(self.most, self.running)
            body = b"".join(message)
            self.running -= 1
            self.bodies.append(body)
            return TAKEN


def pool_of(backend: str, port: int, **options: Any) -> Any:
    return module_of(backend).Pool("127.0.0.1", port, **OPTIONS, **options)


@pytest.mark.parametrize("backend", LOOPS)
def test_cancelled_tasks_leave_the_queue_and_return_their_connections(backend: str) -> None:
    async def main(port: int) -> None:
        async with pool_of(backend, port, size=1) as pool:
            async with pool.client(), anyio.create_task_group() as tasks:
                tasks.start_soon(pool.send, b"never", SENDER, ONE)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            with anyio.fail_after(TIMEOUT):
                assert (await pool.send(b"once", SENDER, ONE)).accepted

            with anyio.CancelScope() as scope:
                async with pool.client() as client:
                    scope.cancel()
                    await client.noop()
            with anyio.fail_after(TIMEOUT):
                assert (await pool.send(b"twice", SENDER, ONE)).accepted

    gate = Gate()
    with running("threads", gate.app, config=CONFIG) as server:
        run_in(backend, main, server.server.address.port)
    assert gate.bodies == [b"once\r\n", b"twice\r\n"]


@pytest.mark.parametrize("backend", LOOPS)
def test_pool_belongs_to_one_event_loop(backend: str) -> None:
    async def send(pool: Any, body: bytes) -> None:
        await pool.send(body, SENDER, ONE)
        async with pool.client() as client:
            await client.aclose()

    gate = Gate()
    with running("threads", gate.app, config=CONFIG) as server:
        pool = pool_of(backend, server.server.address.port)
        run_in(backend, send, pool, b"once")
        with pytest.raises(RuntimeError, match="the pool was used in another event loop before"):
            run_in(backend, send, pool, b"twice")
    assert gate.bodies == [b"once\r\n"]


@pytest.mark.parametrize("silent", [False, True], ids=["421", "close"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_message_is_delivered_once_or_reported(backend: str, silent: bool) -> None:
    storm = Storm(messages=200, silent=silent, dropped=6)
    outcome = storm.run(backend)
    assert report_of(storm, outcome) == []
    assert len(outcome) == 200
