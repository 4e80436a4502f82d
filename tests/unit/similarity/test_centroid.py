"""Mean similarities by linearity, against rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from nearfirst.similarity.centroid import MEAN_QUANTUM, Centroid
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.pairs import split, unit_rows


@pytest.mark.parametrize(("num_rows", "dimensions"), [(1, 1), (3, 5), (97, 384)])
def test_the_product_with_the_mean_row_is_the_mean_of_the_products(rational_dot, num_rows, dimensions):
    rng = np.random.default_rng(num_rows)
    rows, test = normalise(rng.normal(size=(5, dimensions))), normalise(rng.normal(size=(num_rows, dimensions)))
    found = Centroid.of(test).similarities(split(unit_rows(rows)))
    for row, mean in zip(rows, found, strict=True):
        true = sum((rational_dot(row, other) for other in test), Fraction(0)) / num_rows
        # Float32 rows of ordinary size are multiples of 2^-45; components below 2^-21 are rounded to them.
        assert abs(Fraction(float(mean)) - true) <= Fraction(MEAN_QUANTUM) * Fraction(3, 4) + Fraction(1, 2**48)
        assert (Fraction(float(mean)) / Fraction(MEAN_QUANTUM)).denominator == 1


def test_neither_the_order_of_test_rows_nor_the_block_shows():
    rng = np.random.default_rng(0)
    rows, test = normalise(rng.normal(size=(40, 64))), normalise(rng.normal(size=(5000, 64)))
    parts = split(unit_rows(rows))
    whole = Centroid.of(test).similarities(parts)
    shuffled = Centroid.of(test[rng.permutation(5000)])
    assert shuffled.similarities(parts).tobytes() == whole.tobytes()
    one_by_one = [float(shuffled.similarities(split(unit_rows(row[None])))[0]) for row in rows]
    assert one_by_one == whole.tolist()


@pytest.mark.parametrize("dimensions", [384, 2**15])
def test_no_partial_sum_needs_more_than_53_bits(dimensions):
    """Integers of the parts: the sums that a product may pass through, the worst of them all of one sign."""
    rng = np.random.default_rng(1)
    rows = normalise(rng.choice([-1.0, 1.0], size=(2, dimensions)) * rng.uniform(0.9, 1.1, size=(2, dimensions)))
    centroid = Centroid.of(rows)
    parts = split(unit_rows(rows))
    hi, lo = (np.abs(part) for part in parts)
    mean_hi, mean_lo, mean_rest = (np.abs(part) for part in (centroid.hi, centroid.lo, centroid.rest))
    assert ((hi @ mean_lo + lo @ mean_hi) * 2.0**71).max() < 2**53
    assert ((hi @ mean_rest + lo @ mean_lo) * 2.0**90).max() < 2**53
    assert (hi @ mean_hi * 2.0**52).max() < 2**53
