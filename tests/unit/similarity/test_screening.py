"""The float32 bound against rational arithmetic, and finding cells above a floor against comparing all."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.exact import exact_similarities, split_rows
from nearfirst.similarity.screening import FoldedKeys, as_tensor, error_bound, full_precision


@pytest.mark.parametrize("dimensions", [1, 2, 17, 384, 4096])
def test_float32_products_are_within_the_bound_of_exact_similarities(dimensions):
    rng = np.random.default_rng(dimensions)
    rows = normalise(np.abs(rng.normal(size=(50, dimensions))) + 0.1)
    exact = exact_similarities(split_rows(rows), split_rows(rows))
    tensor = torch.from_numpy(rows)
    one_by_one = np.zeros((50, 50), dtype=np.float32)
    for column in rows.T:
        one_by_one += column[:, None] * column[None, :]
    for products in ((tensor @ tensor.T).numpy(), one_by_one):
        assert np.abs(products - exact).max() <= error_bound(dimensions)


def test_the_bound_is_that_of_the_book():
    unit = Fraction(1, 2**24)
    gamma = 384 * unit / (1 - 384 * unit)
    assert gamma < error_bound(384) < Fraction(11, 10) * gamma


@pytest.mark.parametrize("num_columns", [1, 15, 16, 127, 128, 642, 1000, 1024])
def test_cells_above_a_floor_are_found_in_row_order(num_columns):
    rng = np.random.default_rng(num_columns)
    keys = torch.from_numpy(rng.normal(size=(20, num_columns)).astype(np.float32))
    floor = torch.from_numpy(rng.normal(size=20).astype(np.float32))
    floor[3], floor[4] = -np.inf, np.inf
    folded = FoldedKeys(keys)
    cells = folded.cells_at_least(floor)
    expected = set(zip(*(index.tolist() for index in np.nonzero(keys.numpy() >= floor.numpy()[:, None])), strict=True))
    found = list(zip(cells.p.tolist(), cells.q.tolist(), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected)
    assert cells.p.tolist() == sorted(cells.p.tolist())
    np.testing.assert_array_equal(folded.row_maxima().numpy(), keys.numpy().max(axis=1))


def test_reduced_precision_is_off_inside_and_as_it_was_afterwards():
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        with full_precision():
            assert backend.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert backend.fp32_precision == "bf16"
    finally:
        backend.fp32_precision = before


def test_rows_of_a_read_only_file_are_copied_and_others_shared(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert as_tensor(mapped, torch.device("cpu")).tolist() == np.eye(3).tolist()
    rows = np.eye(3, dtype=np.float32)
    as_tensor(rows, torch.device("cpu"))[0, 0] = 5
    assert rows[0, 0] == 5
