"""Thinned curves against all rows, looked at stretch by stretch."""

import numpy as np
import pytest

from nearfirst_arrangement.train_jobs.thinning import rows_to_draw


def test_a_short_curve_is_kept_whole() -> None:
    assert rows_to_draw(np.arange(10), np.zeros(10), 10).tolist() == list(range(10))


def test_a_single_row_and_none_are_kept() -> None:
    assert rows_to_draw(np.array([7]), np.array([1.0]), 4).tolist() == [0]
    assert rows_to_draw(np.array([], dtype=np.int64), np.array([]), 4).tolist() == []


@pytest.mark.parametrize("num_points", [4, 5, 100, 999])
@pytest.mark.parametrize("seed", [0, 1])
def test_at_most_that_many_are_kept_with_both_ends_and_every_stretch_s_extremes(num_points: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    steps = np.sort(random.choice(50_000, 3_000, replace=False))
    values = np.round(random.normal(size=3_000), 1)  # with ties
    kept = rows_to_draw(steps, values, num_points)
    assert len(kept) <= num_points
    assert (np.diff(kept) > 0).all()
    assert {0, 2_999} <= set(kept.tolist())
    num_stretches = (num_points - 2) // 2
    width = (steps[-1] - steps[0]) / num_stretches
    for number in range(num_stretches):
        begin, end = steps[0] + number * width, steps[0] + (number + 1) * width
        inside = [row for row in range(3_000) if begin <= steps[row] < end]
        if inside:
            shown = [values[row] for row in kept if row in inside]
            assert {min(values[inside]), max(values[inside])} <= set(shown)


def test_one_spike_in_a_hundred_thousand_steps_is_kept() -> None:
    values = np.ones(100_000)
    values[54_321] = 9.0
    assert 54_321 in rows_to_draw(np.arange(100_000), values, 500)


def test_a_flat_curve_keeps_its_ends() -> None:
    kept = rows_to_draw(np.arange(1_000), np.zeros(1_000), 10)
    assert kept[0] == 0
    assert kept[-1] == 999
