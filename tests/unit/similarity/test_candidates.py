"""Candidate lists against sorting every remaining row, on rows full of ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.similarity import candidates
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.remaining import CandidateLists

SMALL_ROW = st.lists(st.integers(-1, 1), min_size=2, max_size=2).filter(any)


def brute_force_best(train, test, remaining, *, farthest):
    """Each test row's best remaining train row from the whole float64 matrix; the lower index on a tie."""
    similarity = np.round(test.astype(np.float64) @ train.astype(np.float64).T, 10)
    chosen = []
    for row in similarity:
        order = sorted(remaining, key=lambda i: ((row[i] if farthest else -row[i]), i))
        chosen.append(order[0])
    return chosen


def rounds_of(train, test, *, farthest, budget):
    lists = CandidateLists(train, test, farthest=farthest, memory_budget_bytes=budget)
    remaining = set(range(len(train)))
    while lists.num_remaining:
        best = lists.best()
        yield best, brute_force_best(train, test, remaining, farthest=farthest)
        taken = np.unique(best)
        lists.remove(taken)
        remaining -= set(taken.tolist())
    assert not remaining


@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(SMALL_ROW, min_size=1, max_size=40),
    test=st.lists(SMALL_ROW, min_size=1, max_size=6),
    farthest=st.booleans(),
    budget=st.sampled_from([1, 300, 1_000, 4_000, 2**30]),
    longest=st.sampled_from([1, 2, 5, 1024]),
)
def test_every_test_row_gets_its_best_remaining_row_whatever_the_budget(train, test, farthest, budget, longest):
    train_rows = normalise(np.array(train, dtype=np.float32))
    test_rows = normalise(np.array(test, dtype=np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_MAX_LIST_LENGTH", longest)
        for best, expected in rounds_of(train_rows, test_rows, farthest=farthest, budget=budget):
            assert best.tolist() == expected


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize("budget", [1, 20_000, 2**30])
def test_reports_the_similarity_of_what_it_chose(tied_rows, farthest, budget):
    train, test = normalise(tied_rows.train), normalise(tied_rows.test)
    for best, expected in rounds_of(train, test, farthest=farthest, budget=budget):
        assert best.tolist() == expected
        dots = (test.astype(np.float64) * train[best.rows]).sum(axis=1)
        np.testing.assert_allclose(best.similarity, dots, atol=1e-12)


def test_rows_removed_by_others_are_skipped():
    train = normalise(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32))
    lists = CandidateLists(train, train[:1])
    lists.remove(np.array([0]))
    assert lists.best().tolist() == [1]
    lists.remove(np.array([1]))
    assert lists.best().tolist() == [2]
    assert lists.num_remaining == 1


def test_lists_stay_within_the_memory_budget():
    rng = np.random.default_rng(0)
    train, test = normalise(rng.normal(size=(5000, 4))), normalise(rng.normal(size=(64, 4)))
    lists = CandidateLists(train, test, memory_budget_bytes=200_000)
    assert lists._rows_MK.nbytes + lists._keys_MK.nbytes <= 100_000
    assert lists._rows_MK.shape[1] > 1
