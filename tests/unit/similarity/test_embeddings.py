"""Normalisation: unit rows, equal bits for equal rows, and no row without a direction."""

import numpy as np
import pytest

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.similarity.embeddings import check_same_dimensions, normalise


def test_rows_have_unit_length_and_keep_their_direction():
    rows = np.random.default_rng(0).normal(size=(50, 7))
    unit = normalise(rows)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, rows / np.sqrt((rows**2).sum(axis=1))[:, None], atol=1e-6)


def test_normalising_twice_changes_no_bit():
    unit = normalise(np.random.default_rng(1).normal(size=(200, 384)).astype(np.float16))
    again = normalise(unit)
    assert again is unit or np.shares_memory(again, unit)
    np.testing.assert_array_equal(again, unit)


def test_rows_that_are_almost_unit_are_normalised_too():
    half_precision = normalise(np.random.default_rng(2).normal(size=(100, 64))).astype(np.float16)
    unit = normalise(half_precision)
    norms = np.linalg.norm(unit.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=2e-7)


@pytest.mark.parametrize("layout", ["C", "F"])
def test_equal_rows_get_equal_bits_wherever_they_stand(layout):
    rows = np.random.default_rng(3).normal(size=(9000, 5)).astype(np.float32)
    rows[[0, 8191, 8192, 8999]] = rows[17]
    unit = normalise(np.asarray(rows, order=layout))
    for place in (0, 8191, 8192, 8999):
        assert unit[place].tobytes() == unit[17].tobytes()
    assert unit[17].tobytes() == normalise(rows[17:18])[0].tobytes()


def test_a_memory_map_of_unit_rows_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", normalise(np.random.default_rng(4).normal(size=(10, 4))))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(normalise(mapped), mapped)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad):
    rows = np.ones((9001, 3), dtype=np.float32)
    rows[8500, 1] = bad
    with pytest.raises(InvalidEmbeddings, match="train_embeddings: row 8500 has NaN or infinity"):
        normalise(rows, name="train_embeddings")


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_a_row_whose_length_float32_cannot_hold_is_named(value):
    rows = np.ones((4, 3), dtype=np.float32)
    rows[2] = value
    with pytest.raises(InvalidEmbeddings, match="row 2 has length"):
        normalise(rows)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (2, 2, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InvalidEmbeddings, match="shape"):
        normalise(np.ones(shape))


@pytest.mark.parametrize("rows", [[["a", "b"]], [[1 + 2j, 0]], [[True, False]]])
def test_what_is_not_real_numbers_is_refused(rows):
    with pytest.raises(InvalidEmbeddings, match="real numbers"):
        normalise(rows)


def test_different_widths_are_refused_with_both():
    with pytest.raises(InvalidEmbeddings, match=r"384 dimensions.*768"):
        check_same_dimensions(np.ones((2, 384), np.float32), np.ones((2, 768), np.float32))
