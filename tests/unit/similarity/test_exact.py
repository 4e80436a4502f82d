"""Similarities are exact products, so nothing about how they were multiplied shows in them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.exact import (
    MAX_DIMENSIONS,
    SIMILARITY_QUANTUM,
    exact_similarities,
    round_to_quantum,
    split_rows,
)

ROWS = np.random.default_rng(0).normal(size=(40, 384))


def similarities(left, right):
    return exact_similarities(split_rows(left), split_rows(right))


def test_parts_add_up_to_the_row_and_are_fixed_point():
    unit = normalise(ROWS)
    hi, lo = split_rows(unit)
    assert np.abs(lo).max() <= 2.0**-27
    np.testing.assert_array_equal(np.rint(hi * 2**26), hi * 2**26)
    np.testing.assert_array_equal(np.rint(lo * 2**45), lo * 2**45)
    np.testing.assert_allclose(hi + lo, unit, rtol=0, atol=2.0**-46)


def test_a_similarity_is_the_rational_dot_product_rounded_to_the_quantum(rational_dot):
    unit = normalise(ROWS)
    found = similarities(unit[:10], unit[10:20])
    quantum = Fraction(1, 2**40)
    for i in range(10):
        for j in range(10):
            true = rational_dot(unit[i], unit[10 + j])
            assert abs(Fraction(found[i, j]) - true) <= quantum * Fraction(501, 1000)
            assert (Fraction(found[i, j]) / quantum).denominator == 1


@pytest.mark.parametrize("dimensions", [1, 3, 384, 4096])
def test_no_partial_sum_needs_more_than_53_bits(dimensions):
    """Integers of the parts: the sums that a product may pass through, the worst of them all of one sign."""
    rows = normalise(np.random.default_rng(dimensions).normal(size=(4, dimensions)))
    hi, lo = (part for part in split_rows(rows))
    whole_hi = [[int(v * 2**26) for v in row] for row in hi]
    whole_lo = [[int(v * 2**45) for v in row] for row in lo]
    for a_hi, a_lo in zip(whole_hi, whole_lo, strict=True):
        for b_hi, b_lo in zip(whole_hi, whole_lo, strict=True):
            assert sum(abs(a * b) for a, b in zip(a_hi, b_hi, strict=True)) < 2**53
            cross = sum(abs(a * d) + abs(c * b) for a, b, c, d in zip(a_hi, b_hi, a_lo, b_lo, strict=True))
            assert cross < 2**53


@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5).filter(any), min_size=2, max_size=12),
    cut=st.integers(1, 11),
    seed=st.integers(0, 2**16),
)
def test_a_pair_has_one_similarity_in_any_block_order_of_components_and_orientation(rows, cut, seed):
    unit = normalise(np.array(rows, dtype=np.float32))
    whole = similarities(unit, unit)
    components = np.random.default_rng(seed).permutation(unit.shape[1])
    np.testing.assert_array_equal(whole, whole.T)
    np.testing.assert_array_equal(whole[:cut], similarities(unit[:cut], unit))
    np.testing.assert_array_equal(whole[:, -1:], similarities(unit, unit[-1:]))
    shuffled = np.ascontiguousarray(unit[:, components])
    np.testing.assert_array_equal(whole, similarities(shuffled, shuffled))


def test_order_of_components_does_not_matter_at_384_dimensions_either():
    unit = normalise(ROWS)
    components = np.random.default_rng(1).permutation(384)
    shuffled = np.ascontiguousarray(unit[:, components])
    np.testing.assert_array_equal(similarities(unit, unit), similarities(shuffled, shuffled))
    plain = unit.astype(np.float64) @ unit.astype(np.float64).T
    plain_shuffled = shuffled.astype(np.float64) @ shuffled.astype(np.float64).T
    assert (plain != plain_shuffled).any(), "the plain product would have passed too: this test shows nothing"


def test_rounding_makes_no_negative_zero():
    rounded = round_to_quantum(np.array([-1e-20, 1e-20, SIMILARITY_QUANTUM * 1.4]))
    assert not np.signbit(rounded).any()
    assert rounded.tolist() == [0.0, 0.0, SIMILARITY_QUANTUM]


def test_more_dimensions_than_the_proof_covers_are_refused():
    with pytest.raises(InvalidEmbeddings, match=f"wanted at most {MAX_DIMENSIONS}"):
        split_rows(np.ones((1, MAX_DIMENSIONS + 1), dtype=np.float32))
