"""Malformed lines and bodies over real sockets, sent to lenient and to strict servers on every adapter."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smtpcore import Command, Config, InvalidCommand, Reply, Tolerance
from smtpcore._tolerance import LIBERTIES
from smtpcore_adapters import Address, App, Session, default_config
from smtpcore_adapters.recipients import AnyRecipient, Recipients
from smtpcore_adapters.testing import SmtpServer
from tests.adapters import command
from tests.adapters.fakes import MessageStore, accepting, watch
from tests.adapters.harness import BACKENDS, Client, running
from tests.adapters.playbook import session
from tests.paths import ROOT

EHLO, HELO = b"EHLO c.example\r\n", b"HELO c.example\r\n"
MAIL, RCPT = b"MAIL FROM:<a@c.example>\r\n", b"RCPT TO:<u@s.example>\r\n"

# The octets before the line, the line, and the codes of a lenient and of a strict server.
HELLOS: list[tuple[bytes, str, int, int]] = [
    *((b"", f"EHLO {name}", 250, 501) for name in ("my_box", "_", "box.local.", "-host", "(none)", "*", "user@host")),
    *((b"", f"EHLO {name}", 250, 501) for name in ("host/1", "My PC", "PhpStorm 9.0.3", "büro-pc")),
    *((b"", f"HELO {name}", 250, 501) for name in ("my_box", "laptop.")),
    *((b"", line, 501, 501) for line in ("EHLO", "EHLO a\x01b", "EHLO a\0b")),
]
SENDERS: list[tuple[bytes, str, int, int]] = [
    *((EHLO, f"MAIL FROM{rest}", 250, 501) for rest in (": <a@c.example>", ": <>", ":a@c.example")),
    *((EHLO, f"MAIL FROM:<{path}>", 250, 501) for path in ("ilo.@c.example", "a@my_host", "a@c-.example", "root")),
    (EHLO, "mail from: <a@c.example> size=1000", 250, 501),
    (EHLO, "MAIL FROM:<a@c.example>  SIZE=1000", 250, 501),
    (EHLO, "MAIL  FROM:<a@c.example>", 250, 501),
    (EHLO, "MAIL FROM:<a@c.example> AUTH=<>", 250, 555),
    (HELO, "MAIL FROM:<a@c.example> SIZE=1000", 250, 555),
    (HELO, "MAIL FROM:<a@c.example> BODY=8BITMIME SIZE=9", 250, 555),
    (HELO, "MAIL FROM:<a@c.example> SIZE=99999999999", 552, 555),
    *((EHLO, f"MAIL FROM{rest}", 501, 501) for rest in (" :<a@c>", ":<a@c>SIZE=1", ":<a@c", ":<<a@c>>", ":Scan <a@c>")),
    (EHLO, "MAIL FROM:<müller@c.example>", 550, 550),
    (EHLO, "MAIL FROM:<m\udcfcller@c.example>", 501, 501),
    (EHLO, "MAIL FROM:<a@c.example> RET=HDRS", 555, 555),
]
RECIPIENTS: list[tuple[bytes, str, int, int]] = [
    *((MAIL, f"RCPT {rest}", 250, 501) for rest in ("TO: <u@s.example>", "TO:u@s.example", " TO:<u@s.example>")),
    (MAIL, "RCPT TO:postmaster", 250, 501),
    (MAIL, "RCPT TO:<a@b> <c@d>", 501, 501),
    (MAIL, "RCPT TO:<a\0@b>", 501, 501),
    (MAIL, "RCPT TO:<u@s.example> NOTIFY=NEVER", 555, 555),
]
ROWS = [*HELLOS, *SENDERS, *RECIPIENTS]


def accepted_by_default(store: MessageStore | None = None) -> App:
    app = App()
    app.include(AnyRecipient())
    app.include(store or MessageStore())
    return app


def code_of(client: Client, before: bytes, line: str) -> int:
    client.send(b"RSET\r\n" if before == MAIL else before or b"NOOP\r\n").read()
    if before == MAIL:
        for start in (EHLO, MAIL):
            client.send(start).read()
    reply = client.send(line.encode(errors="surrogateescape") + b"\r\n").read()
    client.send(b"RSET\r\n").read()
    return int(reply[:3])


def check_rows(address: Address, *, lenient: bool) -> None:
    with Client(address) as client:
        client.read()
        for before, line, tolerant, strict in ROWS:
            assert (line, code_of(client, before, line)) == (line, tolerant if lenient else strict)


NO_LIMITS: dict[str, Any] = {"max_errors": None, "max_idle_commands": None}


@pytest.mark.parametrize("backend", BACKENDS)
def test_default_configuration_is_lenient_and_names_the_deviations(backend: str) -> None:
    app = accepted_by_default()
    seen = watch(app, Command)
    with running(backend, app, config=replace(default_config(), **NO_LIMITS)) as server:
        check_rows(server.server.address, lenient=True)

    deviant = {str(event) for event in seen if event.deviations}
    assert len(deviant) > 20
    assert "MAIL FROM:<a@c.example>" in deviant
    assert not any(event.deviations for event in seen if event.verb in ("NOOP", "RSET", "DATA"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_strict_configuration_refuses_lines_that_break_the_grammar(backend: str) -> None:
    app = accepted_by_default()
    seen = watch(app, Command)
    with running(backend, app, config=Config(hostname="s.example", **NO_LIMITS)) as server:
        check_rows(server.server.address, lenient=False)

    assert not [event for event in seen if event.deviations]


def test_serve_has_an_option_for_the_tolerance(tmp_path: Path) -> None:
    for option, lenient in (("--lenient", True), ("--strict", False)):
        with command.running(tmp_path, option) as server, Client(Address(server.host, server.port)) as client:
            client.read()
            for before, line, tolerant, strict in ROWS[:12] + ROWS[16:36]:
                assert (line, code_of(client, before, line)) == (line, tolerant if lenient else strict)


def test_test_server_is_strict() -> None:
    with SmtpServer() as server, Client(Address(server.host, server.port)) as client:
        client.read()
        assert client.send(b"EHLO my_box\r\n").read().startswith("501")
        assert client.send(b"EHLO c.example\n").read().startswith("500")


def test_recipient_policy_sees_the_corrected_address(tmp_path: Path) -> None:
    accept = ("--accept", "good@s.example", "--accept", "bob@my_host", "--accept", "first..last@s.example")
    with command.running(tmp_path, *accept) as server, Client(Address(server.host, server.port)) as client:
        client.read()
        client.send(EHLO).read()
        client.send(MAIL).read()
        for path, code in [
            (" <good@s.example>", "250"),
            ("good@s.example", "250"),
            (" <bad@s.example>", "550"),
            ("bad@s.example", "550"),
            ("<bob@my_host>", "250"),
            ("<first..last@s.example>", "250"),
            ("<root>", "550"),
            (" postmaster", "250"),
        ]:
            assert client.send(f"RCPT TO:{path}\r\n".encode()).read()[:3] == code

    with pytest.raises(ValueError, match="neither an address nor a domain"):
        Recipients(["a b@s.example"])


# Bodies and line ends

LF_BODY = b"From: a@c.example\nSubject: x\n\nHello\n.\nQUIT\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_body_with_lf_line_ends_is_stored_with_cr_lf(backend: str) -> None:
    store = MessageStore()
    with running(backend, accepted_by_default(store)) as server, server.connect() as client:
        client.read()
        client.send(EHLO + MAIL + RCPT + b"DATA\r\n")
        assert [client.read()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        client.send(LF_BODY + b"one\n.\ntwo\r\n.\nthree\r\r\nfour\r\n.\r\n")
        assert client.read().startswith("250")

        chunk = LF_BODY + b"three\r\r\nfour"
        client.send(MAIL + RCPT + b"BDAT %d\r\n" % len(chunk) + chunk + b"BDAT 0 LAST\r\n")
        assert [client.read()[:3] for _ in range(4)] == ["250", "250", "250", "250"]

    clean = LF_BODY.replace(b"\n", b"\r\n")
    assert store.bodies == [
        clean + b"one\r\n.\r\ntwo\r\n\r\nthree\r\nfour\r\n",
        clean + b"three\r\nfour",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_body_line_may_have_any_length(backend: str) -> None:
    store = MessageStore()
    body = b"From: a@c.example\r\n\r\n" + b"z" * 200_000 + b"\r\n"
    with running(backend, accepted_by_default(store)) as server, server.connect() as client:
        client.read()
        client.send(EHLO + MAIL + RCPT + b"DATA\r\n" + body + b".\r\n")
        assert [client.read()[:3] for _ in range(5)] == ["250", "250", "250", "354", "250"]
        client.send(MAIL + RCPT + b"BDAT %d LAST\r\n" % len(body) + body)
        assert [client.read()[:3] for _ in range(3)] == ["250", "250", "250"]

    assert store.bodies == [body, body]


@pytest.mark.parametrize("segments", [1, 0], ids=["in one segment", "line by line"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_dialogue_with_lf_line_ends_gets_a_reply_to_each_line(backend: str, segments: int) -> None:
    lines = [b"EHLO x\n", b"NOOP\n", b"MAIL FROM:<a@c.example>\n", b"RCPT TO:<u@s.example>\n", b"QUIT\n"]
    with running(backend, accepted_by_default()) as server, server.connect() as client:
        client.read()
        if segments:
            client.send(b"".join(lines))
        codes = [(client if segments else client.send(line)).read()[:3] for line in lines]

    assert codes == ["250", "250", "250", "250", "221"]


def test_serve_with_reject_answers_each_line_that_ends_in_lf(tmp_path: Path) -> None:
    with (
        command.running(tmp_path, "--bare-newlines", "reject") as server,
        Client(Address(server.host, server.port)) as client,
    ):
        client.read()
        assert [client.send(line).read()[:3] for line in (b"EHLO a\n", b"HELO a\n", b"QUIT\n")] == ["500"] * 3
        assert client.send(b"EHLO a\r\n").read().startswith("250")


def test_end_of_data_needs_cr_lf_on_a_lenient_server(tmp_path: Path) -> None:
    with command.running(tmp_path) as server, Client(Address(server.host, server.port)) as client:
        client.read()
        client.send(EHLO + MAIL + RCPT + b"DATA\n")
        assert [client.read()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        client.socket.settimeout(0.2)
        client.send(b"x\n.\n")
        with pytest.raises(TimeoutError):
            client.read()
        client.socket.settimeout(10)
        assert client.send(b"\r\n.\r\n").read().startswith("250")


def test_starttls_with_following_plaintext_is_refused_on_a_lenient_server(tmp_path: Path) -> None:
    with (
        command.running(tmp_path, "--self-signed") as server,
        Client(Address(server.host, server.port)) as client,
    ):
        client.read()
        client.send(EHLO).read()
        assert client.send(b"STARTTLS\nNOOP\n").read().startswith("421")


def test_trace_fields_are_well_formed_for_any_client_name(tmp_path: Path) -> None:
    with command.running(tmp_path) as server, Client(Address(server.host, server.port)) as client:
        client.read()
        client.send("EHLO (büro; by evil) x\\\r\n".encode() + b"MAIL FROM: a@c.example\r\n" + RCPT + b"DATA\r\n")
        client.send(b"Subject: x\n\nHello\n\r\n.\r\n")
        for _ in range(5):
            client.read()
        [message] = server.messages()

    trace, content = command.split_trace(message)
    assert trace.startswith(b"Return-Path: <a@c.example>\n")
    assert b"Received: from unknown ([127.0.0.1]) (HELO ?b?ro; by evil? x?)\n\tby " in trace
    assert content == b"Subject: x\n\nHello\n\n"


LF_FILE = b"From: t@c.example\nSubject: s\n\nHello\n"


@pytest.mark.parametrize("program", ["smtpcore", "curl"])
def test_first_commands_of_the_readme_deliver_a_file_with_lf_line_ends(program: str, tmp_path: Path) -> None:
    file = tmp_path / "message.eml"
    file.write_bytes(LF_FILE)
    with command.running(tmp_path) as server:
        if program == "smtpcore":
            to_server = ("--server", f"{server.host}:{server.port}", "--from", "a@c.example", "--to", "u@s.example")
            assert command.run("send", *to_server, str(file)).returncode == 0
        else:
            curl = shutil.which("curl") or pytest.skip("curl is not installed")
            url = f"smtp://{server.host}:{server.port}"
            options = ("--mail-from", "a@c.example", "--mail-rcpt", "u@s.example", "-sS", "-T", str(file))
            assert subprocess.run([curl, url, *options], check=False, timeout=30).returncode == 0
        [message] = server.messages()

    # curl sends CR LF . CR LF after a body that ends with LF, so that an empty line is added.
    assert command.split_trace(message)[1] == LF_FILE + (b"\n" if program == "curl" else b"")


def test_documentation_lists_every_accepted_mistake() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| `", (ROOT / "docs/server.md").read_text(), re.MULTILINE)

    assert [name for name in rows if name in {liberty.name for liberty in LIBERTIES}] == [
        liberty.name for liberty in LIBERTIES
    ]


# Handlers of invalid commands


def test_invalid_handler_may_change_the_reply() -> None:
    app = accepting()

    @app.on("invalid")
    async def explain(session: Session, invalid: object) -> Reply | None:
        assert isinstance(invalid, InvalidCommand)
        return Reply(550, "Use MAIL FROM:<address>", enhanced="5.5.2") if b"MAIL" in invalid.line else None

    dialogue = session(app).send(EHLO + b"MAIL x\r\nRCPT x\r\nQUIT\r\n")
    assert dialogue.replies[2:4] == ["550 5.5.2 Use MAIL FROM:<address>", "503 5.5.1 MAIL must come first"]


def test_invalid_handler_cannot_accept_or_keep_a_session_open() -> None:
    app = accepting()

    @app.on("invalid")
    async def accept(session: Session, invalid: object) -> Reply:
        return Reply(250, "Fine")

    dialogue = session(app).send(EHLO + b"MAIL x\r\n" + MAIL + RCPT + b"BDAT x\r\n")
    assert [reply[:3] for reply in dialogue.replies[2:]] == ["451", "250", "250", "521"]


def test_handler_may_refuse_a_deviation() -> None:
    app = App()

    @app.on("MAIL")
    async def refuse(session: Session, mail: Command) -> Reply | None:
        return Reply(501, "No domain", enhanced="5.1.7") if "no-domain" in mail.deviations else None

    dialogue = session(app, config=Config(hostname="s.example", tolerance=Tolerance.LENIENT)).send(
        EHLO + b"MAIL FROM:<root>\r\nMAIL FROM: <a@c.example>\r\n"
    )
    assert [reply[:3] for reply in dialogue.replies[2:]] == ["501", "250"]
