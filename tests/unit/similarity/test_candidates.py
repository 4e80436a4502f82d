"""Candidate blocks against sorting all similarities, and their merge against one block."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.similarity.candidates import candidate_block, default_list_length, merge_candidate_blocks
from nearfirst.similarity.embeddings import normalise

ROW = st.lists(st.integers(-1, 1), min_size=3, max_size=3).filter(any)


def sorted_rows(similarity_NM, length, *, farthest):
    """(M, K) rows by descending similarity (farthest: ascending), the lower row first on a tie."""
    sign = 1 if farthest else -1
    return [
        sorted(range(len(similarity_NM)), key=lambda i, j=j: (sign * similarity_NM[i, j], i))[:length]
        for j in range(similarity_NM.shape[1])
    ]


def same_bits(left, right):
    names = ("keys_MK", "rows_MK", "length_M")
    return left.num_rows == right.num_rows and all(
        getattr(left, name).tobytes() == getattr(right, name).tobytes() for name in names
    )


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize("length", [1, 13, 300, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_block_is_the_first_rows_of_all_sorted_with_their_exact_similarities(
    crowded, similarity_matrix, farthest, length, seed
):
    train, test = crowded(seed)
    similarity = similarity_matrix(train, test)
    block = candidate_block(train, test, length=length, farthest=farthest)
    kept = min(length, len(train))
    assert block.rows_MK.tolist() == sorted_rows(similarity, kept, farthest=farthest)
    expected = np.take_along_axis(similarity.T, block.rows_MK, axis=1)
    np.testing.assert_array_equal(block.keys_MK, -expected if farthest else expected)
    assert block.length_M.tolist() == [kept] * len(test)
    assert block.num_rows == len(train)


@settings(max_examples=40, deadline=None)
@given(
    train=st.lists(ROW, min_size=1, max_size=50),
    test=st.lists(ROW, min_size=1, max_size=5),
    length=st.integers(1, 60),
    farthest=st.booleans(),
    cuts=st.lists(st.integers(0, 50), max_size=2),
)
def test_shards_merge_to_the_bits_of_one_block(train, test, length, farthest, cuts):
    train_rows = normalise(np.array(train, dtype=np.float32))
    test_rows = normalise(np.array(test, dtype=np.float32))
    edges = [0, *sorted(min(cut, len(train)) for cut in cuts), len(train)]
    shards = [
        candidate_block(train_rows, test_rows, rows=slice(start, stop), length=length, farthest=farthest)
        for start, stop in pairwise(edges)
    ]
    whole = candidate_block(train_rows, test_rows, length=length, farthest=farthest)
    assert same_bits(merge_candidate_blocks(shards, length), whole)


@pytest.mark.parametrize("num_threads", [1, 2, 4])
@pytest.mark.parametrize("budget", [1, 200_000, 2**30])
def test_bits_depend_on_neither_threads_nor_budget(crowded, threads, num_threads, budget):
    train, test = crowded(3)
    expected = candidate_block(train, test, length=40)
    with threads(num_threads):
        assert same_bits(candidate_block(train, test, length=40, memory_budget_bytes=budget), expected)


def test_a_merge_ends_where_a_short_list_leaves_open_what_comes_next():
    train = normalise(np.array([[4, 3], [1, 0], [3, 4], [0, 1]], dtype=np.float32))
    test = normalise(np.array([[1, 0]], dtype=np.float32))
    short = candidate_block(train, test, rows=slice(0, 2), length=1)
    whole = candidate_block(train, test, rows=slice(2, 4), length=2)
    merged = merge_candidate_blocks([short, whole], 4)
    assert merged.rows_MK[0, : merged.length_M[0]].tolist() == [1]
    assert merged.num_rows == 4


def test_chosen_rows_keep_their_numbers(crowded, similarity_matrix):
    train, test = crowded(4)
    rows = np.array([250, 3, 17, 18, 4])
    block = candidate_block(train, test, rows=rows, length=3)
    similarity = similarity_matrix(train, test)
    hidden = np.full_like(similarity, -2)
    hidden[rows] = similarity[rows]
    assert block.rows_MK.tolist() == sorted_rows(hidden, 3, farthest=False)
    assert block.num_rows == 5


def test_many_copies_of_one_row_do_not_crowd_out_memory_or_order():
    """Far more rows within the float32 bound than a list has room for: the exact products decide."""
    train = np.tile(normalise([[3.0, 4.0, 12.0]]), (5000, 1))
    train[[7, 4000]] = normalise([[3.0, 4.0, 12.00001]])
    test = normalise([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    block = candidate_block(train, test, length=5)
    assert block.rows_MK.tolist() == [[7, 4000, 0, 1, 2], [0, 1, 2, 3, 4]]


def test_no_rows_give_empty_lists():
    train = normalise(np.eye(3))
    block = candidate_block(train, train, rows=slice(2, 2), length=4)
    assert block.keys_MK.shape == block.rows_MK.shape == (3, 0)
    assert block.length_M.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dimensions", [1, 2])
def test_few_dimensions(dimensions):
    train = normalise(np.full((4, dimensions), -1.0) * np.array([[1], [-1], [1], [-1]]))
    block = candidate_block(train, train[:1], length=4)
    assert block.rows_MK.tolist() == [[0, 2, 1, 3]]


def test_lists_are_as_long_as_half_of_the_budget_can_hold():
    assert default_list_length(10, 5, 2**30) == 10
    assert default_list_length(10**6, 100_000, 2**30) < 1024
    assert default_list_length(10**6, 1000, 1) == 1


def test_progress_reaches_its_total(crowded):
    train, test = crowded(0)
    seen = []
    candidate_block(train, test, length=3, memory_budget_bytes=100_000, progress=lambda *call: seen.append(call))
    assert seen[-1][0] == seen[-1][1] >= len(train)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_train_and_test_of_different_widths_are_refused():
    with pytest.raises(InvalidEmbeddings, match="3 dimensions"):
        candidate_block(np.eye(3, dtype=np.float32), np.eye(2, dtype=np.float32), length=1)
