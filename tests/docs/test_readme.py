"""The examples in the README and in docs run as described."""

import re
import smtplib
import tomllib
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trustme
from prometheus_client import REGISTRY

from smtpcore import Reply, ReplyCode
from smtpcore_adapters import App, Listener
from smtpcore_adapters.anyio import serving
from smtpcore_adapters.asyncio import BackgroundServer
from smtpcore_adapters.socket import serving as blocking_serving
from smtpcore_adapters.tls import self_signed_context
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, RCPT
from tests.adapters.playbook import session
from tests.certificates import context_trusting
from tests.paths import ROOT, TESTS

EXAMPLES: list[str] = [
    example
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    for example in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
]


def source_of(start: str) -> str:
    """Return the only example that contains `start`."""
    (example,) = [example for example in EXAMPLES if start in example]
    return example


def run_example(start: str) -> dict[str, Any]:
    """Execute the only example that contains `start`, and return its names."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(source_of(start), names)
    return names


def test_table_of_extras_is_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()
    rows = readme[readme.index("## Extras") : readme.index("## Documentation")].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    assert {*re.findall(r"`([a-z-]+)`", " ".join(cells))} == {*project["optional-dependencies"]}


def test_each_example_is_tested() -> None:
    from tests.docs.programs import PROGRAMS  # imports this module

    tests = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    starts = re.findall(r'(?:run_example|source_of)\("(.*?)"\)', tests)
    starts += [start for program in PROGRAMS.values() for start in (program.source, program.module[1]) if start]
    assert [example for example in EXAMPLES if not any(start in example for start in starts)] == []


def test_server_accepts_mail_for_its_domain_only() -> None:
    app: App = run_example("async def only_us")["app"]

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
            smtp.sendmail("a@client.example", ["b@example.org"], b"Subject: hello\r\n\r\nbody\r\n")
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
                smtp.sendmail("a@client.example", ["b@elsewhere.example"], b"hello\r\n")

        assert refusal.value.recipients == {"b@elsewhere.example": (550, b"5.7.1 We do not relay")}

    async def main() -> None:
        async with serving(app) as server:
            await anyio.to_thread.run_sync(send, server.address.port)

    anyio.run(main)


def test_background_server_runs_until_enter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_example("def accept_each")

    def send(prompt: str) -> str:
        host, port = re.findall(r"listening at (\S+):([0-9]+)", capsys.readouterr().out)[0]
        with smtplib.SMTP(host, int(port), "client.example", timeout=10) as smtp:
            smtp.sendmail("a@client.example", ["b@example.org"], b"Subject: hello\r\n\r\nbody\r\n")
        return ""

    monkeypatch.setattr("builtins.input", send)
    monkeypatch.setitem(names, "BackgroundServer", lambda app, port: BackgroundServer(app))
    names["main"]()
    assert "Subject: hello" in capsys.readouterr().out


def test_wording_example_changes_three_texts_and_a_refusal() -> None:
    app: App = run_example("def words")["app"]
    app.on("RCPT")(lambda session, rcpt: Reply(250))
    dialogue = session(app, config=replace(CONFIG, max_recipients=100)).send(EHLO + MAIL + RCPT * 101 + QUIT)
    assert dialogue.replies[0] == "220 s.example mail service ready"
    assert dialogue.replies[1].startswith("250-s.example nice to meet you")
    assert dialogue.replies[-1] == "221 2.0.0 s.example see you soon"
    assert dialogue.replies[-2] == "452 4.5.3 At most 50 recipients: see https://example.org/lists"


def test_state_example_counts_unknown_recipients_of_each_session() -> None:
    app: App[Any] = run_example("class Visit:")["app"]
    known, unknown = b"RCPT TO:<tim@example.org>\r\n", b"RCPT TO:<x@example.org>\r\n"
    session(app).send(EHLO + MAIL + known + unknown * 3 + known).expect(220, 250, 250, 250, 550, 550, 550, 250)
    session(app).send(EHLO + MAIL + unknown * 4).expect(220, 250, 250, 550, 550, 550, 421)


def test_relay_example_relays_for_users_only() -> None:
    relay: App = run_example("def make_relay")["make_relay"]("next.example", 25)
    rcpt = b"RCPT TO:<a@elsewhere.example>\r\n"
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    login = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaftanstaaf") + b"\r\n"
    for commands, name, code in [(b"", b"elsewhere", 550), (b"", b"org", 451), (login, b"elsewhere", 451)]:
        asked = rcpt.replace(b"elsewhere.example", b"example.org") if name == b"org" else rcpt
        dialogue = session(relay, config=config)
        dialogue.stream.opened_streams.append(ConnectionRefusedError("no one"))
        assert dialogue.send(EHLO + commands + MAIL + asked).codes[-1] == code


def test_shared_limits_example_counts_in_the_store() -> None:
    names = run_example("counts = RedisCounts(")
    assert repr(names["counts"]) == "<RedisCounts at 127.0.0.1:6379>"
    assert len(names["app"].handlers["RCPT"]) == 2


def test_mechanism_example_takes_a_token() -> None:
    app: App = run_example("async def token")["app"]
    config = replace(CONFIG, auth_mechanisms=("X-TOKEN",), plaintext_auth=True)
    right, wrong = b64encode(b"4f6c1e") + b"\r\n", b64encode(b"x") + b"\r\n"
    dialogue = session(app, config=config).send(EHLO + b"AUTH X-TOKEN " + wrong + b"AUTH X-TOKEN\r\n", right + QUIT)
    dialogue.expect(220, 250, 535, 334, 235, 221)


def test_handler_of_aiosmtpd_serves_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    app: App = run_example("class Handler:")["app"]
    config = replace(CONFIG, plaintext_auth=True, require_auth=True, auth_mechanisms=("PLAIN", "LOGIN"))
    with BackgroundServer(app, config=config) as server, smtplib.SMTP(*server.address) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("tim", "wrong")
        smtp.login("tim", "secret")
        smtp.sendmail("a@client.example", ["b@example.org"], b"Subject: hello\r\n\r\nbody\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("a@client.example", ["b@elsewhere.example"], b"hello\r\n")
    assert capsys.readouterr().out == "24 octets from a@client.example\n"


def test_header_handler_refuses_a_list() -> None:
    app: App = run_example("def accept_all")["app"]

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
            smtp.sendmail("a@client.example", ["b@example.org"], b"Subject: hello\r\n\r\nbody\r\n")
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                smtp.sendmail("a@client.example", ["b@example.org"], b"Precedence: bulk\r\n\r\nbody\r\n")

            assert refusal.value.smtp_error == b"5.7.1 No bulk mail"
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                smtp.sendmail("a@client.example", ["b@example.org"], b"X-Spam: yes\r\n\r\nbody\r\n")
            assert refusal.value.smtp_error == b"5.7.1 No spam"
            with pytest.raises(smtplib.SMTPServerDisconnected):
                smtp.noop()

    async def main() -> None:
        async with serving(app) as server:
            await anyio.to_thread.run_sync(send, server.address.port)

    anyio.run(main)


def test_error_handler_decides_the_reply(caplog: pytest.LogCaptureFixture) -> None:
    app: App = run_example("def report_error")["app"]
    dialogue = session(app).send(EHLO + MAIL + RCPT + QUIT)
    dialogue.expect(220, 250, 250, 451, 221)
    assert b"451 4.3.0 Please try again in an hour\r\n" in dialogue.stream.output
    assert "ConnectionError('the database is down')" in caplog.text


def test_auth_handler_lets_a_user_send() -> None:
    app: App = run_example("def check")["app"]
    login = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaftanstaaf") + b"\r\n"
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    session(app, config=config).send(EHLO + MAIL + RCPT + b"RSET\r\n" + login + MAIL + RCPT + QUIT).expect(
        220, 250, 250, 550, 250, 235, 250, 250, 221
    )


def test_loop_around_the_core_serves_a_client() -> None:
    serve = run_example("def converse")["converse"]
    segments = [
        b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\n",
        b"RCPT TO:<c@elsewhere.example>\r\nDATA\r\n",
        b"one\r\n..two\r\n.\r\n",
        b"QUIT\r\n",
    ]
    output: list[bytes] = []
    messages: list[tuple[str, bytes]] = []

    def deliver(transaction: Any, body: bytes) -> None:
        messages.append((str(transaction.mail.reverse_path), body))

    serve(lambda: segments.pop(0), output.append, deliver)

    assert messages == [("a@client.example", b"one\r\n.two\r\n")]
    codes = [line[:3] for line in b"".join(output).splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"550", b"354", b"250", b"221"]


def test_table_of_perl_constants_matches_reply_codes() -> None:
    page = (ROOT / "docs" / "from-poe.md").read_text()
    rows = re.findall(r"^\| `(SMTP_\w+)`[^|]* \| (\d+)[^|]*\| `(\w+)`", page, re.MULTILINE)
    assert len(rows) == 23
    for constant, number, name in rows:
        expected = 214 if constant == "SMTP_SYSTEM_HELP" else int(number)
        assert ReplyCode[name] == expected


def test_transcript_example_of_the_readme_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app: App = run_example("to_directory")["app"]
    dialogue = session(app).send(QUIT)
    assert "C: QUIT" in (tmp_path / "transcripts" / f"{dialogue.session.id}.txt").read_text()


def test_metrics_example_of_the_readme_counts_a_session() -> None:
    app: App = run_example("app.include(Metrics())")["app"]
    before = REGISTRY.get_sample_value("smtpcore_sessions_total") or 0
    session(app).send(QUIT)
    assert REGISTRY.get_sample_value("smtpcore_sessions_total") == before + 1


def test_custom_extension_has_a_parameter_and_a_verb() -> None:
    names = run_example("class Tenant")
    mail = b"MAIL FROM:<a@c.example> XTENANT="
    script = EHLO + mail + b"initech\r\n" + mail + b"acme SIZE=1001\r\n" + mail + b"globex SIZE=1001\r\n"
    dialogue = session(names["app"], **names["options"]).send(script + b"XQUOTA acme\r\nXQUOTA initech\r\n" + QUIT)

    assert "250-XTENANT acme globex" in dialogue.replies[1] or "250 XTENANT acme globex" in dialogue.replies[1]
    assert dialogue.replies[2:-1] == [
        "501 5.5.4 Malformed XTENANT: no such tenant",
        "452 4.2.2 acme has no room for that",
        "250 2.1.0 Sender accepted",
        "250 2.0.0 1000 octets",
        "500 5.5.1 Command not recognized",
    ]
    off = replace(CONFIG, disabled=CONFIG.disabled | {"XTENANT"})
    dialogue = session(names["app"], config=off, **names["options"]).send(script + b"XQUOTA acme\r\n" + QUIT)
    dialogue.expect(220, 250, 555, 555, 555, 502, 221)


def test_server_accepts_custom_extensions() -> None:
    names = run_example("class Tenant")

    def talk(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
            smtp.ehlo()
            assert smtp.esmtp_features["xtenant"] == "acme globex"
            assert smtp.docmd("XQUOTA", "acme") == (250, b"2.0.0 1000 octets")

    async def main() -> None:
        async with serving(names["app"], **names["options"]) as server:
            await anyio.to_thread.run_sync(talk, server.address.port)

    anyio.run(main)


def test_burl_example_stores_the_fetched_message() -> None:
    app: App = run_example("forwarded without download")["app"]

    def talk(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
            smtp.ehlo()
            assert smtp.esmtp_features["burl"] == "imap"
            smtp.mail("a@client.example")
            smtp.rcpt("b@example.org")
            assert smtp.docmd("BURL", "imap://s.example/x LAST") == (250, b"2.0.0 70 octets stored")

    async def main() -> None:
        async with serving(app, config=replace(CONFIG, burl=("imap",))) as server:
            await anyio.to_thread.run_sync(talk, server.address.port)

    anyio.run(main)


def test_listeners_example_listens_on_each_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_example("LISTENERS = [")
    listeners = [replace(each, port=0, path=each.path and str(tmp_path / "lmtp")) for each in names["LISTENERS"]]
    context = self_signed_context(["localhost"])
    with blocking_serving(names["app"], listeners=listeners, tls=context) as server:
        assert len({address.port for address in server.addresses}) == 5
        assert (tmp_path / "lmtp").is_socket()
        assert (tmp_path / "lmtp").stat().st_mode & 0o777 == 0o660
    assert not (tmp_path / "lmtp").exists()

    calls: list[Any] = []
    monkeypatch.setattr("smtpcore_adapters.asyncio.run", lambda app, **options: calls.append(options))
    opened = [SimpleNamespace(getsockname=lambda port=port: ("0.0.0.0", port)) for port in (587, 25)]
    monkeypatch.setattr(Listener, "at", lambda self, bound: (self.port, bound))
    names["main_under_systemd"].__globals__["inherited_sockets"] = lambda: opened
    names["main"](context)
    names["main_under_systemd"](context)
    under_systemd = [(587, opened[0]), (25, opened[1])]
    assert calls == [{"listeners": names["LISTENERS"], "tls": context}, {"listeners": under_systemd, "tls": context}]


def test_tls_example_reads_and_reloads_its_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    for chain, key in (("fullchain.pem", "privkey.pem"), ("net.pem", "net.key")):
        certificate = authority.issue_cert("mx.example.net")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / chain)
        certificate.private_key_pem.write_to_path(tmp_path / key)
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    tls = run_example("def make_tls")["make_tls"](tmp_path)
    client = context_trusting(authority)
    with blocking_serving(App(), tls=tls.context) as server:
        tls.reload()
        with smtplib.SMTP("127.0.0.1", server.address.port, timeout=10) as smtp:
            smtp._host = "mx.example.net"  # type: ignore[attr-defined]
            assert smtp.starttls(context=client)[0] == 220
            assert smtp.noop()[0] == 250


def test_blocking_handler_example_stores_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_example("import tempfile")

    def send(prompt: str) -> str:
        port = int(capsys.readouterr().out.rpartition(":")[2])
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
            assert smtp.sendmail("a@client.example", ["b@example.org"], b"Subject: hello\r\n\r\nbody\r\n") == {}
        return ""

    names["input"] = send
    names["main"]()
