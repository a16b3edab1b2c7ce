"""Listening sockets: TCP, Unix, and inherited from systemd."""

import errno
import fcntl
import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from smtpcore import Config
from smtpcore_adapters import Address, App, Listener, inherited_sockets
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._listeners import accept_from, addresses_of, listening


@pytest.fixture
def port_in_use() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as port_in_use:
        yield port_in_use


# TCP


def test_error_of_an_unknown_host_names_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror) as caught, listening([Listener(25, "nowhere.example")]):
        raise AssertionError
    assert caught.value.filename == "nowhere.example"


def test_port_0_picks_a_free_port() -> None:
    with listening([Listener(), Listener()]) as opened:
        first, second = addresses_of(opened)
        assert first.host == second.host == "127.0.0.1"
        assert 0 < first.port != second.port > 0
        assert not any(source.getblocking() for source, _ in opened)
    assert [source.fileno() for source, _ in opened] == [-1, -1]


def test_error_about_a_port_in_use_names_the_address_and_closes_all_sockets(port_in_use: socket.socket) -> None:
    port = port_in_use.getsockname()[1]
    with (
        socket.create_server(("127.0.0.1", 0)) as bound,
        pytest.raises(OSError, match=f"'127.0.0.1:{port}'") as caught,
        listening([Listener(bound=bound), Listener(port)]),
    ):
        raise AssertionError
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == "Address already in use"
    assert bound.fileno() == -1


def test_server_listens_on_a_link_local_address_with_its_interface(link_local: str) -> None:
    with listening([Listener(host=link_local)]) as opened:
        (source, _), (address,) = opened[0], addresses_of(opened)
        assert address == Address(link_local.partition("%")[0], source.getsockname()[1])


@pytest.mark.parametrize("host", [None, "", "::"])
def test_unspecified_host_listens_on_all_addresses_with_one_port(host: str | None) -> None:
    with listening([Listener(host=host)]) as opened:
        hosts = [address.host for address in addresses_of(opened)]
        ports = {address.port for address in addresses_of(opened)}
    assert sorted(hosts) in (["0.0.0.0", "::"], ["0.0.0.0"])
    assert len(ports) == 1


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def resolve(host: object, port: int, **options: Any) -> Any:
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (each, port))
            for family, each in zip(families, addresses, strict=True)
            for _ in range(2)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_address_that_the_machine_lacks_is_skipped_if_another_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "2001:db8::1", "127.0.0.1")
    with listening([Listener(host="mx.example")]) as opened:
        assert [address.host for address in addresses_of(opened)] == ["127.0.0.1"]

    resolve_to(monkeypatch, "2001:db8::1")
    with pytest.raises(OSError, match="2001:db8::1"), listening([Listener(host="mx.example")]):
        raise AssertionError


def test_address_family_that_the_machine_lacks_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoIPv6(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **options: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **options)

    resolve_to(monkeypatch, "::", "127.0.0.1")
    monkeypatch.setattr(socket, "socket", NoIPv6)
    with listening([Listener(host=None)]) as opened:
        assert [address.host for address in addresses_of(opened)] == ["127.0.0.1"]


def test_port_0_picks_a_port_that_is_free_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[tuple[str, int]] = []

    class Busy(socket.socket):
        def bind(self, address: Any) -> None:
            tries.append(address)
            if address[0] == "127.0.0.2" and len(tries) < 6:
                raise OSError(errno.EADDRINUSE, "Address already in use")
            super().bind(address)

    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(socket, "socket", Busy)
    with listening([Listener(host="mx.example")]) as opened:
        first, second = addresses_of(opened)
        assert (first.host, second.host) == ("127.0.0.1", "127.0.0.2")
        assert first.port == second.port
    assert len(tries) == 6

    tries.clear()
    with pytest.raises(OSError, match="in use"), listening([Listener(first.port, host="mx.example")]):
        raise AssertionError
    assert len(tries) == 2


def test_search_for_a_free_port_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket, "socket", Busy)
    with pytest.raises(OSError, match="in use"), listening([Listener()]):
        raise AssertionError


def test_reuse_port_allows_several_sockets_at_one_port() -> None:
    with listening([Listener(reuse_port=True)]) as opened:
        (address,) = addresses_of(opened)
        with listening([Listener(address.port, reuse_port=True)]) as other:
            assert addresses_of(other) == (address,)
        with pytest.raises(OSError, match="in use"), listening([Listener(address.port)]):
            raise AssertionError


def test_server_listens_on_a_bound_socket() -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    with listening([Listener(bound=bound)]) as opened, socket.create_connection(bound.getsockname()) as client:
        assert addresses_of(opened) == (Address(*bound.getsockname()),)
        bound.setblocking(True)
        connection, peer = accept_from(bound)
        with connection:
            assert peer == Address(*client.getsockname())
            assert not connection.getblocking()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert bound.fileno() == -1


def test_accepted_sockets_have_nodelay() -> None:
    unspecified = socket.create_server(("127.0.0.1", 0))  # created with protocol 0 instead of TCP
    with listening([Listener(), Listener(bound=unspecified)]) as opened:
        for each, _ in opened:
            with socket.create_connection(each.getsockname()):
                connection, _ = each.accept()
                with connection:
                    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Unix sockets


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_unix_socket_has_its_mode_and_is_removed_on_exit(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with listening([Listener(path=str(path))]) as opened:
        assert addresses_of(opened) == (Address(str(path)),)
        assert mode(path) == 0o600
    assert not path.exists()

    with listening([Listener(path=str(path), mode=0o666)]):
        assert mode(path) == 0o666
        path.unlink()  # as a clean-up job would do


@pytest.mark.parametrize("number", [True, False])
def test_unix_socket_is_given_to_a_user_and_a_group(tmp_path: Path, number: bool) -> None:
    path = tmp_path / "smtp"
    user, group = os.getuid(), os.getgid()
    owner = str(user) if number else pwd.getpwuid(user).pw_name
    members = str(group) if number else grp.getgrgid(group).gr_name
    with listening([Listener(path=str(path), owner=owner, group=members)]):
        assert (path.stat().st_uid, path.stat().st_gid) == (user, group)


@pytest.mark.parametrize(
    ("owner", "group", "error"),
    [
        ("nobody-here", None, "no such user"),
        (None, "nobody-here", "no such group"),
        ("99999999999999999999", None, "too large|greater than maximum"),
    ],
)
def test_unknown_owner_of_a_unix_socket_is_an_error(
    tmp_path: Path, owner: str | None, group: str | None, error: str
) -> None:
    path = tmp_path / "smtp"
    listener = Listener(path=str(path), owner=owner, group=group)
    with pytest.raises(OSError, match=error) as caught, listening([listener]):
        raise AssertionError
    assert caught.value.filename == str(path)
    assert not path.exists()


def test_owner_that_this_user_may_not_set_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, user: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(shutil, "chown", refuse)
    path = str(tmp_path / "smtp")
    with pytest.raises(PermissionError, match="not permitted") as caught, listening([Listener(path=path, owner="0")]):
        raise AssertionError
    assert caught.value.filename == path


def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listening([Listener(path=str(path))]), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_unix_socket_in_use_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with ExitStack() as stack:
        other = stack.enter_context(socket.socket(socket.AF_UNIX))
        other.bind(str(path))
        other.listen(0)
        for _ in range(4):  # until the queue of the other listener is full
            with pytest.raises(OSError, match="in use"), listening([Listener(path=str(path))]):
                raise AssertionError
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        client.connect_ex(str(path))
        with pytest.raises(OSError, match="in use"), listening([Listener(path=str(path))]):
            raise AssertionError
        assert path.exists()


def test_regular_file_at_the_socket_path_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    path.write_text("precious")
    with pytest.raises(OSError, match="is not a socket"), listening([Listener(path=str(path))]):
        raise AssertionError
    assert path.read_text() == "precious"


def test_unix_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with ExitStack() as stack:
        with listening([Listener(path=str(path))]):
            path.unlink()
            successor = stack.enter_context(socket.socket(socket.AF_UNIX))
            successor.bind(str(path))
        assert path.exists()


@pytest.mark.parametrize("path", ["nowhere/smtp", "x" * 200])
def test_error_about_an_invalid_socket_path_names_the_path(path: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=path), listening([Listener(path=str(tmp_path / path))]):
        raise AssertionError


# Sockets of systemd


PRINT_INHERITED = """
import os, socket, sys
from smtpcore_adapters import inherited_sockets
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
for number, place in enumerate(sys.argv[2:]):
    os.dup2(int(place), 3 + number)
try:
    for name in (None, "smtp", "submission", "unknown", "other"):
        found = inherited_sockets(name)
        print(name, *(each.getsockname()[1] for each in found), *(each.get_inheritable() for each in found))
        for each in found:
            each.detach()
except ValueError as exc:
    print(exc)
"""


def run_inheriting(*sockets: Any, names: str | None = None, offset: int = 0) -> list[str]:
    """Run the program with these sockets as file descriptors 3 and up, as systemd does."""
    places = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100) for each in sockets]
    names_given = {} if names is None else {"LISTEN_FDNAMES": names}
    try:
        done = subprocess.run(
            [sys.executable, "-c", PRINT_INHERITED, str(offset), *map(str, places)],
            env={**os.environ, "LISTEN_FDS": str(len(sockets)), **names_given},
            pass_fds=places,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for place in places:
            os.close(place)
    return done.stdout.splitlines()


def test_inherited_sockets_are_found_in_order_and_by_name(port_in_use: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = [port_in_use.getsockname()[1], other.getsockname()[1]]
        assert run_inheriting(port_in_use, other, names="smtp:submission") == [
            f"None {ports[0]} {ports[1]} False False",
            f"smtp {ports[0]} False",
            f"submission {ports[1]} False",
            "unknown",
            "other",
        ]
        assert run_inheriting(port_in_use, other)[0] == f"None {ports[0]} {ports[1]} False False"
        assert run_inheriting(port_in_use)[3] == f"unknown {ports[0]} False"


def test_sockets_passed_to_another_process_are_ignored(
    port_in_use: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_inheriting(port_in_use, names="smtp", offset=1) == ["None", "smtp", "submission", "unknown", "other"]
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert inherited_sockets() == ()


def test_inherited_descriptor_other_than_a_stream_socket_is_an_error() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, open(os.devnull) as file:
        assert run_inheriting(datagrams) == ["the inherited file descriptor 3 is not a stream socket"]
        assert run_inheriting(file) == ["the inherited file descriptor 3 is not a socket"]


def inherit(monkeypatch: pytest.MonkeyPatch, *sockets: Any, names: str | None = None) -> None:
    """Pretend that this process inherited these sockets, starting at a file descriptor other than 3."""
    start = 500 + os.getpid() % 100 * 4
    for number, each in enumerate(sockets, start):
        os.dup2(each.fileno(), number)
    monkeypatch.setattr("smtpcore_adapters.server._listeners._FIRST_INHERITED", start)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(sockets)))
    monkeypatch.delenv("LISTEN_FDNAMES", raising=False)
    if names is not None:
        monkeypatch.setenv("LISTEN_FDNAMES", names)


def test_server_listens_on_an_inherited_socket(port_in_use: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    inherit(monkeypatch, port_in_use, names="smtp")
    assert inherited_sockets("submission") == ()
    (inherited,) = inherited_sockets("smtp")
    with listening([Listener(bound=inherited)]) as opened:
        assert addresses_of(opened) == (Address(*port_in_use.getsockname()),)


def test_inherited_descriptor_other_than_a_stream_socket_is_an_error_in_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = socket.socketpair()
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, open(os.devnull) as file, one, other:
        for each, complaint in ((datagrams, "not a stream socket"), (file, "not a socket"), (one, "is a connection")):
            inherit(monkeypatch, each)
            with pytest.raises(ValueError, match=complaint):
                inherited_sockets()
            os.close(500 + os.getpid() % 100 * 4)


# The acceptor


@pytest.mark.parametrize(("port", "options"), [(25, {}), (0, {"host": "::1"}), (0, {"host": None})])
def test_port_or_host_together_with_listeners_is_a_value_error(port: int, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="leave port and host out"):
        Acceptor(App(), port, listeners=[Listener(25)], **options)


def test_empty_listeners_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="listeners is empty"):
        Acceptor(App(), listeners=[])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"path": "/run/x", "port": 25}, "leave them out"),
        ({"path": "/run/x", "host": None}, "leave them out"),
        ({"path": "/run/x", "reuse_port": True}, "leave them out"),
        ({"bound": None, "port": 25}, "leave them out"),
        ({"bound": None, "path": "/run/x"}, "exclude each other"),
        ({"port": 25, "mode": 0o666}, "mode, owner and group have no effect without path"),
        ({"port": 25, "owner": "root"}, "have no effect without path"),
        ({"path": ""}, "the path of a listener is empty"),
    ],
)
def test_listener_with_fields_that_exclude_each_other_is_a_value_error(fields: dict[str, Any], error: str) -> None:
    with socket.socket() as bound, pytest.raises(ValueError, match=error):
        Listener(**(fields | {"bound": bound} if "bound" in fields else fields))


def test_unknown_field_of_a_listener_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match=r"'prot' is not a field of Listener. The nearest is 'port'; use one of bound, "
    ):
        Listener(prot=25)  # type: ignore[call-arg]


def test_acceptor_listens_on_its_port_or_its_listeners() -> None:
    assert Acceptor(App(), 25, host="192.0.2.1").listeners == (Listener(25, "192.0.2.1"),)
    listeners = [Listener(25), Listener(587, config=Config(hostname="submission.example"))]
    assert Acceptor(App(), listeners=iter(listeners)).listeners == tuple(listeners)


def test_listener_with_implicit_tls_needs_a_context() -> None:
    with pytest.raises(ValueError, match="implicit_tls needs an SSLContext"):
        Acceptor(App(), listeners=[Listener(25), Listener(465, implicit_tls=True)])


@pytest.mark.parametrize(("name", "options"), [("AF_UNIX", {"path": "smtp"}), ("SO_REUSEPORT", {"reuse_port": True})])
def test_listener_that_the_system_does_not_support_is_an_error(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, name)
    with pytest.raises(ValueError, match="this system has no"):
        Listener(**options)
