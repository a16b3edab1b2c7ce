"""The page with the diagrams of the state machine."""

from smtpcore import State
from tools.state_machine import PAGE, Part, Role, diagram, page


def test_state_machine_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.state_machine"


def test_diagrams_of_each_end_show_every_state() -> None:
    for role in Role:
        drawn = "\n".join(line for part in Part for line in diagram(role, part))
        assert [state.name for state in State if f"> {state.name}:" not in drawn] == ["CONNECTED"]
