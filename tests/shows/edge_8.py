"""Fifty thousand steps of requests, changes and mishaps at one edge, held against a model of a correct cache."""

import collections

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import CacheMachine
from tests.shows.measured import Measured, all_held

EXAMPLES, STEPS = 1000, 50


def run() -> list[Measured]:
    """`checked` counts the answers judged; what ran is what Hypothesis was told to run, to the step."""
    seen: collections.Counter[str] = collections.Counter()

    class Counted(CacheMachine):
        def teardown(self) -> None:
            super().teardown()
            seen["answers"] += self.checked

    wrong = []
    try:
        run_state_machine_as_test(
            Counted, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None)
        )
    except Exception as error:  # noqa: BLE001 - the finding is the figure
        wrong.append(f"{type(error).__name__}: {error}")
    what = f"any order of requests, changes and mishaps, {EXAMPLES * STEPS} steps: unlawful answers"
    return [all_held(what, wrong, seen["answers"])]
