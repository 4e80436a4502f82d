"""Deep lists against exact similarities of all pairs: what is sure of them is right, however the floors turn out."""

import numpy as np
import pytest
import torch

from nearfirst.similarity import deep_lists as module
from nearfirst.similarity import remaining
from nearfirst.similarity.aggregates import distance_aggregates
from nearfirst.similarity.blocks import BlockShape
from nearfirst.similarity.deep_lists import deep_list_length, deep_lists, deep_lists_room
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.packed_lists import rows_of
from nearfirst.similarity.remaining import CandidateLists
from nearfirst.similarity.screening import error_bound, full_precision
from nearfirst.similarity.shortlists import Ranking


def random_rows(seed, num_train=3000, num_test=40, dimensions=24):
    rng = np.random.default_rng(seed)
    return tuple(normalise(rng.normal(size=(count, dimensions)).astype(np.float32)) for count in (num_train, num_test))


def misleading_rows(seed):
    """Train rows among which every tenth, those that a sample of a tenth takes, is far from all test rows."""
    train, test = (np.array(rows) for rows in random_rows(seed))
    centre = np.zeros(train.shape[1], dtype=np.float32)
    centre[0] = 3
    near, test = normalise(train + centre), normalise(test + centre)
    near[::10] = -near[::10]
    return near, test


def filled(train, test, *, length, rows=None, sign=1.0, step=256, with_nearest=False):
    """The lists, as arrays of train rows, of which the first `length` entries are sure."""
    chosen = slice(0, len(train)) if rows is None else rows
    num_rows = len(train) if rows is None else len(rows)
    ranking = Ranking(train, chosen, num_rows, test, length=length, sign=sign, device=torch.device("cpu"))
    entries = deep_lists_room(len(test), num_rows, length)
    with full_precision():
        found = deep_lists(ranking, entries, BlockShape(step, len(test)), lambda _: None, with_nearest=with_nearest)
    return [rows_of(entries[i, :count]) for i, count in enumerate(found.num_entries)], found


def rounds_of(lists, most=10_000):
    """Up to `most` rounds: what every test row takes."""
    found = []
    while lists.num_remaining and len(found) < most:
        best = lists.best()
        found.append(best.tolist())
        lists.remove(np.unique(best))
    return found


def check_sure_entries(listed, length_m, similarity_NM, sign):
    """Nothing outside of a list's sure part is as good, by more than the bound, as what is in it."""
    for test, (rows, length) in enumerate(zip(listed, length_m, strict=True)):
        assert len(set(rows.tolist())) == len(rows)
        key_N = sign * similarity_NM[:, test]
        others = np.delete(np.arange(len(key_N)), rows)
        if length and len(others):
            assert key_N[rows[:length]].min() > key_N[others].max()
        assert (np.diff(key_N[rows]) < 1e-5).all(), "a list isn't in the order of its keys"


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("length", [1, 50, 400, 2000])
def test_rows_outside_of_a_list_are_worse_than_its_sure_entries(similarity_matrix, length, sign):
    train, test = random_rows(0)
    listed, found = filled(train, test, length=length, sign=sign)
    check_sure_entries(listed, found.length, similarity_matrix(train, test), sign)
    assert (found.length <= found.num_entries).all()


def test_lists_of_half_of_the_rows_have_room_for_all_of_them(similarity_matrix):
    train, test = random_rows(1, num_train=500)
    listed, found = filled(train, test, length=250)
    assert found.length.tolist() == found.num_entries.tolist() == [500] * len(test)
    check_sure_entries(listed, found.length, similarity_matrix(train, test), 1.0)


def test_only_the_rows_that_take_part_are_listed(similarity_matrix):
    train, test = random_rows(2)
    rows = np.flatnonzero(np.random.default_rng(2).random(len(train)) < 0.4)
    listed, found = filled(train, test, length=100, rows=rows)
    assert all(np.isin(each, rows).all() for each in listed)
    similarity = similarity_matrix(train, test)
    similarity[np.delete(np.arange(len(train)), rows)] = -2.0
    check_sure_entries(listed, found.length, similarity, 1.0)
    assert (found.length > 50).all()


def test_lists_whose_floor_a_sample_set_too_low_are_of_no_use_and_change_no_round(similarity_matrix, monkeypatch):
    train, test = misleading_rows(3)
    monkeypatch.setattr(module, "_SAMPLE", 300)
    _, found = filled(train, test, length=300)
    assert (found.length == 0).all(), "the sample didn't mislead: this shows nothing"

    monkeypatch.setattr(module, "_MAX_LENGTH", 300)
    check_rounds(CandidateLists(train, test, with_nearest=True), similarity_matrix(train, test))


def test_lists_whose_floor_a_sample_set_too_high_are_of_no_use_and_change_no_round(similarity_matrix, monkeypatch):
    train, test = misleading_rows(4)
    train = -train
    train[::10] = train[0]
    monkeypatch.setattr(module, "_SAMPLE", 300)
    _, found = filled(train, test, length=200)
    assert (found.length == 0).all(), "the sample didn't mislead: this shows nothing"

    monkeypatch.setattr(module, "_MAX_LENGTH", 200)
    check_rounds(CandidateLists(train, test, with_nearest=True), similarity_matrix(train, test))


def check_rounds(lists, similarity_NM):
    """All rounds are those of the highest remaining similarity, the lower row on a tie."""
    work = similarity_NM.copy()
    for best in rounds_of(lists):
        assert best == work.argmax(axis=0).tolist()
        work[best] = -2.0
    assert lists.num_remaining == 0


@pytest.mark.parametrize("length", [3, 40, 700])
@pytest.mark.parametrize("last", [0, 100])
def test_rounds_follow_the_exact_similarities_through_many_fillings(similarity_matrix, monkeypatch, length, last):
    train, test = random_rows(5, num_train=1500, num_test=30)
    monkeypatch.setattr(module, "_MAX_LENGTH", length)
    monkeypatch.setattr(remaining, "_LAST_ROWS", last)
    check_rounds(CandidateLists(train, test), similarity_matrix(train, test))


@pytest.mark.parametrize("num_threads", [1, 2, 4])
@pytest.mark.parametrize("budget", [2**18, 2**22, 2**30])
def test_neither_the_budget_nor_the_threads_change_a_bit(crowded, threads, budget, num_threads):
    train, test = crowded(6, num_train=900, num_test=25)
    expected = CandidateLists(train, test, with_nearest=True)
    expected_rounds = rounds_of(expected)
    with threads(num_threads):
        lists = CandidateLists(train, test, with_nearest=True, memory_budget_bytes=budget)
        assert rounds_of(lists) == expected_rounds
        if lists.nearest is not None:
            assert lists.nearest.similarity.tobytes() == expected.nearest.similarity.tobytes()
            assert lists.nearest.test.tobytes() == expected.nearest.test.tobytes()


@pytest.mark.parametrize("num_test", [1, 15, 16, 17, 40, 100])
def test_nearest_test_rows_are_those_of_the_aggregates(crowded, num_test):
    for train, test in (crowded(num_test, num_train=700, num_test=num_test), random_rows(7, 700, num_test)):
        lists = CandidateLists(train, test, with_nearest=True)
        assert lists.nearest is None
        lists.best()
        found = lists.nearest
        expected = distance_aggregates(train, test)
        assert (-found.similarity).tolist() == expected.minimum.tolist()
        assert found.test.tolist() == expected.nearest_test.tolist()


def test_the_farthest_rows_come_without_nearest_test_rows():
    train, test = random_rows(8, num_train=100)
    lists = CandidateLists(train, test, farthest=True, with_nearest=True)
    lists.best()
    assert lists.nearest is None


def test_lists_take_half_of_the_budget_at_most():
    for budget in (1, 2**16, 2**24):
        length = deep_list_length(100, budget)
        assert length == 1 or deep_lists_room(100, 10**6, length).nbytes <= budget // 2


def test_the_bound_tells_near_ties_apart_from_others(crowded, similarity_matrix):
    """The rows that the tests above call crowded are nearer to each other than float32 products can tell."""
    train, test = crowded(6, num_train=900, num_test=25)
    gaps = np.diff(np.sort(similarity_matrix(train, test)[:, 0]))
    assert np.median(gaps) < error_bound(train.shape[1])
