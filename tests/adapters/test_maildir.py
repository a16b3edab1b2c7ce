"""Delivery into a Maildir."""

import errno
import fcntl
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from smtpcore import BareNewlines
from smtpcore_adapters import Address, maildir
from smtpcore_adapters.maildir import Delivery, Maildir
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, QUIT, RCPT, Step, accepting
from tests.adapters.harness import running
from tests.adapters.playbook import SessionPlaybook, session

BODY = b"Subject: x\r\n\r\n.dot\r\n\r\nbytes \xff\xfe\r\n no end of line is touched \r\n"
LINES = BODY.replace(b"\r\n", b"\n")
STUFFED = BODY.replace(b"\r\n.", b"\r\n..") + b".\r\n"

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


def deliver(box: Path, *script: Step, **options: Any) -> SessionPlaybook:
    return session(accepting(Maildir(box)), **options).send(*script).end()


def stored(box: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((box / "new").iterdir())]


def leftovers(box: Path) -> list[Path]:
    return [path for name in ("tmp", "cur") for path in (box / name).iterdir()]


def split(message: bytes) -> tuple[str, bytes]:
    """Split a stored message into the trace fields, up to the date of `Received:`, and the rest."""
    match = re.match(rb"(?s)(.*?\n\t[A-Z][a-z]{2}, [^\n]*\n)(.*)\Z", message)
    assert match
    return match[1].decode(), match[2]


def fields(box: Path) -> str:
    [message] = stored(box)
    return split(message)[0]


# Content


def test_message_is_stored_on_a_system_that_cannot_open_directories(
    box: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Windows cannot open directories.
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.delattr(os, "O_CLOEXEC")
    monkeypatch.setattr(os, "O_BINARY", 0, raising=False)
    deliver(box, ENVELOPE, STUFFED, QUIT)
    assert len(list((box / "new").iterdir())) == 1
    assert "a power loss may remove messages that were accepted" in caplog.text


def test_message_is_stored_unchanged_after_its_trace_fields(box: Path) -> None:
    """R5321-4.4-01"""
    dialogue = deliver(box, ENVELOPE, STUFFED + QUIT, peer=Address("192.0.2.1", 5))
    name = f"{dialogue.session.id}.1"
    assert dialogue.replies[-2] == f"250 2.0.0 Stored as {name}"
    [message] = stored(box)
    trace, content = split(message)
    assert content == LINES
    assert re.fullmatch(
        r"Return-Path: <a@c\.example>\n"
        r"X-Original-To: u@s\.example\n"
        r"Received: from c\.example \(\[192\.0\.2\.1\]\)\n"
        rf"\tby s\.example with ESMTP id {re.escape(name)}\n"
        r"\tfor <u@s\.example>;\n"
        r"\t(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d+ [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\n",
        trace,
    )
    assert leftovers(box) == []


def test_empty_body_is_stored(box: Path) -> None:
    deliver(box, ENVELOPE, b".\r\n")
    assert split(stored(box)[0])[1] == b""


def test_notification_has_a_null_return_path(box: Path) -> None:
    deliver(box, EHLO + b"MAIL FROM:<>\r\n" + RCPT + DATA, STUFFED)
    assert fields(box).startswith("Return-Path: <>\nX-Original-To:")


def test_each_recipient_has_an_x_original_to_field(box: Path) -> None:
    deliver(
        box, EHLO + MAIL + RCPT + b"RCPT TO:<@relay.example:v@s.example>\r\nRCPT TO:<Postmaster>\r\n" + DATA, STUFFED
    )
    trace = fields(box)
    assert re.findall("X-Original-To: (.*)\n", trace) == ["u@s.example", "v@s.example", "Postmaster"]
    assert "\tfor <" not in trace  # RFC 5321 7.2
    assert re.search(r"with ESMTP id \S+;\n\t", trace)


def in_chunks(body: bytes, size: int) -> bytes:
    """Return the BDAT commands that send `body` in chunks of `size` octets."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks) + b"BDAT 0 LAST\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_files_have_lf_line_ends_for_pieces_of_any_size(backend: str, size: int, box: Path) -> None:
    """R5321-4.4-01"""
    content = BODY + b"one\r\n\r\nlast line\r\n"
    with running(backend, accepting(Maildir(box)), config=CONFIG) as server, server.connect() as client:
        client.send(EHLO + MAIL + RCPT).expect(220, 250, 250, 250)
        script = in_chunks(content, size)
        client.send(script).expect(*[250] * (script.count(b"BDAT")))
        client.send(MAIL + RCPT + DATA).expect(250, 250, 354)
        data = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        for start in range(0, len(data), max(size, 7)):
            client.send(data[start : start + max(size, 7)])
        client.expect(250)

    for message in stored(box):
        trace, rest = split(message)
        assert "\r" not in trace
        assert rest == content.replace(b"\r\n", b"\n")
    assert len(stored(box)) == 2


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_bare_cr_that_the_configuration_accepts_is_stored(size: int, box: Path) -> None:
    config = replace(CONFIG, bare_newlines=BareNewlines.ACCEPT)
    content = b"a\rb\r\r\nc\r\nd\r"
    deliver(box, EHLO + MAIL + RCPT + in_chunks(content, size), config=config)
    assert split(stored(box)[0])[1] == b"a\rb\r\nc\nd\r"


def test_crlf_line_ends_are_kept_on_request(box: Path) -> None:
    session(accepting(Maildir(box, line_ends=b"\r\n"))).send(ENVELOPE, STUFFED).end()
    (message,) = stored(box)
    assert message.endswith(BODY)
    assert message.count(b"\n") == message.count(b"\r\n")


def test_maildir_refuses_line_ends_other_than_lf_and_crlf(box: Path) -> None:
    with pytest.raises(ValueError, match="line_ends is"):
        Maildir(box, line_ends=b"\r")


def test_binary_message_is_stored_unchanged(box: Path) -> None:
    content = b"A: b\r\n\r\n\x89PNG\r\n\x1a\n\0"
    mail = MAIL.replace(b"\r", b" BODY=BINARYMIME\r")
    deliver(box, EHLO + mail + RCPT + in_chunks(content, 3))
    (message,) = stored(box)
    assert message.endswith(b"\r\n" + content)


@pytest.mark.parametrize("blank", [b" ", b"\t"])
@pytest.mark.parametrize("size", [1, 1000])
def test_message_that_begins_with_white_space_does_not_continue_the_trace(
    backend: str, blank: bytes, size: int, box: Path
) -> None:
    """R5321-4.4-01"""
    forged = blank + b"(forged) by evil.example\r\nSubject: x\r\n\r\ny\r\n"
    with running(backend, accepting(Maildir(box)), config=CONFIG) as server, server.connect() as client:
        client.send(EHLO + MAIL + RCPT + in_chunks(forged, size)).expect(220, *[250] * (4 + -(-len(forged) // size)))

    (message,) = stored(box)
    assert message.endswith(b"\n\n" + forged.replace(b"\r\n", b"\n"))
    assert b"forged" not in BytesParser().parsebytes(message).get("Received", "").encode()


@pytest.mark.parametrize("size", [1, 1000])
def test_nul_in_a_text_is_refused(size: int, box: Path) -> None:
    dialogue = deliver(box, EHLO + MAIL + RCPT + in_chunks(b"A: b\r\n\r\nx\0y\r\n", size))
    assert any(reply.startswith("554 5.6.0 ") for reply in dialogue.replies)
    assert stored(box) == []
    assert leftovers(box) == []


HELLOS = {
    "SMTP": b"HELO c.example\r\n" + MAIL,
    "ESMTP": EHLO + MAIL,
    "UTF8SMTP": EHLO + "MAIL FROM:<ä@c.example> SMTPUTF8\r\n".encode(),
}


@pytest.mark.parametrize(
    ("asked", "clause"), [("MT-PRIORITY=-3", "PRIORITY -3"), ("MT-PRIORITY=3", "PRIORITY 0"), ("", "")]
)
def test_received_field_has_the_assigned_priority(asked: str, clause: str, box: Path) -> None:
    """R6710-4.1-08"""
    mail = f"MAIL FROM:<a@c.example> {asked}\r\n".encode()
    deliver(box, EHLO + mail + RCPT + DATA, STUFFED, config=replace(CONFIG, disabled=frozenset()))
    assert ("PRIORITY" in fields(box)) is bool(clause)
    assert f"\t{clause}" in fields(box)


@pytest.mark.parametrize(("hops", "code"), [(0, 250), (99, 250), (100, 250), (101, 554)])
def test_message_with_more_than_100_hops_is_refused(hops: int, code: int, box: Path) -> None:
    """R5321-6.3-01, R5321-6.3-02"""
    header = b"Received: by x\r\n\tfrom received: y\r\nrECEIVED: by z\r\n" * (hops // 2) + b"Received: by x\r\n" * (
        hops % 2
    )
    body = header + b"\r\n" + b"Received: by no one\r\n" * 200
    dialogue = deliver(box, ENVELOPE, body + b".\r\n")
    assert dialogue.codes[-1] == code
    assert len(stored(box)) == (code == 250)
    assert not leftovers(box)
    if code == 554:
        assert dialogue.replies[-1].startswith("554 5.4.6 ")


def test_max_hops_is_configurable(box: Path) -> None:
    """R5321-6.3-01"""
    app = accepting(Maildir(box, max_hops=1))
    two = b"Received: by x\r\n" * 2
    assert session(app).send(ENVELOPE, two + b".\r\n", ENVELOPE[len(EHLO) :], two[16:] + b".\r\n").end().codes[5:] == [
        554,
        250,
        250,
        354,
        250,
    ]


@pytest.mark.parametrize("keyword", HELLOS)
def test_received_field_has_the_protocol(keyword: str, box: Path) -> None:
    deliver(box, HELLOS[keyword] + RCPT + DATA, STUFFED)
    assert f"by s.example with {keyword} id" in fields(box)
    assert ("Return-Path: <ä@c.example>" in fields(box)) is (keyword == "UTF8SMTP")


def test_received_field_has_the_tls_version_and_cipher(box: Path) -> None:
    """R8314-4.3-01"""
    options = {"config": replace(CONFIG, starttls=True), "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}
    deliver(box, EHLO, b"STARTTLS\r\n", ENVELOPE, STUFFED, **options)
    assert re.search(r"with ESMTPS id \S+\n\tfor <\S+>\n\ttls TLS_AES_256_GCM_SHA384 \(TLSv1\.3\);\n", fields(box))


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (Address("192.0.2.1", 5), "from c.example ([192.0.2.1])\n"),
        (Address("2001:db8::1", 5), "from c.example ([IPv6:2001:db8::1])\n"),
        (Address("::ffff:192.0.2.1", 5), "from c.example ([192.0.2.1])\n"),
        (Address("/run/smtp"), "from c.example\n"),
        (None, "from c.example\n"),
    ],
)
def test_received_field_has_the_address_of_each_kind_of_peer(peer: Address | None, expected: str, box: Path) -> None:
    deliver(box, ENVELOPE, STUFFED, peer=peer)
    assert f"Received: {expected}" in fields(box)


def test_trace_fields_with_long_names_have_lines_of_at_most_998_octets(box: Path) -> None:
    label = "x" * 60
    domain = ".".join([label] * 4)
    local_part = "y" * 64
    script = f"EHLO {domain}\r\nMAIL FROM:<{local_part}@{domain}>\r\nRCPT TO:<{local_part}@{domain}>\r\n".encode()
    deliver(box, script + DATA, STUFFED, peer=Address("2001:db8:1111:2222:3333:4444:5555:6666", 5))
    assert max(map(len, fields(box).split("\n"))) <= 998


# Directories and file names


def test_directories_are_created_with_mode_700(box: Path) -> None:
    Maildir(str(box / "deeper"))
    for path in (box, box / "deeper", *(box / "deeper" / name for name in ("tmp", "new", "cur"))):
        assert path.stat().st_mode & 0o777 == 0o700 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_existing_maildir_is_used(box: Path) -> None:
    deliver(box, ENVELOPE, STUFFED)
    deliver(box, ENVELOPE, STUFFED)
    assert len(stored(box)) == 2
    assert leftovers(box) == []


@pytest.mark.parametrize("name", [".", "deeper", "tmp", "new", "cur"])
def test_file_in_place_of_a_directory_is_an_error(name: str, box: Path) -> None:
    place = box / name
    if place != box:
        box.mkdir()
    place.write_bytes(b"")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        Maildir(place if name in (".", "deeper") else box)


@needs_permissions
def test_unwritable_directory_is_an_error(box: Path) -> None:  # pragma: no cover
    Maildir(box)
    (box / "tmp").chmod(0o500)
    with pytest.raises(PermissionError):
        Maildir(box)


def test_messages_are_created_with_mode_600(box: Path) -> None:
    deliver(box, ENVELOPE, STUFFED)
    [path] = (box / "new").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 & ~umask()


def test_file_names_are_unique_across_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: maildir._unique_name(), range(2000)))
    assert len(set(names)) == 2000


def test_slash_and_colon_of_the_hostname_are_escaped_in_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a/b:c")
    assert re.fullmatch(r"\d+\.M\d+P\d+Q\d+\.a\\057b\\072c", maildir._unique_name())


@pytest.mark.parametrize("lost", ["", "tmp", "new", "cur"])
def test_deleted_directory_is_created_again(backend: str, lost: str, box: Path) -> None:
    with running(backend, accepting(Maildir(box)), config=CONFIG) as server, server.connect() as client:
        shutil.rmtree(box / lost)
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(STUFFED).expect(250)
    assert split(stored(box)[0])[1] == LINES


def test_directory_deleted_during_a_message_is_a_temporary_refusal(box: Path) -> None:
    dialogue = session(accepting(Maildir(box))).send(ENVELOPE, b"x" * 60_000 + b"\r\n" + (b"y" * 78 + b"\r\n") * 4000)
    shutil.rmtree(box)
    dialogue.send(b".\r\n" + MAIL + RCPT + DATA, b"z\r\n.\r\n")
    assert dialogue.codes[-5:] == [451, 250, 250, 354, 250]
    assert len(stored(box)) == 1


# Order of system calls, and failures


class RecordedDisk:
    """Records the calls of `os` that write below a Maildir, and makes chosen calls fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, box: Path) -> None:
        self.calls: list[str] = []
        self.fails: dict[str, OSError] = {}
        self._box = box
        self._names: dict[int, str] = {}
        for name in ("open", "write", "fsync", "close", "rename"):
            monkeypatch.setattr(os, name, self._watch(name, getattr(os, name)))

    def _watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *args: Any, **options: Any) -> Any:
            if not (isinstance(target, Path) and target.is_relative_to(self._box)) and target not in self._names:
                return function(target, *args, **options)

            entry = f"{name} {self._describe(target)}"
            self.calls.append(entry)
            result: Any = None
            if entry not in self.fails or name == "close":
                result = function(target, *args, **options)
            if entry in self.fails:
                raise self.fails[entry]
            if name == "open":
                self._names[result] = self._describe(target)
            if name == "close":
                del self._names[target]
            return result

        return call

    def _describe(self, target: Any) -> str:
        if isinstance(target, int):
            return self._names[target]

        name = str(target.relative_to(self._box))
        return re.sub(r"\d+\.M.*", "file", name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, box: Path) -> RecordedDisk:
    Maildir(box)
    return RecordedDisk(monkeypatch, box)


def test_message_is_synced_then_renamed_then_answered(box: Path, disk: RecordedDisk) -> None:
    dialogue = session(accepting(Maildir(box)))
    disk.calls.clear()
    sends = dialogue.stream.send

    async def send(data: bytes, timeout: float) -> None:
        if data.startswith(b"250 2.0.0 Stored"):
            disk.calls.append("reply")
        await sends(data, timeout)

    dialogue.stream.send = send  # type: ignore[method-assign]
    dialogue.send(ENVELOPE, STUFFED + QUIT)
    assert disk.calls == [
        "open tmp/file",
        *["write tmp/file"] * disk.calls.count("write tmp/file"),
        "fsync tmp/file",
        "close tmp/file",
        "rename tmp/file",
        "open new",
        "fsync new",
        "close new",
        "reply",
    ]


STEPS = ["open tmp/file", "write tmp/file", "fsync tmp/file", "close tmp/file", "rename tmp/file", "fsync new"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("number", "reply"),
    [
        (errno.ENOSPC, "452 4.3.1 No space left for this message"),
        (errno.EDQUOT, "452 4.3.1 No space left for this message"),
        (errno.EIO, "451 4.3.0 Message {} could not be stored"),
        (errno.EACCES, "451 4.3.0 Message {} could not be stored"),
    ],
)
def test_failed_delivery_is_refused_and_leaves_no_file(
    step: str, number: int, reply: str, box: Path, disk: RecordedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    app = accepting(Maildir(box))
    disk.fails[step] = OSError(number, "the secret of the disk")
    dialogue = session(app).send(ENVELOPE, STUFFED + MAIL + RCPT + DATA, STUFFED + QUIT)
    name = dialogue.session.id
    assert dialogue.codes == [220, 250, 250, 250, 354, int(reply[:3]), 250, 250, 354, int(reply[:3]), 221]
    assert dialogue.replies[5] == reply.format(f"{name}.1")
    assert f"{name}: message {name}.1 could not be stored: [Errno {number}] the secret of the disk" in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert stored(box) == []
    assert leftovers(box) == []


def test_short_write_is_continued(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = accepting(Maildir(box))
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:7])))
    session(app).send(ENVELOPE, STUFFED).end()
    assert split(stored(box)[0])[1] == LINES


@pytest.mark.parametrize(
    "script", [(b"one\r\n",), (b"one\r\n", ConnectionResetError()), (b"x" * 300_000, b"y\nz\r\n.\r\n")]
)
def test_aborted_message_leaves_no_file(script: tuple[Step, ...], box: Path, caplog: pytest.LogCaptureFixture) -> None:
    dialogue = deliver(box, ENVELOPE, *script, config=replace(CONFIG, max_text_line=1_000_000))
    assert dialogue.codes[-1] in (354, 550)
    assert stored(box) == []
    assert leftovers(box) == []
    assert not any(record.exc_info for record in caplog.records)


def test_file_is_removed_even_if_close_fails(box: Path, disk: RecordedDisk, caplog: pytest.LogCaptureFixture) -> None:
    app = accepting(Maildir(box))
    disk.fails["close tmp/file"] = OSError(errno.EIO, "no close")
    disk.fails["write tmp/file"] = OSError(errno.ENOSPC, "no write")
    assert session(app).send(ENVELOPE, STUFFED + QUIT).codes[-2:] == [452, 221]
    assert "no close" in caplog.text
    assert leftovers(box) == []


def test_file_that_cannot_be_removed_is_logged(
    box: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = Delivery(Maildir(box).path)
    delivery.write(b"x")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "no unlink")

    monkeypatch.setattr(Path, "unlink", refuse)
    delivery.discard()
    assert re.search(r"tmp/\S+ could not be deleted: .*no unlink", caplog.text)


def test_new_directories_are_synced(monkeypatch: pytest.MonkeyPatch, box: Path) -> None:
    # A message survives a crash only if the entry of its directory is synced too.
    synced: list[str] = []
    sync = maildir._sync_directory

    def watch(path: Path) -> None:
        synced.append(path.name)
        sync(path)

    monkeypatch.setattr(maildir, "_sync_directory", watch)
    Maildir(box / "deeper")
    assert synced == [box.parent.name, "Maildir", *["deeper"] * 3]
    Maildir(box / "deeper")
    assert len(synced) == 5


def test_large_message_is_written_in_pieces(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = Delivery.write

    def watch(delivery: Delivery, block: bytes) -> None:
        sizes.append(len(block))
        write(delivery, block)

    monkeypatch.setattr(Delivery, "write", watch)
    segment = (b"x" * 998 + b"\r\n") * 64
    count = 20_000_000 // len(segment)
    deliver(box, ENVELOPE, *[segment] * count, b".\r\n" + QUIT)
    [path] = (box / "new").iterdir()
    assert path.stat().st_size > count * len(segment.replace(b"\r\n", b"\n"))
    assert len(sizes) > 50
    assert max(sizes) <= 262_144 + len(segment) + 4


@pytest.mark.parametrize("failure", [None, errno.ENOTSUP, errno.EIO])
def test_full_sync_is_used_where_the_system_has_it(
    failure: int | None, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maildir_of_box = Maildir(box)
    calls: list[str] = []

    def full_sync(file: int, command: int) -> int:
        calls.append(f"fcntl {command}")
        if failure:
            raise OSError(failure, "no sync")
        return 0

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full_sync)
    monkeypatch.setattr(maildir, "_full_sync", maildir._find_full_sync())
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync"))
    dialogue = session(accepting(maildir_of_box)).send(ENVELOPE, STUFFED).end()
    assert dialogue.codes[-1] == (451 if failure == errno.EIO else 250)
    assert calls == {None: ["fcntl 51"] * 2, errno.ENOTSUP: ["fcntl 51", "fsync"] * 2, errno.EIO: ["fcntl 51"]}[failure]
    assert len(stored(box)) == (failure != errno.EIO)
