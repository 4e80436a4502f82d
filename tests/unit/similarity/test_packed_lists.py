"""Lists of packed entries: their order, what can't be told apart, and walks past removed rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfirst.similarity.packed_lists import END, PackedLists, margin_of, packed, rows_of

KEY = st.floats(-1.0625, 1.0625, width=32)
QUANTUM = 2.0**-30


@given(st.lists(st.tuples(KEY, st.integers(0, 2**32 - 1)), min_size=2, max_size=20))
def test_entries_sort_by_descending_key_and_keep_their_rows(pairs):
    keys, rows = np.array([key for key, _ in pairs], dtype=np.float32), np.array([row for _, row in pairs])
    entries = packed(keys, rows)
    assert rows_of(entries).tolist() == rows.tolist()
    assert entries.max() < END
    in_order = keys[np.argsort(entries)].astype(np.float64)
    assert (np.diff(in_order) < QUANTUM).all()


@given(KEY, KEY, st.floats(0, 0.01), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_entries_beyond_the_margin_have_keys_lower_by_more_than_the_distance(first, second, distance, row, other):
    upper, lower = packed(np.array([first, second], dtype=np.float32), np.array([row, other]))
    last = int(upper | 0xFFFFFFFF) + margin_of(distance)
    if lower > last:
        assert float(np.float32(first)) - float(np.float32(second)) > distance
    else:
        assert float(np.float32(first)) - float(np.float32(second)) < distance + 5 * QUANTUM
    assert last < END


def lists_of(keys, distance, *, ranked=False, lengths=None):
    """Lists with these keys; rows are numbered through all of them."""
    num_tests, width = keys.shape
    rows = np.arange(num_tests * width).reshape(keys.shape)
    lists = PackedLists(num_tests, distance)
    count = np.full(num_tests, width)
    lists.put(np.arange(num_tests), packed(keys, rows), count, count if lengths is None else lengths, are_ranked=ranked)
    return lists


def test_a_walk_passes_removed_rows_and_stops_at_the_length():
    keys = np.linspace(1, -1, 300, dtype=np.float32).reshape(3, 100)
    lists = lists_of(keys, 0.0, lengths=np.array([100, 60, 100]))
    remaining = np.zeros(300, dtype=np.bool_)
    remaining[[0, 99, 170, 230]] = True
    lists.skip_removed(remaining)
    assert lists.num_left().tolist() == [100, 0, 70]
    remaining[0] = False
    lists.skip_removed(remaining)
    assert lists.num_left().tolist() == [1, 0, 70]
    assert lists.first_rows()[[0, 2]].tolist() == [99, 230]


@pytest.mark.parametrize("num_near", [1, 2, 15, 16, 17, 60])
def test_rivals_are_what_remains_within_the_distance_of_the_first(num_near):
    keys = np.tile(np.linspace(0.5, -0.5, 80, dtype=np.float32), (2, 1))
    keys[0, :num_near] = 0.5
    lists = lists_of(keys, 1e-3)
    remaining = np.ones(160, dtype=np.bool_)
    remaining[3:8] = False
    lists.skip_removed(remaining)
    rivals = lists.rivals(remaining)
    expected = [row for row in range(num_near) if remaining[row]]
    assert rivals.row.tolist() == (expected if len(expected) > 1 else [])
    assert rivals.first.tolist() == ([0] if len(expected) > 1 else [])
    assert np.isnan(rivals.key).all()


def test_exact_keys_of_rivals_are_remembered_until_lists_change():
    keys = np.full((2, 4), 0.5, dtype=np.float32)
    lists = lists_of(keys, 1e-3)
    remaining = np.ones(8, dtype=np.bool_)
    rivals = lists.rivals(remaining)
    rivals.key[:] = np.arange(8.0)
    lists.keep_exact(rivals)
    remaining[[0, 5]] = False
    lists.skip_removed(remaining)
    assert lists.rivals(remaining).key.tolist() == [1.0, 2.0, 3.0, 4.0, 6.0, 7.0]
    lists.put(np.array([1]), packed(keys[:1], np.arange(4)[None]), np.array([4]), np.array([4]))
    assert np.isnan(lists.rivals(remaining).key).all()


def test_ranked_lists_have_no_rivals():
    lists = lists_of(np.full((2, 4), 0.5, dtype=np.float32), 1e-3, ranked=True)
    assert len(lists.rivals(np.ones(8, dtype=np.bool_)).row) == 0


def test_a_longer_list_of_one_test_row_leaves_the_others_as_they_are():
    lists = lists_of(np.linspace(1, 0, 6, dtype=np.float32).reshape(2, 3), 0.0)
    longer = packed(np.linspace(1, 0, 5, dtype=np.float32)[None], np.arange(10, 15)[None])
    lists.put(np.array([0]), longer, np.array([5]), np.array([4]))
    assert lists.num_left().tolist() == [4, 3]
    assert lists.first_rows().tolist() == [10, 3]
