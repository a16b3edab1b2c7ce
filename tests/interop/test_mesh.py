"""Real servers relay messages through `smtpcore serve --deliver` to real servers, with the same results as directly."""

import re
import smtplib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.adapters.command import Running, running, split_trace
from tests.interop import relays, servers
from tests.interop.clients import CLIENTS, Job, MailClient
from tests.interop.relays import Hop, Outcome, Relay
from tests.interop.servers import RECIPIENTS, MailServer, wait_until
from tests.long import long

SENDER = "s@client.example"
A, B, C = RECIPIENTS
NOBODY, LATER = "nobody@example.org", "later.WAY@example.org"


@dataclass(frozen=True)
class Kind:
    """A kind of message. `WAY` in the message and in recipients stands for the way that the message takes."""

    body: bytes = b"Hello.\r\n"
    header: bytes = b""
    sender: str = SENDER
    recipients: tuple[str, ...] = (A,)
    mail: tuple[str, ...] = ()
    """Parameters of MAIL."""
    rcpt: tuple[str, ...] = ()
    """Parameters of each RCPT."""

    def message(self, name: str, way: str) -> bytes:
        head = f"Message-ID: <{message_id(name, way)}>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        head += "From: s@client.example\r\nTo: a@example.org\r\nSubject: parrots\r\n"
        return head.encode() + self.header + b"\r\n" + self.body

    def recipients_by(self, way: str) -> list[str]:
        return [recipient.replace("WAY", way) for recipient in self.recipients]


MIME = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
KINDS = {
    "plain": Kind(),
    "octets beyond ASCII": Kind("Grüße\r\n".encode() + b"\xff\xfe\r\n", MIME, mail=("BODY=8BITMIME",)),
    "octets beyond ASCII without BODY": Kind("Grüße\r\n".encode(), MIME),
    "addresses beyond ASCII": Kind(
        sender="grüße@client.example", recipients=("größe@example.org",), mail=("SMTPUTF8", "BODY=8BITMIME")
    ),
    "header beyond ASCII": Kind(header="X-Name: Grüße\r\n".encode(), mail=("SMTPUTF8", "BODY=8BITMIME")),
    "notifications": Kind(mail=("RET=HDRS", "ENVID=QQ+2B314159"), rcpt=("NOTIFY=SUCCESS,FAILURE",)),
    "original recipient": Kind(rcpt=("NOTIFY=NEVER", "ORCPT=rfc822;other+2Bone@example.net")),
    "long header lines": Kind(header=b"X-Long: " + b"y" * 900 + b"\r\nX-Folded:" + b"\r\n " * 200 + b"end\r\n"),
    "long body lines": Kind(b"x" * 990 + b"\r\n" + b"z" * 998 + b"\r\n"),
    "lines over 998 octets": Kind(b"y " * 2000 + b"\r\n"),
    "dots": Kind(b".\r\n..\r\n.a\r\n...\r\nend\r\n.\r\n"),
    "bare LF": Kind(b"one\ntwo\n.\nthree\n\n..four\n"),
    "bare CR": Kind(b"one\rtwo\r\r\nthree\r\n"),
    "blanks at the ends of lines": Kind(b"a \r\n\t\r\n \r\nb\t\r\n"),
    "empty body": Kind(b""),
    "empty lines": Kind(b"\r\n\r\n\r\nend\r\n\r\n\r\n"),
    "large": Kind(b"".join(b"%08d %s\r\n" % (number, b"x" * 66) for number in range(26_000))),
    "null sender": Kind(sender=""),
    "one of many recipients refused": Kind(recipients=(A, NOBODY, B, C)),
    "unknown recipient": Kind(recipients=(NOBODY,)),
    "deferred recipient": Kind(recipients=(LATER,)),
    "one of several recipients deferred": Kind(recipients=(A, LATER, B)),
    "refused message": Kind(header=b"X-Refuse: yes\r\n"),
    "refused message to several recipients": Kind(header=b"X-Refuse: yes\r\n", recipients=(A, B)),
}
FEW_KINDS = ("plain", "dots", "one of many recipients refused")


def message_id(name: str, way: str) -> str:
    return f"{name.replace(' ', '.')}.{way}@mesh.example"


CHANGED_BY_RELAYS = {"bare LF", "bare CR", "lines over 998 octets"}


@dataclass(frozen=True)
class Result:
    """All that can be seen of a message: the replies, and the delivered copies without trace fields."""

    outcomes: list[Outcome]
    copies: list[bytes] = field(repr=False)


def send(relay: Relay, name: str, way: str) -> None:
    kind = KINDS[name]
    with smtplib.SMTP("127.0.0.1", relay.ports[way], "client.example", timeout=servers.TIMEOUT) as smtp:
        refused = smtp.sendmail(
            kind.sender, kind.recipients_by(way), kind.message(name, way), list(kind.mail), list(kind.rcpt)
        )
    assert refused == {}


@dataclass
class Mesh:
    """A relay, and the server to which it sends by two ways."""

    relay: Relay
    server: MailServer
    copies: dict[Path, tuple[bytes, bytes]] = field(default_factory=dict)
    """The header and the body of each delivered file, with LF line ends."""

    def result(self, name: str, way: str) -> Result:
        """Wait for the result of a message."""
        marker = message_id(name, way)
        outcomes = self.relay.outcomes(marker, KINDS[name].recipients_by(way))
        expected = sum(outcome.verdict == "sent" for outcome in outcomes)
        mark = f"\nMessage-ID: <{marker}>\n".encode()

        def find() -> list[bytes] | None:
            for path in self.server.messages():
                if path not in self.copies:
                    header, _, body = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
                    self.copies[path] = header, body
            found = [without_trace(header) + body for header, body in self.copies.values() if mark in header]
            return found if len(found) >= expected else None

        copies = wait_until(find, lambda: f"{self.server.name} did not deliver {marker}:\n{self.server.log()}")
        return Result(
            [replace_way(outcome, way) for outcome in outcomes],
            sorted(copy.replace(way.encode(), b"WAY") for copy in copies),
        )


def replace_way(outcome: Outcome, way: str) -> Outcome:
    return Outcome(
        *(text.replace(way, "WAY") for text in (outcome.recipient, outcome.verdict, outcome.code, outcome.after))
    )


def without_trace(header: bytes) -> bytes:
    """Return a header without `Received:`."""
    fields = re.split(rb"\n(?![ \t])", header)
    return b"\n".join(each for each in fields if not each.lower().startswith(b"received:")) + b"\n\n"


KNOWN: dict[str, dict[str, str]] = {
    "dovecot": {
        "one of several recipients deferred": (
            "Dovecot refuses this recipient after the body. A client of SMTP gets one reply for all recipients, here a"
            " temporary refusal, so the others get the message twice"
        ),
    },
}
"""Kinds with other results through smtpcore, with the reason, by the server."""
BACKENDS = {"postfix": "asyncio", "exim4": "trio", "opensmtpd": "threads", "dovecot": "asyncio"}
"""The backend of `smtpcore serve` in front of each server."""


def as_passed_on(outcome: Outcome) -> Outcome:
    """Return the outcome of a reply that smtpcore passes on, which adds a missing enhanced code (RFC 2034)."""
    return replace(outcome, code=re.sub(r"\A([245])(\d\d)\Z", r"\1\2 \1.0.0", outcome.code))


@pytest.mark.parametrize("relay_name", relays.NAMES)
def test_a_few_kinds_of_messages_arrive_through_smtpcore_as_they_do_directly(relay_name: str, tmp_path: Path) -> None:
    assert differences(relay_name, "exim4", tmp_path, FEW_KINDS) == {}


@long
@pytest.mark.parametrize("server_name", ["postfix", "exim4", "opensmtpd", "dovecot"])
@pytest.mark.parametrize("relay_name", relays.NAMES)
def test_messages_arrive_through_smtpcore_as_they_do_directly(
    relay_name: str, server_name: str, tmp_path: Path
) -> None:
    different = differences(relay_name, server_name, tmp_path, KINDS)
    assert set(different) == set(KNOWN.get(server_name, ())), "\n\n".join(
        f"{name}:\n{text}" for name, text in different.items()
    )


def differences(relay_name: str, server_name: str, directory: Path, kinds: Iterable[str]) -> dict[str, str]:
    """Return the kinds of messages with another result through smtpcore than directly, with both results."""
    with mesh(relay_name, server_name, directory) as running_mesh:
        for name in kinds:
            for way in relays.WAYS:
                send(running_mesh.relay, name, way)
        results = {name: [running_mesh.result(name, way) for way in relays.WAYS] for name in kinds}

    different = {}
    for name, (direct, middle) in results.items():
        expected = Result([as_passed_on(outcome) for outcome in direct.outcomes], direct.copies)
        if middle != expected:
            different[name] = f"{expected}\n{middle}\n{expected.copies == middle.copies}"
    return different


@long
@pytest.mark.parametrize("relay_name", relays.NAMES)
def test_relays_deliver_to_smtpcore_over_smtp_and_lmtp(relay_name: str, tmp_path: Path) -> None:
    accepted = [item for name in (*RECIPIENTS, "größe@example.org") for item in ("--accept", name)]
    with TemporaryDirectory() as path, ExitStack() as stack:
        directory = Path(path)
        directory.chmod(0o755)
        unix = ["--unix", str(directory / "lmtp"), "--unix-mode", "666"] if relay_name == "postfix" else []
        over_smtp = stack.enter_context(running(tmp_path / "smtp", *accepted, "--self-signed"))
        over_lmtp = stack.enter_context(running(tmp_path / "lmtp", *accepted, "--lmtp", *unix))
        lmtp = Hop(lmtp=True, path=directory / "lmtp") if unix else Hop(over_lmtp.port, lmtp=True)
        relay = stack.enter_context(relays.relay(relay_name, {"direct": Hop(over_smtp.port), "middle": lmtp}))
        for name in KINDS:
            for way in relays.WAYS:
                send(relay, name, way)
        seen = [received(relay, way, server) for way, server in (("direct", over_smtp), ("middle", over_lmtp))]

    assert seen[0] == seen[1]
    for name in KINDS.keys() - CHANGED_BY_RELAYS:
        for copy in seen[0][name].copies:
            assert copy.partition(b"\n\n")[2] == KINDS[name].body.replace(b"\r\n", b"\n")


def received(relay: Relay, way: str, server: Running) -> dict[str, Result]:
    """Return the result of each kind of message, with the content as `smtpcore serve` has stored it."""
    results = {}
    for name, kind in KINDS.items():
        marker = message_id(name, way)
        outcomes = relay.outcomes(marker, kind.recipients_by(way))
        mark = f"\nMessage-ID: <{marker}>\n".encode()
        copies = [split_trace(message)[1] for message in server.messages() if mark in message]
        assert len(copies) == any(outcome.verdict == "sent" for outcome in outcomes)
        contents = [without_trace(header) + body for header, _, body in (copy.partition(b"\n\n") for copy in copies)]
        results[name] = Result(
            [replace_way(outcome, way) for outcome in outcomes],
            [content.replace(way.encode(), b"WAY") for content in contents],
        )
    return results


@contextmanager
def mesh(relay_name: str, server_name: str, directory: Path) -> Iterator[Mesh]:
    """Run a server, `smtpcore serve` in front of it, and a relay that uses both."""
    with middle_of(server_name, directory) as (server, middle):
        hops = {"direct": Hop(server.port, server.lmtp), "middle": Hop(middle.port)}
        with relays.relay(relay_name, hops) as relay:
            yield Mesh(relay, server)


@contextmanager
def middle_of(server_name: str, directory: Path) -> Iterator[tuple[MailServer, Running]]:
    """Run a server, and `smtpcore serve` in front of it."""
    with servers.server(server_name) as server:
        scheme = "lmtp" if server.lmtp else "smtp"
        options = ["--deliver", f"{scheme}://127.0.0.1:{server.port}?announce=true", "--self-signed"]
        options += ["--backend", BACKENDS[server_name]]
        with running(directory, *options) as middle:
            yield server, middle
        assert middle.status == 0
        assert middle.errors == []


# Clients that send octets that no relay would send


WITH_DATA = ("curl", "go", "nodemailer")
WITH_BDAT = ("java",)
"""Clients that use BDAT where it is offered."""
PASSED_ON = {
    "long line": b"x" * 5000 + b"\r\n",
    "no final line end": b"the end",
}
"""Bodies that arrive through smtpcore as they do directly."""
NORMALIZED = {
    # Postfix 3.7 ends the message at LF . LF and takes the rest for commands, OpenSMTPD refuses the message, and Exim
    # turns LF into a blank.
    "LF line ends": (b"one\n.\n..two\n\nthree\n", b"one\n.\n..two\n\nthree"),
    # Postfix turns CR into a blank, Exim into a line end, and OpenSMTPD delivers it.
    "bare CR": (b"one\rtwo\r\nthree\r\n", b"one\ntwo\nthree"),
    # OpenSMTPD accepts the message, and loses the rest of the line and all further lines.
    "NUL": (b"one\0two\r\nthree\r\n", None),
}
"""Bodies with which real servers do different things, and the body that all of them get from smtpcore."""


@dataclass(frozen=True)
class Seen:
    """The result of a message, as the user of the client sees it, and as the server has delivered it."""

    refusals: frozenset[str]
    bodies: list[bytes]


def deliver(client: MailClient, server: MailServer, job: Job, marker: str) -> Seen:
    done = client.send(job)
    if done.returncode:
        refusals = re.findall(r"\b[45]\d\d[ -][45]\.\d+\.\d+\b", done.stdout.decode(errors="replace"))
        return Seen(frozenset(refusals), [])

    return Seen(frozenset(), [server.message(f"Message-ID: <{marker}>").partition(b"\n\n")[2]])


@long
@pytest.mark.parametrize("server_name", ["postfix", "exim4", "opensmtpd"])
def test_octets_that_servers_treat_differently_reach_them_in_one_form(
    server_name: str, build: Path, tmp_path: Path
) -> None:
    with middle_of(server_name, tmp_path / "middle") as (server, middle):

        def send_by(name: str, kind: str, way: str, body: bytes) -> Seen:
            marker = f"{name}.{kind.replace(' ', '.')}.{way}"
            file = tmp_path / "message.eml"
            file.write_bytes(f"Message-ID: <{marker}>\r\nFrom: s@client.example\r\n\r\n".encode() + body)
            port = server.port if way == "direct" else middle.port
            job = Job(port, file, tmp_path, build, (A,), bdat=50 if name in WITH_BDAT else 0)
            return deliver(CLIENTS[name], server, job, marker)

        for name in (*WITH_DATA, *WITH_BDAT):
            for kind, body in PASSED_ON.items():
                assert send_by(name, kind, "middle", body) == send_by(name, kind, "direct", body)
        for name in WITH_DATA:
            for kind, (body, expected) in NORMALIZED.items():
                seen = send_by(name, kind, "middle", body)
                if expected is None:
                    assert seen == Seen(frozenset({"554 5.6.0"}), [])
                else:
                    assert [each.rstrip(b"\n") for each in seen.bodies] == [expected]
