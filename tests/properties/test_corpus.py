"""The fuzzing corpus: seeds, and inputs that once broke an invariant."""

from importlib import import_module

import pytest

from tests.paths import CORPUS

TARGETS = sorted(path.name for path in CORPUS.iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_invariants_hold_for_the_fuzzing_corpus(target: str) -> None:
    module = import_module(f"fuzz.{target}")
    for path in sorted((CORPUS / target).iterdir()):
        try:
            module.test_one_input(path.read_bytes())
        except Exception as exc:
            exc.add_note(f"of {path.name}: {(module.__doc__ or '').splitlines()[0]}")
            raise


def test_each_fuzzing_target_has_a_corpus_and_states_its_invariant() -> None:
    found = {path.stem for path in CORPUS.parent.glob("*.py") if "def test_one_input" in path.read_text()}
    assert found == set(TARGETS)
    for target in TARGETS:
        assert (import_module(f"fuzz.{target}").__doc__ or "").startswith("Any ")
