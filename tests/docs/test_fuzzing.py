"""The example in docs/fuzzing.md runs, and the page names every law, option and printed line."""

from smtpcore_adapters.cli.fuzz import fuzz
from smtpcore_adapters.testing.fuzz import LAWS, dialogues
from tests.adapters.testing.fuzz.runs import find
from tests.adapters.testing.fuzz.servers import LfDotLf
from tests.docs.test_readme import run_example
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "fuzzing.md").read_text()


def test_example_has_no_finding() -> None:
    assert run_example("report = fuzz_server")["report"].faults == []


def test_page_names_every_law_and_option() -> None:
    names = [f"`{law.name}`" for law in LAWS]
    options = [name for parameter in fuzz.params for name in parameter.opts if name.startswith("--")]

    assert not [name for name in names if name not in PAGE]
    assert not [name for name in options if f"{name}" not in PAGE]


def test_finding_of_the_page_is_found() -> None:
    finding, _ = find(LfDotLf, "count")
    printed = "\n".join(f"    {line}" for line in dialogues(finding.recordings))

    assert printed in PAGE
