"""Replay the example dialogues of the RFCs: each group of the client in one segment, and octet by octet."""

import ast
import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    Auth,
    AuthCancel,
    AuthResponse,
    Burl,
    Challenge,
    Config,
    Connection,
    ConnectionOpened,
    Data,
    DataEnd,
    DataLine,
    Ehlo,
    Etrn,
    Event,
    Expn,
    Extension,
    Mail,
    Noop,
    Rcpt,
    Reply,
    State,
    UnknownCommand,
    Vrfy,
    sasl,
)
from tests.paths import DIALOGS

from ..helpers import body, bytewise
from ..playbook import ServerPlaybook, new_server

FILES = sorted(DIALOGS.glob("*.txt"))

NOT_REPLAYED = {
    "rfc2920-4-4-all-rejected-354": "DATA without a recipient is refused, as RFC 2920 3.2 (3) recommends",
}

UNQUALIFIED = "squeaky.sales"
"""An unqualified domain. Only the application can refuse an unqualified domain (RFC 6409 4.2)."""

ATRN = Extension(keyword="ATRN", verbs=frozenset({"ATRN"}))
"""The extension of RFC 2645, as an application may add it."""


# The format


@dataclass
class Turn:
    """The octets that the client sends at once, and the expected replies."""

    sent: bytes = b""
    codes: list[int] = field(default_factory=list)
    exact: dict[int, str] = field(default_factory=dict)
    """The full texts of the replies whose text must match, by their position."""
    keywords: set[str] | None = None
    """The keywords in a positive reply to EHLO."""
    tls: bool = False
    """Whether TLS starts after this turn."""
    reversed: bool = False
    """Whether client and server exchange their roles before this turn."""


@dataclass
class Dialogue:
    header: dict[str, list[str]]
    turns: list[Turn]
    closes: bool


def parse(path: Path) -> Dialogue:
    header: dict[str, list[str]] = defaultdict(list)
    turns = [Turn()]
    grouped = exact = closes = False
    reply: list[str] = []
    lines = iter(path.read_text("ascii").splitlines())
    for line in lines:
        if match := re.fullmatch(r"# server-config: ([a-z-]+)=(.*)", line):
            header[match[1]].append(match[2])
        elif line == "# event: tls-handshake":
            turns[-1].tls = True
        elif line == "# event: roles-reversed":
            turns.append(Turn(reversed=True))
        elif line.startswith("# event: "):
            closes = True
        elif line == "# exact":
            exact = True
        elif line == "<<<PIPELINED":
            grouped = True
            turns.append(Turn())
        elif line == ">>>":
            grouped = False
        elif line.startswith(("C:", "B:")):
            sent = line[3:].encode() + b"\r\n" if line[0] == "C" else octets(next(lines))
            if not grouped and not (line[0] == "B" and not turns[-1].codes):
                turns.append(Turn())
            turns[-1].sent += sent
        elif line.startswith("S: "):
            reply.append(line[3:])
            if line[6:7] != "-":
                end_of_reply(turns[-1], reply, exact)
                reply, exact = [], False
        else:
            assert not line or line.startswith("#"), line
    return Dialogue(header, turns, closes)


def octets(expression: str) -> bytes:
    """Evaluate literals combined with `+` and `*`."""

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(constant):
                return constant
            case ast.BinOp(left, ast.Add(), right):
                return value(left) + value(right)
            case ast.BinOp(left, ast.Mult(), right):
                return value(left) * value(right)
        raise AssertionError(expression)

    result: bytes = value(ast.parse(expression, mode="eval").body)
    return result


def end_of_reply(turn: Turn, lines: list[str], exact: bool) -> None:
    if exact:
        turn.exact[len(turn.codes)] = "\n".join(line.ljust(4) for line in lines)
    turn.codes.append(int(lines[0][:3]))
    if turn.sent[:4].upper() in (b"EHLO", b"LHLO") and lines[0].startswith("250"):
        turn.keywords = {line[4:] for line in lines[1:]}


# The server


class Server:
    """A server with the configuration and the answers in the header of the dialogue file."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.given = dialogue.header
        keywords = self.given["ehlo"] + self.given["ehlo-tls"]
        self.listed = {keyword.partition(" ")[0]: keyword.partition(" ")[2] for keyword in keywords}
        self.book = new_server(
            answer=self.answer,
            config=self.config(),
            extensions=(*EXTENSIONS, ATRN),
            implicit_tls="tls" in self.given,
            cut=False,
        )
        self.conn = self.book.connection
        self.mechanism: sasl.ServerMechanism | None = None
        self.turn = Turn()
        if "tls" in self.given:
            self.book.start_tls()

    def config(self) -> Config:
        known = {extension.keyword for extension in (*EXTENSIONS, ATRN)}
        needed = {"PIPELINING", "ENHANCEDSTATUSCODES"} if self.is_lmtp else set()
        needed |= {"CHUNKING"} if "BINARYMIME" in self.listed else set()
        needed |= {"8BITMIME"} if "SMTPUTF8" in self.listed else set()
        listed = self.given["ehlo"] + self.given["ehlo-tls"]
        mechanisms = {name for line in listed if line.startswith("AUTH ") for name in line.split()[1:]}
        changes: dict[str, Any] = {
            "max_message_size": None,
            "starttls": "STARTTLS" in self.listed or "tls" in self.given,
            "plaintext_auth": True,
            "auth_mechanisms": tuple(sorted(mechanisms)),
            "max_auth_failures": None,
            "require_tls": "require-tls" in self.given,
            "require_auth": self.given["protocol"] == ["submission"] and "AUTH" in self.listed,
            "lmtp": self.is_lmtp,
            "disabled": frozenset(known - set(self.listed) - needed),
        }
        if "BURL" in self.listed:
            changes["burl"] = tuple(self.listed["BURL"].split())
        if "LIMITS" in self.listed:
            changes["max_messages"] = self.limit("MAILMAX")
        if self.listed.get("DELIVERBY"):
            changes["min_by_time"] = int(self.listed["DELIVERBY"])
        if "FUTURERELEASE" in self.listed:
            seconds, until = self.listed["FUTURERELEASE"].split()
            changes |= {"max_hold_for": int(seconds), "max_hold_until": datetime.fromisoformat(until)}
        return Config(hostname=self.given["hostname"][0], **changes)

    def limit(self, name: str) -> int:
        limits = dict(limit.split("=") for limit in self.listed.get("LIMITS", "").split())
        return int(limits.get(name, 1000))

    @property
    def is_lmtp(self) -> bool:
        return self.given["protocol"] == ["lmtp"]

    def answer(self, conn: Connection, event: Event) -> Reply | None:
        match event:
            case Ehlo() if "no-ehlo" in self.given:
                return Reply(502)
            case Noop() if self.turn.exact:
                return self.exact_reply()
            case Etrn():
                return self.reply_from_table("etrn", event.argument)
            case UnknownCommand("ATRN"):
                return self.reply_from_table("atrn", event.argument)
            case Burl():
                return self.fetch(event)
            case Mail() if event.reverse_path.domain == UNQUALIFIED:
                return Reply(554, enhanced="5.1.8")
            case Rcpt() if self.conn.transaction and len(self.conn.transaction.recipients) >= self.limit("RCPTMAX"):
                return Reply(452)
            case DataEnd() if self.has_changed_recipient():
                return Reply(550, enhanced="5.7.17")
            case ConnectionOpened():
                return Reply(int(self.given["greeting"][0]) if self.given["greeting"] else 220)
            case Mail():
                return self.reply_from_table("mail", str(event.reverse_path)) or self.size(event) or Reply(250)
            case Rcpt():
                address = str(event.forward_path)
                return self.reply_from_table("rcpt", address) or self.unwanted(address, event) or Reply(250)
            case Data() if self.given["data-without-rcpt"] == ["354"]:
                return Reply(354)
            case DataEnd() if self.is_lmtp and self.conn.transaction:
                rcpt = self.conn.transaction.recipients[-self.conn.replies_owed]
                return self.reply_from_table("eod-rcpt", str(rcpt.forward_path)) or Reply(250)
            case DataEnd():
                return Reply(250)
            case Vrfy() | Expn() if self.turn.exact:
                return self.exact_reply()
            case Vrfy() if f"{event.argument} 250 utf8-mailbox" in self.given["vrfy"]:
                # RFC 6531 3.7.4.2
                return Reply(250, "<j\u00f6rg@s.example>") if event.smtputf8 else Reply(252, enhanced="2.6.8")
            case Vrfy() | Expn():
                return self.reply_from_table(event.verb.lower(), event.argument) or self.conn.default_reply(event)
            case Auth():
                channel = sasl.Channel(tls=True, external=next(iter(self.given["tls-client-identity"]), None))
                self.mechanism = self.make_mechanism(event.mechanism, channel)
                return self.continue_auth(self.mechanism.start(event.initial_response))
            case AuthResponse() if self.mechanism:
                if self.given["auth"] == ["stub-accept"]:
                    return Reply(235)
                return self.continue_auth(self.mechanism.respond(event.data))
            case AuthCancel():
                self.mechanism = None
        return self.conn.default_reply(event)

    def exact_reply(self) -> Reply:
        return Reply(self.turn.codes[0], *(line[4:] for line in self.turn.exact[0].splitlines()))

    def fetch(self, burl: Burl) -> Reply | None:
        reply = self.reply_from_table("burl", burl.uri)
        if reply and not reply.is_positive:
            return reply
        for data in (b"Subject: fetched\r\n\r\nHi\r\n", b""):
            self.conn.receive_part(data)
        return None

    def has_changed_recipient(self) -> bool:
        # RFC 7293 section 3.2: a header field may replace the parameter.
        known = [row.partition(" ")[0].encode() for row in self.given["rrvs"] if row.endswith(" changed")]
        content = body(event for event in self.book.record if isinstance(event, DataLine))
        return any(b"Require-Recipient-Valid-Since: " + address in content for address in known)

    def size(self, mail: Mail) -> Reply | None:
        limit = int(self.listed.get("SIZE") or 0)
        return Reply(552) if limit and (mail.params.size or 0) > limit else None

    def unwanted(self, address: str, rcpt: Rcpt) -> Reply | None:
        transaction = self.conn.transaction
        sent = str(transaction.mail.params.get("SOLICIT", "")) if transaction else ""
        classes = [row.partition(" ")[2] for row in self.given["solicit-refuse"] if row.startswith(f"{address} ")]
        changed = "RRVS" in rcpt.params and f"{address} changed" in self.given["rrvs"]
        for wanted in classes:
            if wanted in sent:
                return Reply(550, f"<{address}> SOLICIT={wanted}")
        return Reply(550) if changed else None

    def reply_from_table(self, key: str, wanted: str) -> Reply | None:
        for row in self.given[key]:
            name, code, *rest = row.rsplit(" ", 2) if re.search(r" \d{3} [245]\.\d+\.\d+$", row) else row.split(" ", 2)
            if name.lower() == wanted.lower():
                status = rest[0] if rest and re.fullmatch(r"[245]\.\d+\.\d+", rest[0]) else None
                return Reply(int(code), enhanced=status)
        return None

    # Authentication

    def make_mechanism(self, name: str, channel: sasl.Channel) -> sasl.ServerMechanism:
        if name == "CRAM-MD5" and self.given["cram-challenge"]:
            return sasl.CramServer(name, channel, challenge=self.given["cram-challenge"][0].encode())
        if name.startswith("SCRAM-"):
            return sasl.ScramServer(name, channel, nonce=self.given["scram-server-nonce"][0])
        return sasl.make_server(name, channel)

    def continue_auth(self, step: sasl.Step) -> Reply:
        assert self.mechanism
        while not isinstance(step, sasl.Challenge | sasl.Accepted | sasl.Rejected):
            step = self.mechanism.answer(self.answer_question(step))
        match step:
            case sasl.Challenge(data):
                return Challenge(data)
            case sasl.Accepted():
                return Reply(235)
            case sasl.Rejected(reason):
                return Reply(reason.code, enhanced=reason.enhanced)

    def answer_question(self, question: sasl.Question) -> sasl.Answer:
        users = dict(user.split(":", 1) for user in self.given["user"])
        match question:
            case sasl.CheckPassword(username):
                return question.matches(users.get(username))
            case sasl.GivePassword(username):
                return users.get(username)
            case sasl.GiveScramKeys(username, hash_name):
                salt = b64decode(self.given["scram-salt"][0])
                rounds = int(self.given["scram-iterations"][0])
                return sasl.scram_keys(users[username], hash_name=hash_name, salt=salt, iterations=rounds)
            case sasl.CheckToken(_, token):
                tokens = dict(row.split(" ", 1) for row in self.given["oauth-token"])
                return tokens.get(token) or sasl.TokenError(
                    scope="example_scope", configuration="https://example.com/.well-known/openid-configuration"
                )
            case sasl.CheckIdentity(external, authorization):
                return external if authorization in (None, external) else None
        return None


def whole(data: bytes) -> list[bytes]:
    return [data]


def replay(dialogue: Dialogue, cut: Callable[[bytes], list[bytes]]) -> Iterator[tuple[Turn, ServerPlaybook]]:
    server = Server(dialogue)
    for turn in dialogue.turns:
        if turn.reversed:
            server = Server(Dialogue(defaultdict(list, hostname=["example.org"], ehlo=["SIZE"]), [], closes=True))
        server.turn = turn
        yield turn, server.book.send(*(cut(turn.sent) if turn.sent else []))
        server.book.skip()
        if turn.tls:
            server.book.start_tls()
        if turn.codes[-1:] == [521]:
            break  # RFC 7504 section 3: a server may continue after 521; this one closes
    assert (server.conn.state is State.CLOSED) is dialogue.closes


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_server_replies_as_the_rfc_example_shows(path: Path, cut: Callable[[bytes], list[bytes]]) -> None:
    if path.stem in NOT_REPLAYED:
        pytest.skip(NOT_REPLAYED[path.stem])
    dialogue = parse(path)

    for turn, book in replay(dialogue, cut):
        assert book.codes == turn.codes, turn.sent
        for number, text in turn.exact.items():
            assert book.replies[number] == text
        if turn.keywords is not None:
            listed = {line[4:].partition(" ")[0] for line in book.replies[0].splitlines()[1:]}
            assert {keyword.partition(" ")[0] for keyword in turn.keywords} <= listed


def test_all_rfc_examples_are_present() -> None:
    assert len(FILES) > 70
    assert set(NOT_REPLAYED) <= {path.stem for path in FILES}
