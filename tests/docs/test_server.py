"""The tables of docs/server.md."""

import re
from dataclasses import fields

from smtpcore import Config
from smtpcore_adapters import default_config
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "server.md").read_text()


def test_table_of_the_two_defaults_names_all_fields_that_differ() -> None:
    section = PAGE[PAGE.index("### The defaults of `Config`") :].partition("\n### ")[0]
    shown = re.findall(r"^\| `Config\.(\w+)` \|", section, re.MULTILINE)
    one, other = Config(hostname="localhost.example"), default_config()
    differing = [field.name for field in fields(Config) if getattr(one, field.name) != getattr(other, field.name)]
    assert sorted(shown) == sorted(differing)
