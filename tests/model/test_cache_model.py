"""Two thousand steps in any order: tests/shows/edge_8.py takes fifty thousand."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import CacheMachine

EXAMPLES, STEPS = 40, 50


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_answer_is_one_that_a_correct_cache_may_give():
    run_state_machine_as_test(
        CacheMachine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
    )
