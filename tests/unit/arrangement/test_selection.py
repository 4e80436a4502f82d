"""Selection per task: hand-worked places, and what holds for any rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.contracts.arrangements import ArrangementRules, SelectHow
from nearfirst.contracts.problems import InvalidInput
from nearfirst_arrangement.methods import arrange as arrange_rows


def kept(tasks, how, per_task, *, train=None, test=None, **rules):
    rules = ArrangementRules(method="as_is", select={"per_task": per_task, "how": how}, **rules)
    return arrange_rows(rules, train, test, len(tasks), train_tasks=np.array(tasks)).index.tolist()


def on_a_line(places):
    """Unit rows whose distance to (1, 0) grows with their place."""
    angles = np.array(places) * 0.05
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


TARGET = [[1.0, 0.0]]


def test_first_keeps_the_first_rows_of_each_task_in_dataset_order():
    assert kept([5, 5, 2, 5, 2, 2, 9], "first", 2) == [0, 1, 2, 4, 6]


def test_polar_keeps_both_ends_and_an_odd_number_has_one_more_near():
    train = on_a_line([6, 0, 3, 1, 5, 2, 4])
    assert kept([0] * 7, "polar", 4, train=train, test=TARGET) == [0, 1, 3, 4]
    assert kept([0] * 7, "polar", 3, train=train, test=TARGET) == [0, 1, 3]
    assert kept([0] * 7, "polar", 1, train=train, test=TARGET) == [1]


def test_uniform_is_evenly_spaced_and_in_paper_every_so_manyth_row():
    train = on_a_line(range(11))
    assert kept([0] * 11, "uniform", 4, train=train, test=TARGET) == [0, 2, 5, 8]
    assert kept([0] * 11, "uniform", 4, train=train, test=TARGET, fidelity="paper") == [0, 2, 4, 6, 8, 10]
    assert kept([0] * 11, "uniform", 6, train=train, test=TARGET, fidelity="paper") == list(range(11))


def test_the_automatic_weight_is_that_of_the_task(unit):
    """Near test rows on one side, far ones on the other: what a task's rows weigh alone decides their ranking."""
    rng = np.random.default_rng(0)
    train, test = unit(rng.normal(size=(40, 3))), unit(rng.normal(size=(5, 3)))
    distance = -(train.astype(float) @ test.T.astype(float))
    expected = []
    for rows in (np.arange(0, 25), np.arange(25, 40)):
        low, mean = distance[rows].min(axis=1), distance[rows].mean(axis=1)
        ranking = rows[np.argsort(low + low.mean() / mean.mean() * mean)]
        expected += [*ranking[:3], *ranking[-3:]]
    assert kept([0] * 25 + [1] * 15, "polar", 6, train=train, test=test) == sorted(expected)


def test_random_draws_from_a_task_whatever_the_other_tasks_have():
    alone = kept([0] * 50, "random", 10, seed=4)
    beside = kept([0] * 50 + [1] * 30, "random", 10, seed=4)
    assert beside[:10] == alone
    assert kept([0] * 50, "random", 10, seed=5) != alone
    assert [row - 50 for row in beside[10:]] != alone


def test_random_draws_are_spread_over_the_task():
    counts = np.zeros(12)
    for seed in range(400):
        counts[kept([0] * 12, "random", 3, seed=seed)] += 1
    assert counts.min() > 60
    assert counts.max() < 145


@settings(max_examples=80, deadline=None)
@given(
    tasks=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    per_task=st.integers(1, 7),
    how=st.sampled_from(SelectHow),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_task_keeps_min_of_its_rows_and_per_task_and_dataset_order_stays(tasks, per_task, how, seed):
    train = on_a_line(np.random.default_rng(len(tasks)).integers(0, 6, len(tasks)))
    rows = kept(tasks, how, per_task, train=train, test=TARGET, seed=seed)
    assert rows == sorted(set(rows))
    for task in set(tasks):
        assert sum(tasks[row] == task for row in rows) == min(per_task, tasks.count(task))


def test_tasks_keep_their_order_of_first_appearance_in_what_was_given(smooth, arrange):
    """A selection that drops a task's first row doesn't move the task."""
    tasks = np.array([1, 0, 1, 0])
    train = on_a_line([9, 0, 1, 8])
    rules = ArrangementRules(method="cluster", select={"per_task": 1, "how": "polar"})
    arranged = arrange_rows(rules, train, TARGET, 4, train_tasks=tasks)
    assert arranged.index.tolist() == [2, 1]


def test_test_per_task_keeps_the_first_test_rows_of_each_task(unit):
    train = unit([[1, 0.1], [0.1, 1], [1, 1]])
    test = unit([[-1, 0], [1, 0], [0, 1]])
    rules = ArrangementRules(method="as_is", test_per_task=1)
    arranged = arrange_rows(rules, train, test, 3, test_tasks=np.array([4, 4, 2]))
    assert arranged.nearest_test.tolist() == [2, 2, 2]
    assert arranged.report["num_test"] == 2


def test_a_limit_above_what_the_selection_leaves_is_refused_with_both(smooth, arrange):
    left = arrange(smooth, method="as_is", select={"per_task": 3, "how": "first"}).report["num_pool"]
    assert left < len(smooth.train)
    for method in ("as_is", "random", "cluster", "round_robin", "wsd", "tma", "ot"):
        order = {"order": "nft"} if method in ("wsd", "tma", "ot") else {}
        with pytest.raises(InvalidInput, match=f"limit: got {left + 1}, wanted at most {left}"):
            arrange(smooth, method=method, **order, select={"per_task": 3, "how": "first"}, limit=left + 1)


def test_wsd_selection_wants_embeddings():
    with pytest.raises(InvalidInput, match="embeddings: got none"):
        kept([0, 0, 0], "polar", 2)


def test_a_task_whose_mean_distance_is_zero_is_refused(unit):
    train, test = unit([[1, 0], [0, 1], [1, 1]]), unit([[1, 0], [-1, 0], [0, 1], [0, -1]])
    with pytest.raises(InvalidInput, match="w_avg: got auto"):
        kept([0, 0, 0], "polar", 2, train=train, test=test)


def test_the_report_says_what_was_selected(smooth, arrange):
    report = arrange(smooth, method="random", select={"per_task": 2, "how": "uniform"}, test_per_task=2).report
    assert report["select"] == {"per_task": 2, "how": "uniform"}
    assert report["test_per_task"] == 2
    assert report["similarity"] == "cosine"
    assert report["num_pool"] == 2 * len(np.unique(smooth.train_tasks))
    assert report["num_test"] < len(smooth.test)
