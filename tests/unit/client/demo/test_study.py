import pytest

from nearfirst.client.demo.study import StepPlan, plan_steps
from nearfirst.contracts.problems import InvalidInput


def test_the_bundled_sizes_give_eighty_steps_measured_every_four():
    assert plan_steps(1280, 16) == StepPlan(steps=80, every=4)


def test_a_quarter_of_the_steps_is_always_measured_and_few_steps_are_left_out():
    for full_steps in range(4, 600):
        plan = plan_steps(full_steps * 8 + 7, 8)
        assert plan.steps % 4 == 0
        assert plan.quarter % plan.every == 0
        assert 0 <= full_steps - plan.steps < max(4, full_steps / 4)
        assert plan.steps >= 4


def test_long_runs_are_measured_about_twenty_times():
    for full_steps in range(40, 600):
        plan = plan_steps(full_steps, 1)
        assert 12 <= plan.steps / plan.every <= 28


def test_too_few_rows_are_refused_with_both_numbers():
    with pytest.raises(InvalidInput, match="got 63, wanted at least 64"):
        plan_steps(63, 16)
