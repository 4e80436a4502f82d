"""Exact similarities of pairs: the bits of `exact_similarities`, however they are asked for."""

import numpy as np
import pytest
import torch

from nearfirst.similarity import pairs
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.exact import SplitRows, exact_similarities, split_rows
from nearfirst.similarity.pairs import block_similarities, pair_similarities, similarities_of_pairs, split, unit_rows


def rows_of(dimensions, seed=0, count=70):
    return normalise(np.random.default_rng(seed).normal(size=(count, dimensions)))


@pytest.mark.parametrize("dimensions", [1, 2, 33, 384, 3000])
def test_pairs_and_blocks_have_the_bits_of_the_definition(dimensions):
    left, right = rows_of(dimensions), rows_of(dimensions, seed=1, count=60)
    expected = exact_similarities(split_rows(left), split_rows(right))
    i, j = (index.ravel() for index in np.indices(expected.shape))
    found = pair_similarities(unit_rows(left), i, unit_rows(right), j)
    assert found.tobytes() == expected.tobytes()
    block = block_similarities(unit_rows(left), unit_rows(right), torch.device("cpu"))
    assert block.numpy().tobytes() == expected.tobytes()
    assert similarities_of_pairs(left, i, right, j).tobytes() == expected.tobytes()


def test_some_pairs_lie_so_near_to_a_middle_that_plain_dot_products_round_them_the_other_way():
    """What the parts are for: without them some bits differ."""
    left = rows_of(384, count=400)
    expected = exact_similarities(split_rows(left), split_rows(left))
    i, j = (index.ravel() for index in np.indices(expected.shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_plain_bound", lambda num_dimensions: 0.0)
        plain = pair_similarities(unit_rows(left), i, unit_rows(left), j)
    assert (plain != expected.ravel()).any()
    assert (pair_similarities(unit_rows(left), i, unit_rows(left), j) == expected.ravel()).all()


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_parts_are_those_of_the_definition_for_tiny_components_too(scale):
    rows = np.random.default_rng(2).normal(size=(20, 9))
    rows[:, 1:] *= scale
    unit = normalise(rows)
    np.testing.assert_array_equal(split(unit_rows(unit)), split_rows(unit))


def test_given_memory_is_used():
    unit = rows_of(8)
    fixed, parts = np.empty((100, 8)), SplitRows(np.empty((100, 8)), np.empty((100, 8)))
    rows = unit_rows(unit, out=fixed)
    assert np.shares_memory(rows.fixed, fixed)
    found = split(rows, out=parts)
    assert np.shares_memory(found.hi, parts.hi)
    assert np.shares_memory(found.lo, parts.lo)
    np.testing.assert_array_equal(found, split(unit_rows(unit)))
