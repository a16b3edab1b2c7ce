"""How many examples are tried: few by default, many with `pytest --hypothesis-profile long`."""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("quick", deadline=None)  # how long a test takes says more of the machine than of the code
settings.register_profile("long", deadline=None)
settings.register_profile(
    "mutants",  # the same few examples for each mutant, and none that is made smaller
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=20,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("quick")


def examples(number: int, *, steps: int = 50) -> settings:
    """Settings for a property: `number` examples, or a hundred times as many in a long run."""
    is_long = settings.get_current_profile_name() == "long"
    return settings(
        max_examples=number * (100 if is_long else 1),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        stateful_step_count=steps,
    )
