"""The programs of the pages for people who come from other libraries: both programs of each page do the same."""

import asyncio
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpcore import Reply
from smtpcore_adapters import App
from smtpcore_adapters.asyncio import BackgroundServer
from tests.adapters.harness import TIMEOUT
from tests.adapters.testing.test_server import pytest_run
from tests.certificates import context_trusting
from tests.docs.test_cookbook import mail, program, refusal, smtp_to, wait_for_port
from tests.docs.test_readme import run_example, source_of


@contextmanager
def main_of(source: str, directory: Path, *, port: int = 0) -> Iterator["subprocess.Popen[str]"]:
    """Run `main(port)` of an example in a process, until SIGTERM."""
    (directory / "example.py").write_text(source)
    with program(directory, "-W", "ignore", "-c", f"import example; example.main({port})") as process:
        if port:
            wait_for_port(port, process)
        yield process


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("is_before", [True, False], ids=["aiosmtpd", "smtpcore"])
def test_both_servers_of_the_aiosmtpd_page_print_the_message(
    is_before: bool, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_before:
        pytest.importorskip("aiosmtpd", reason="aiosmtpd is not installed")
    names = run_example("from aiosmtpd.controller") if is_before else run_example("    app.include(Inbox())")
    server = names["make_server"](port)
    server.start()
    try:
        with smtp_to(port) as smtp:
            smtp.send_message(mail())
            with pytest.raises(smtplib.SMTPRecipientsRefused) as error:
                smtp.send_message(mail(), to_addrs=["b@elsewhere.example"])
    finally:
        server.stop()
    assert error.value.recipients == {"b@elsewhere.example": (550, b"5.7.1 We do not relay")}
    assert capsys.readouterr().out.startswith("a@c.example")


def test_aiosmtpd_behaves_as_the_page_says(port: int) -> None:
    controller = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")

    class Failing:
        async def handle_RPCT(self, *arguments: object) -> str:
            raise AssertionError("aiosmtpd never calls a misspelt handler")

        async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
            raise ValueError("a secret")

    server = controller.Controller(Failing(), hostname="127.0.0.1", port=port)
    server.start()
    try:
        with smtp_to(server.port) as smtp:
            assert refusal(smtp, mail(), "b@anywhere.example") == (500, b"Error: (ValueError) a secret")
            long = mail()
            long.set_payload("x" * 2000)
            with pytest.raises(smtplib.SMTPDataError, match="Line too long"):
                smtp.sendmail("a@c.example", ["b@example.org"], b"x" * 2000 + b"\r\n")
    finally:
        server.stop()


def test_smtpcore_behaves_as_the_pages_say() -> None:
    app = App()

    class Misspelt:
        def on_rpct(self, session: object, rcpt: object) -> None: ...

    with pytest.raises(ValueError, match="RCPT"):
        app.include(Misspelt())

    @app.on("RCPT")
    def accept(session: object, rcpt: object) -> Reply:
        return Reply(250, "OK")

    @app.on("message")
    async def fail(session: object, message: Any) -> Reply | None:
        body = await message.read()
        if b"fail" in body:
            raise ValueError("a secret")
        return None if b"nothing" in body else Reply(250, repr(body[:5]))

    with BackgroundServer(app) as server, smtp_to(server.address.port) as smtp:
        for subject in ("fail", "nothing"):
            code, text = refusal(smtp, mail(subject))
            assert code == 451
            assert b"secret" not in text
        assert smtp.sendmail("a@c.example", ["b@example.org"], b"x" * 20_000) == {}
        smtp.mail("a@c.example")
        smtp.rcpt("b@example.org")
        smtp.putcmd("data")
        smtp.getreply()
        smtp.send(b"1\n2\n\r\n.\r\n")
        assert smtp.getreply() == (250, b"2.0.0 b'1\\r\\n2\\r'")


@pytest.mark.parametrize("before", [True, False], ids=["smtpd", "smtpcore"])
def test_both_servers_of_the_smtpd_page_print_the_message(before: bool, tmp_path: Path, port: int) -> None:
    if before and sys.version_info >= (3, 12):
        pytest.skip("Python 3.12 has no smtpd")
    source = source_of("class PrintingServer") if before else source_of("def process_message(session, message)")
    (tmp_path / "example.py").write_text(source)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", f"import example; example.main({port})"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for_port(port, process)
            with smtp_to(port) as smtp:
                smtp.send_message(mail())
                assert line_of(process).startswith("127.0.0.1 a@c.example ")
                assert refusal(smtp, mail("viagra"))[0] == 554
        finally:
            process.kill()


@pytest.mark.parametrize("start", ["class Delivery", "async def count_lines"])
def test_both_servers_of_the_twisted_page_count_lines(start: str, tmp_path: Path, port: int) -> None:
    pytest.importorskip("twisted", reason="Twisted is not installed")
    sources = {
        "class Delivery": source_of("class Delivery"),
        "async def count_lines": source_of("async def count_lines"),
    }
    with main_of(sources[start], tmp_path, port=port) as process, smtp_to(port) as smtp:
        smtp.send_message(mail())
        assert line_of(process).endswith(" lines")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.send_message(mail(), to_addrs=["b@elsewhere.example"])


def test_handler_in_the_asyncio_reactor_awaits_a_deferred_under_tls(tmp_path: Path) -> None:
    pytest.importorskip("twisted", reason="Twisted is not installed")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    source = source_of("asyncioreactor.install()").replace(
        "start(app, port, **options)", "start(app, port, tls=server_context('server.pem', 'server.pem'))"
    )
    (tmp_path / "example.py").write_text("from smtpcore_adapters.tls import server_context\n" + source)
    context = context_trusting(authority)
    with program(tmp_path, "-c", "import example; example.main(0)") as process:
        port = int(line_of(process).rpartition(" ")[2])
        with smtplib.SMTP("localhost", port, "c.example", timeout=TIMEOUT) as smtp:
            smtp.starttls(context=context)
            smtp.ehlo()
            smtp.mail("a@c.example")
            smtp.rcpt("b@example.org")
            assert smtp.data(b"hi\r\n") == (250, b"2.0.0 Taken, after a Deferred")


@pytest.mark.parametrize("fixture", ["smtpdfix", "smtpcore"])
def test_both_tests_of_the_smtpdfix_page_pass(fixture: str, tmp_path: Path) -> None:
    sources = {
        "smtpdfix": source_of("def test_order_is_confirmed(smtpd)"),
        "smtpcore": source_of("def test_order_is_confirmed_by_smtpcore"),
    }
    if fixture == "smtpdfix":
        pytest.importorskip("smtpdfix", reason="smtpdfix is not installed")
    plugin = ("-p", "smtpdfix.fixture") if fixture == "smtpdfix" else ()
    done = pytest_run(tmp_path, sources[fixture], *plugin)
    assert "1 passed" in done.stdout, done.stdout


def notify_functions() -> dict[str, Callable[..., Any]]:
    return {
        "smtplib": run_example("def notify(host, port")["notify"],
        "smtpcore": run_example("def notify_by_smtpcore")["notify_by_smtpcore"],
        "aiosmtplib": lambda *arguments: asyncio.run(
            run_example("async def notify_async(host, port")["notify_async"](*arguments)
        ),
        "smtpcore, asyncio": lambda *arguments: asyncio.run(
            run_example("async def notify_async_by_smtpcore")["notify_async_by_smtpcore"](*arguments)
        ),
    }


@pytest.mark.parametrize("name", ["smtplib", "smtpcore", "aiosmtplib", "smtpcore, asyncio"])
def test_all_clients_report_the_same_refusals(name: str) -> None:
    if name == "aiosmtplib":
        pytest.importorskip("aiosmtplib", reason="aiosmtplib is not installed")
    app = App()

    @app.on("RCPT")
    def accept_tim(session: object, rcpt: Any) -> Reply:
        return Reply(250, "OK") if rcpt.forward_path.local_part == "tim" else Reply(550, "No such user")

    @app.on("message")
    async def take(session: object, message: Any) -> Reply:
        return Reply(250, f"{len(await message.read())} octets")

    with BackgroundServer(app) as server:
        notify = notify_functions()[name]
        for recipients in (["tim@example.org", "tom@example.org"], ["tom@example.org"]):
            assert notify(server.address.host, server.address.port, recipients) == {"tom@example.org": 550}
