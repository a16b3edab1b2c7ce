"""The examples in docs/for-your-tests.md run as described."""

from pathlib import Path

import pytest

from tests.adapters.testing.test_server import pytest_run
from tests.docs.test_readme import run_example, source_of
from tests.paths import ROOT

DOCUMENT = (ROOT / "docs" / "for-your-tests.md").read_text()


@pytest.mark.parametrize(
    "source",
    [
        source_of("def send_welcome"),
        source_of("def test_a_message_is_sent_again"),
        source_of("def test_a_queue_is_sent_completely"),
        source_of("def test_every_reply_is_well_formed"),
        source_of("class NoRelaying"),
    ],
    ids=["fixture", "faults", "load", "strategies", "machine"],
)
def test_example_tests_pass(source: str, tmp_path: Path) -> None:
    done = pytest_run(tmp_path, source)

    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_server_without_pytest_receives_a_message() -> None:
    names = run_example("with SmtpServer(tls=True")

    assert len(names["server"].messages) == 1


def test_pair_calls_the_handlers() -> None:
    names = run_example("pair = SmtpPair(app)")

    assert names["pair"].client.transaction.recipients == []


def test_greylist_is_tested_with_a_pair() -> None:
    names = run_example("import Clock, Inbox, SmtpPair")

    assert names["clock"]() == 300


def test_number_of_checks_is_documented() -> None:
    from smtpcore_adapters.check import CHECKS

    assert f"makes {len(CHECKS)} checks" in DOCUMENT


def test_number_of_checks_of_clients_is_documented() -> None:
    from smtpcore_adapters.check.clients import CLIENT_CHECKS

    assert f"makes {len(CLIENT_CHECKS)} checks" in DOCUMENT


def test_client_of_a_program_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    run_example("with ClientChecks")

    assert "pass session-plain" in capsys.readouterr().out
