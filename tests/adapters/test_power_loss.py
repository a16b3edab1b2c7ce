"""Durability of the Maildir store: a simulated power loss after each system call, and syncs that fail or hang.

The simulated disk records what the store does. After a power loss, all synced data is on the disk. Each write and each
change of a directory that was not synced may be on the disk or not, in any combination, because systems write in any
order.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from smtpcore_adapters import maildir
from smtpcore_adapters.maildir import Maildir
from tests.adapters.fakes import CONFIG, DATA, ENVELOPE, MAIL, QUIT, RCPT, accepting
from tests.adapters.harness import running
from tests.adapters.playbook import session

TEXT = b"Subject: x\n\n" + (b"y" * 78 + b"\n") * 4000  # needs more than one write


@dataclass(frozen=True)
class Write:
    """Octets that were written to a file."""

    file: int
    start: int
    data: bytes


@dataclass(frozen=True)
class Change:
    """A change of directories: an entry that appeared, or was moved or removed."""

    old: Path | None
    new: Path | None
    file: int
    """The file at this entry; 0 for a directory."""


@dataclass(frozen=True)
class Sync:
    """A sync of a file or of a directory."""

    target: int | Path


class Reply:
    """The positive reply to a message."""


class SimulatedDisk:
    """Records the calls of `os` that change a directory and its files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, *, ignores: Callable[[int | Path], bool]) -> None:
        self.calls: list[Write | Change | Sync | Reply] = []
        self.root = root
        self._ignores = ignores
        """Whether a sync of this target has no effect."""
        self._targets: dict[int, int | Path] = {}
        """The file or directory of each open descriptor."""
        self._sizes: dict[int, int] = {}
        self._files: dict[Path, int] = {}
        self._real = {
            name: getattr(os, name) for name in ("open", "write", "fsync", "close", "rename", "unlink", "mkdir")
        }
        monkeypatch.setattr(maildir, "_full_sync", None)
        for name in self._real:
            monkeypatch.setattr(os, name, getattr(self, f"_{name}"))

    def _open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        descriptor: int = self._real["open"](path, flags, *args, **options)
        if self._is_inside(path) and flags & os.O_DIRECTORY:
            self._targets[descriptor] = Path(path)
        elif self._is_inside(path):
            file = self._targets[descriptor] = len(self._sizes) + 1
            self._sizes[file] = 0
            self._files[Path(path)] = file
            self.calls.append(Change(None, Path(path), file))
        return descriptor

    def _write(self, descriptor: int, data: Any) -> int:
        written: int = self._real["write"](descriptor, data)
        file = self._targets.get(descriptor)
        if isinstance(file, int):
            self.calls.append(Write(file, self._sizes[file], bytes(data[:written])))
            self._sizes[file] += written
        return written

    def _fsync(self, descriptor: int) -> None:
        self._real["fsync"](descriptor)
        target = self._targets.get(descriptor)
        if target is not None and not self._ignores(target):
            self.calls.append(Sync(target))

    def _close(self, descriptor: int) -> None:
        self._targets.pop(descriptor, None)
        self._real["close"](descriptor)

    def _rename(self, old: Path, new: Path) -> None:
        self._real["rename"](old, new)
        self._files[new] = self._files.pop(old)
        self.calls.append(Change(old, new, self._files[new]))

    def _unlink(self, path: Any) -> None:
        self._real["unlink"](path)
        if self._is_inside(path):
            self.calls.append(Change(Path(path), None, self._files.pop(Path(path))))

    def _mkdir(self, path: Any, *args: Any) -> None:
        self._real["mkdir"](path, *args)
        if self._is_inside(path):
            self.calls.append(Change(None, Path(path), 0))

    def _is_inside(self, path: Any) -> bool:
        return isinstance(path, Path) and path.is_relative_to(self.root)


def disks(calls: list[Write | Change | Sync | Reply], root: Path) -> Iterator[dict[Path, bytes]]:
    """Yield each possible state of the disk if the power fails after `calls`: the content of each file by its path."""
    lost: list[Write | Change] = []
    for number, call in enumerate(calls):
        if isinstance(call, Write | Change) and not any(_is_synced(call, later) for later in calls[number:]):
            lost.append(call)

    for kept in product((True, False), repeat=len(lost)):
        gone = {id(call) for call, is_kept in zip(lost, kept, strict=True) if not is_kept}
        yield _disk_after([call for call in calls if id(call) not in gone], root)


def _is_synced(call: Write | Change, later: Write | Change | Sync | Reply) -> bool:
    if not isinstance(later, Sync):
        return False
    if isinstance(call, Write):
        return later.target == call.file
    return later.target == (call.new or call.old or Path()).parent


def _disk_after(calls: list[Write | Change | Sync | Reply], root: Path) -> dict[Path, bytes]:
    contents: dict[int, bytearray] = {}
    entries: dict[Path, int] = {}
    for call in calls:
        if isinstance(call, Write):
            content = contents.setdefault(call.file, bytearray())
            content.extend(bytes(max(call.start + len(call.data) - len(content), 0)))  # a write that is lost is a hole
            content[call.start : call.start + len(call.data)] = call.data
        elif isinstance(call, Change):
            if call.old:
                entries.pop(call.old, None)
            if call.new:
                entries[call.new] = call.file

    def exists(directory: Path) -> bool:
        return directory == root or (directory in entries and exists(directory.parent))

    return {path: bytes(contents.get(file, b"")) for path, file in entries.items() if file and exists(path.parent)}


def losses(disk: SimulatedDisk, text: bytes) -> list[str]:
    """Return the possible damage by a power loss after any call: lost accepted messages, and broken messages."""
    found: set[str] = set()
    for end in range(len(disk.calls) + 1):
        calls = disk.calls[:end]
        accepted = sum(isinstance(call, Reply) for call in calls)
        for contents in disks(calls, disk.root):
            stored = [content for path, content in contents.items() if path.parent.name == "new"]
            found |= {"broken"} if any(not content.endswith(text) for content in stored) else set()
            found |= {"gone"} if len(stored) < accepted else set()
    return sorted(found)


def deliver(disk: SimulatedDisk, messages: int = 2) -> list[int]:
    """Create a Maildir on the disk, deliver messages into it, and return the codes of the replies to them."""
    dialogue = session(accepting(Maildir(disk.root / "Maildir")))
    sends = dialogue.stream.send

    async def send(data: bytes, timeout: float) -> None:
        disk.calls += [Reply()] * data.count(b"250 2.0.0 Stored")
        await sends(data, timeout)

    dialogue.stream.send = send  # type: ignore[method-assign]
    wire = TEXT.replace(b"\n", b"\r\n")
    for start in (ENVELOPE, *[MAIL + RCPT + DATA] * (messages - 1)):
        dialogue.send(start, wire[:300_000], wire[300_000:], b".\r\n")
    dialogue.send(QUIT)
    return [code for before, code in zip(dialogue.codes, dialogue.codes[1:], strict=False) if before == 354]


def none(target: int | Path) -> bool:
    return False


def test_power_loss_loses_no_accepted_message_and_leaves_no_broken_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimulatedDisk(monkeypatch, tmp_path, ignores=none)
    assert deliver(disk) == [250, 250]
    assert sum(isinstance(call, Write) and bool(call.data) for call in disk.calls) >= 4
    assert losses(disk, TEXT) == []


@pytest.mark.parametrize(
    ("ignores", "expected"),
    [
        pytest.param(lambda target: True, ["broken", "gone"], id="all"),
        pytest.param(lambda target: isinstance(target, int), ["broken"], id="files"),
        pytest.param(lambda target: isinstance(target, Path), ["gone"], id="directories"),
        pytest.param(lambda target: isinstance(target, Path) and target.name == "new", ["gone"], id="new"),
        pytest.param(lambda target: isinstance(target, Path) and target.name == "Maildir", ["gone"], id="Maildir"),
    ],
)
def test_simulation_notices_syncs_without_effect(
    ignores: Callable[[int | Path], bool], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimulatedDisk(monkeypatch, tmp_path, ignores=ignores)
    assert deliver(disk, messages=1) == [250]
    assert losses(disk, TEXT) == expected


@pytest.mark.parametrize("place", ["tmp", "new"])
def test_power_loss_after_a_failed_sync_leaves_no_broken_message(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(target: int | Path) -> bool:
        if not is_armed or (isinstance(target, int)) != (place == "tmp"):
            return False
        raise OSError("the disk is broken")

    is_armed = False
    disk = SimulatedDisk(monkeypatch, tmp_path, ignores=fail)
    Maildir(tmp_path / "Maildir")
    is_armed = True
    assert deliver(disk, messages=1) == [451]
    assert losses(disk, TEXT) == []


def test_message_is_accepted_after_a_hanging_sync_only(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    fsync = os.fsync

    def hang(descriptor: int) -> None:
        hangs.set()
        assert goes_on.wait(10)
        fsync(descriptor)

    box = tmp_path / "Maildir"
    with running(backend, accepting(Maildir(box)), config=CONFIG) as server, server.connect() as client:
        monkeypatch.setattr(maildir, "_full_sync", None)
        monkeypatch.setattr(os, "fsync", hang)
        try:
            client.send(ENVELOPE).expect(220, 250, 250, 250, 354)
            client.send(b"Subject: x\r\n\r\n.\r\n")
            assert hangs.wait(10)
            with server.connect() as other:
                other.send(b"NOOP\r\n" + QUIT).expect(220, 250, 221)
            assert list((box / "new").iterdir()) == []
            client.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.socket.recv(1)
            client.socket.settimeout(10)
        finally:
            goes_on.set()
        client.expect(250)
    assert len(list((box / "new").iterdir())) == 1
