"""The example in docs/fuzzing.md runs, and the page names every law, option and printed line."""

from smtpcore_adapters.cli.fuzz import fuzz as command
from smtpcore_adapters.testing.fuzz import LAWS, dialogues
from smtpcore_adapters.testing.fuzz.clients import CLIENT_LAWS
from tests.adapters.check.clients.broken_clients import IgnoresEnd
from tests.adapters.testing.fuzz.clients.helpers import fuzz
from tests.adapters.testing.fuzz.runs import find
from tests.adapters.testing.fuzz.servers import LfDotLf
from tests.docs.test_readme import run_example
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "fuzzing.md").read_text()


def test_example_has_no_finding() -> None:
    assert run_example("report = fuzz_server")["report"].faults == []


def test_example_of_a_client_has_no_finding() -> None:
    assert run_example("def send_with_smtplib")["client_report"].faults == []


def test_page_names_every_law_and_option() -> None:
    laws = [*(law.name for law in LAWS), *(law.name for law in CLIENT_LAWS)]
    names = [f"| `{law}` |" for law in laws]
    options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]

    assert not [name for name in names if name not in PAGE]
    assert not [name for name in options if f"{name}" not in PAGE]


def test_finding_of_the_page_is_found() -> None:
    finding, _ = find(LfDotLf, "count")
    printed = "\n".join(f"    {line}" for line in dialogues(finding.recordings))

    assert printed in PAGE


def test_finding_about_a_client_is_found() -> None:
    finding = next(each for each in fuzz(IgnoresEnd(), law="report").findings if each.violation.law == "report")
    printed = "\n".join(f"    {line}" for line in finding.lines)

    assert f"report: {finding.title}\n  END: {finding.violation.text} (RFC 5321 4.2.1)\n{printed}" in PAGE
