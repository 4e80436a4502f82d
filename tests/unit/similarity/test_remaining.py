"""Candidate lists against sorting every remaining row, on rows full of ties and of near ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.similarity import candidates, remaining
from nearfirst.similarity.candidates import candidate_block
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.exact import exact_similarities, split_rows
from nearfirst.similarity.remaining import CandidateLists

SMALL_ROW = st.lists(st.integers(-1, 1), min_size=2, max_size=2).filter(any)


def rounds_of(lists):
    """What every test row takes, round for round, until nothing is left."""
    while lists.num_remaining:
        best = lists.best()
        yield best.tolist()
        lists.remove(np.unique(best))


def literal_rounds(similarity_NM, *, farthest):
    """The same by sorting: the highest (farthest: lowest) remaining similarity, the lower row on a tie."""
    remaining = set(range(len(similarity_NM)))
    while remaining:
        best = [
            min(remaining, key=lambda i, j=j: (similarity_NM[i, j] * (1 if farthest else -1), i))
            for j in range(similarity_NM.shape[1])
        ]
        yield best
        remaining -= set(best)


@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(SMALL_ROW, min_size=1, max_size=40),
    test=st.lists(SMALL_ROW, min_size=1, max_size=6),
    farthest=st.booleans(),
    budget=st.sampled_from([1, 300, 1_000, 4_000, 2**30]),
    longest=st.sampled_from([1, 2, 5, 1024]),
    last=st.sampled_from([0, 3, 512]),
)
def test_every_test_row_gets_its_best_remaining_row_whatever_the_budget(train, test, farthest, budget, longest, last):
    train_rows = normalise(np.array(train, dtype=np.float32))
    test_rows = normalise(np.array(test, dtype=np.float32))
    similarity = np.round(train_rows.astype(np.float64) @ test_rows.astype(np.float64).T, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_MAX_LIST_LENGTH", longest)
        patch.setattr(remaining, "_LAST_ROWS", last)
        lists = CandidateLists(train_rows, test_rows, farthest=farthest, memory_budget_bytes=budget)
        assert list(rounds_of(lists)) == list(literal_rounds(similarity, farthest=farthest))


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize("longest", [1, 7, 1024])
@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_rows_that_float32_cannot_tell_apart_come_in_exact_order(
    crowded, similarity_matrix, threads, monkeypatch, farthest, longest, num_threads
):
    train, test = crowded(longest)
    similarity = similarity_matrix(train, test)
    assert np.diff(np.unique(similarity[:, 0])).min() <= 2.0**-30, "no near ties: this shows nothing"
    monkeypatch.setattr(candidates, "_MAX_LIST_LENGTH", longest)
    with threads(num_threads):
        lists = CandidateLists(train, test, farthest=farthest)
        assert list(rounds_of(lists)) == list(literal_rounds(similarity, farthest=farthest))


@pytest.mark.parametrize("num_wanted", [1, 50, None])
def test_how_many_rows_are_wanted_changes_no_round(crowded, num_wanted):
    train, test = crowded(5)
    expected = list(rounds_of(CandidateLists(train, test)))
    assert list(rounds_of(CandidateLists(train, test, num_wanted=num_wanted))) == expected


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize("length", [1, 20, 300])
def test_lists_that_somebody_found_before_change_no_round(crowded, farthest, length):
    train, test = crowded(6)
    initial = candidate_block(train, test, length=length, farthest=farthest)
    lists = CandidateLists(train, test, farthest=farthest, initial=initial)
    assert list(rounds_of(lists)) == list(rounds_of(CandidateLists(train, test, farthest=farthest)))


def test_rows_of_the_same_similarity_to_all_are_taken_in_ascending_order():
    """Distinct rows, all of them orthogonal to the test row: float32 and exact keys are all equal."""
    train = np.eye(200, 201, k=1, dtype=np.float32)
    test = np.eye(1, 201, dtype=np.float32)
    lists = CandidateLists(train, test, num_wanted=1)
    assert list(rounds_of(lists)) == [[row] for row in range(200)]


def test_rows_removed_by_others_are_skipped():
    train = normalise(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32))
    lists = CandidateLists(train, train[:1])
    lists.remove(np.array([0]))
    assert lists.best().tolist() == [1]
    lists.remove(np.array([1]))
    assert lists.best().tolist() == [2]
    assert lists.num_remaining == 1


def test_a_memory_mapped_file_gives_the_same(tmp_path, crowded):
    train, test = crowded(7)
    np.save(tmp_path / "train.npy", train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    assert list(rounds_of(CandidateLists(mapped, test))) == list(rounds_of(CandidateLists(train, test)))


def test_larger_samples_agree_with_the_exact_products_of_all_pairs():
    rng = np.random.default_rng(0)
    train, test = normalise(rng.normal(size=(6000, 32))), normalise(rng.normal(size=(40, 32)))
    work = exact_similarities(split_rows(train), split_rows(test))
    found = rounds_of(CandidateLists(train, test, memory_budget_bytes=2**21))
    for _, best in zip(range(30), found, strict=False):
        assert best == work.argmax(axis=0).tolist()
        work[best] = -2.0
