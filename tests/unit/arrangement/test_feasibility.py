"""What is refused from counts of rows alone is what arranging the rows themselves refuses, word for word."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.contracts.arrangements import ArrangementRules, ArrangementSpec
from nearfirst.contracts.problems import InvalidInput
from nearfirst_arrangement import feasibility
from nearfirst_arrangement.feasibility import KnownRows, check_feasible, goes_by_task, num_kept
from nearfirst_arrangement.methods import arrange
from nearfirst_arrangement.task_filter import rows_of_tasks

MAX_PAIRS = 40
"""Instead of the real number, so that some small samples are too large."""

NAMED = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=14)
TASKS = st.one_of(NAMED, st.lists(st.just(""), min_size=1, max_size=9))
FILTER = st.none() | st.lists(st.sampled_from(["a", "b", "", "unknown"]), min_size=1, max_size=3)
RULES = st.sampled_from(
    [
        {"method": "ot", "order": "nft"},
        {"method": "wsd", "order": "nft", "w_avg": 1.0},
        {"method": "wsd", "order": "nft", "w_avg": 1.0, "granularity": "coarse"},
        {"method": "round_robin"},
        {"method": "cluster"},
        {"method": "as_is"},
    ]
)
SELECT = st.none() | st.builds(
    dict, per_task=st.integers(1, 4), how=st.sampled_from(["random", "first", "polar", "uniform"])
)


def vectors(count):
    """Rows in many directions of one half of the plane: no sum of them is zero."""
    angles = np.linspace(0.1, 2.0, count)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def codes(tasks):
    """As the worker numbers tasks; None where no row has one."""
    return np.unique(tasks, return_inverse=True)[1].astype(np.int64) if any(tasks) else None


def refusal(check, *arguments):
    try:
        check(*arguments)
    except InvalidInput as error:
        return error.detail
    return None


def arrange_rows(spec, train_tasks, test_tasks):
    """What the worker does with the rows."""
    train, test = (
        [tasks[row] for row in rows_of_tasks(tasks, selection.tasks)]
        for tasks, selection in ((train_tasks, spec.train), (test_tasks, spec.test))
    )
    has_vectors = spec.representation is not None
    arrange(
        ArrangementRules(**{field: getattr(spec, field) for field in ArrangementRules.model_fields}),
        vectors(len(train)) if has_vectors else None,
        vectors(len(test)) if has_vectors else None,
        len(train),
        train_tasks=codes(train),
        test_tasks=codes(test),
    )


@settings(max_examples=400, deadline=None)
@given(
    train=TASKS,
    test=TASKS,
    filters=st.tuples(FILTER, FILTER),
    rules=RULES,
    select=SELECT,
    test_per_task=st.none() | st.integers(1, 3),
    limit=st.none() | st.integers(1, 15),
    fidelity=st.sampled_from(["corrected", "paper"]),
    has_vectors=st.booleans(),
)
def test_counts_refuse_what_the_rows_refuse(
    train, test, filters, rules, select, test_per_task, limit, fidelity, has_vectors
):
    spec = ArrangementSpec(
        train={"dataset": "ds_1", "tasks": filters[0]},
        test={"dataset": "ds_2", "tasks": filters[1]},
        **rules,
        similarity="euclidean",
        select=select,
        test_per_task=test_per_task,
        limit=limit,
        fidelity=fidelity,
    )
    if spec.needs_embeddings or has_vectors:
        spec = spec.model_copy(update={"representation": {}})
    sizes = (Counter(train), Counter(test)) if goes_by_task(spec) else (None, None)
    known = KnownRows(len(train), sizes[0]), KnownRows(len(test), sizes[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feasibility, "MAX_PAIRS", MAX_PAIRS)
        assert refusal(check_feasible, spec, *known) == refusal(arrange_rows, spec, train, test)


@pytest.mark.parametrize("fidelity", ["corrected", "paper"])
@pytest.mark.parametrize("how", ["random", "first", "polar", "uniform"])
def test_the_count_of_a_selection_is_that_of_its_rows(how, fidelity):
    for size, per_task in itertools.product((1, 2, 7, 13), (1, 2, 3, 7, 8)):
        select = {"per_task": per_task, "how": how}
        rules = ArrangementRules(method="as_is", select=select, fidelity=fidelity, w_avg=1.0)
        left = arrange(rules, vectors(size), vectors(2), size, train_tasks=np.zeros(size, np.int64))
        assert num_kept(size, rules.select, rules.fidelity) == len(left.index)


@pytest.mark.parametrize(
    "asked",
    [
        {"train": {"dataset": "ds_1", "tasks": ["unknown"]}},
        {"train": {"dataset": "ds_1", "tasks": ["a"]}, "limit": 9},
        {"select": {"per_task": 1, "how": "first"}, "limit": 9},
        {"method": "cluster", "order": None},
        {"test_per_task": 1},
    ],
)
def test_what_is_not_known_is_left_to_the_worker(asked):
    body = {"train": "ds_1", "test": "ds_2", "method": "wsd", "order": "nft", "representation": {}, **asked}
    check_feasible(ArrangementSpec.model_validate(body), KnownRows(10, None), KnownRows(10, None))


def test_a_limit_above_all_rows_is_refused_whatever_their_tasks():
    spec = ArrangementSpec(train="ds_1", test="ds_2", method="random", limit=11)
    with pytest.raises(InvalidInput, match="limit: got 11, wanted at most 10, the rows in the pool"):
        check_feasible(spec, KnownRows(10, None), KnownRows(10, None))
