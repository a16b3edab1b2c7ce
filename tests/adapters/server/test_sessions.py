"""`Sessions`: sessions of one server in an event loop of one's own."""

import socket
import threading
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore_adapters import App, Limits, Listener
from smtpcore_adapters.embedding import Sessions, complete
from smtpcore_adapters.streams._blocking import BlockingStream
from tests.adapters.fakes import CONFIG


class Connected:
    """A session in a thread, and the socket of its client."""

    def __init__(self, sessions: Sessions) -> None:
        mine, self.socket = socket.socketpair()
        self.socket.settimeout(10)
        self.stream = BlockingStream(mine)
        self.error: BaseException | None = None
        self._sessions = sessions
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.greeting = self.socket.recv(1000)

    def _run(self) -> None:
        try:
            complete(self._sessions.run(self.stream))
        except BaseException as exc:
            self.error = exc

    def end(self) -> bytes:
        rest = b"".join(iter(lambda: self.socket.recv(1000), b""))
        self.socket.close()
        self._thread.join(10)
        return rest


def test_drain_ends_each_session_with_421() -> None:
    sessions = Sessions(App(), config=CONFIG)
    client = Connected(sessions)
    sessions.drain()
    assert client.end().startswith(b"421 4.3.2 ")
    late = Connected(sessions)
    assert late.greeting.startswith(b"421 ")
    late.end()


def test_sessions_share_the_limits() -> None:
    sessions = Sessions(App(), config=CONFIG, limits=Limits(connections=1))
    client, other = Connected(sessions), Connected(sessions)
    assert client.greeting.startswith(b"220 ")
    assert other.greeting.startswith(b"421 ")
    other.end()
    client.socket.sendall(b"QUIT\r\n")
    assert client.end().startswith(b"221 ")


def test_system_exit_of_a_handler_ends_all_sessions() -> None:
    app = App()

    @app.on("NOOP")
    def leave(session: Any, noop: Any) -> Reply:
        raise SystemExit(3)

    sessions = Sessions(app, config=CONFIG)
    client, idle = Connected(sessions), Connected(sessions)
    client.socket.sendall(b"NOOP\r\n")
    client.end()
    assert isinstance(client.error, SystemExit)
    assert idle.end().startswith(b"421 ")
    assert idle.error is None


@pytest.mark.parametrize("options", [{"host": "::1"}, {"grace": 3}, {"listeners": [Listener()]}])
def test_option_without_effect_is_an_error(options: Any) -> None:
    with pytest.raises(TypeError, match="has no effect, because your own loop"):
        Sessions(App(), **options)
