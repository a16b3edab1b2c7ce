"""Number of Hypothesis examples: few by default, many with `pytest --hypothesis-profile long`."""

from hypothesis import HealthCheck, Phase, settings

# The duration of a test depends more on the machine than on the code. Each default run tries the same examples, so that
# a failure is caused by the last change. A long run tries new examples.
settings.register_profile("quick", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("quick"), derandomize=False)
settings.register_profile(
    "mutants",  # the same few examples for each mutant, without shrinking
    settings.get_profile("quick"),
    max_examples=20,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("quick")


def examples(number: int, *, steps: int = 50) -> settings:
    """Return settings for a property: `number` examples, or a hundred times as many in a long run."""
    is_long = settings.get_current_profile_name() == "long"
    return settings(
        max_examples=number * (100 if is_long else 1),
        stateful_step_count=steps,
    )
