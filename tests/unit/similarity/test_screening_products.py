"""Screening products against float64: both ways of multiplying, any shape and memory, and a oneDNN that isn't exact."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from nearfirst.similarity import screening
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.screening import as_tensor, error_bound, full_precision

CPU = torch.device("cpu")
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="torch has no oneDNN here")


@pytest.fixture(params=[pytest.param("onednn", marks=needs_onednn), "fall-back"])
def products(request, monkeypatch):
    """`screening.products`, multiplying in one way only."""
    used = []
    onednn = screening._onednn_products
    monkeypatch.setattr(screening, "_can_use_onednn", lambda: request.param == "onednn")
    monkeypatch.setattr(screening, "_onednn_products", lambda left, right: used.append(1) or onednn(left, right))

    def multiply(left, right):
        with full_precision():
            found = screening.products(left, right)
        assert bool(used) == (request.param == "onednn")
        return found

    return multiply


def unit_rows(num_rows, dimensions, seed=0):
    """Rows without cancellation, whose products come nearest to the bound; memory as numpy makes it."""
    rows = np.abs(np.random.default_rng([num_rows, dimensions, seed]).normal(size=(num_rows, dimensions))) + 0.1
    return normalise(rows)


def assert_within_the_bound(found, left, right):
    assert found.dtype == torch.float32
    expected = np.asarray(left, dtype=np.float64) @ np.asarray(right, dtype=np.float64).T
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() <= error_bound(left.shape[1])


@pytest.mark.parametrize("dimensions", [1, 2, 15, 384, 385])
@pytest.mark.parametrize(("num_left", "num_right"), [(1, 1), (1, 37), (37, 1), (16, 16), (53, 130)])
def test_products_of_any_shape_are_within_the_bound(products, num_left, num_right, dimensions):
    left, right = unit_rows(num_left, dimensions), unit_rows(num_right, dimensions, seed=1)
    assert_within_the_bound(products(torch.from_numpy(left), torch.from_numpy(right)), left, right)


def in_columns(rows):
    """Fortran's order: a row's numbers are far apart."""
    return torch.from_numpy(np.ascontiguousarray(rows.T)).T


def every_second_row(rows):
    return torch.from_numpy(np.repeat(rows, 2, axis=0))[::2]


def some_columns(rows):
    """A part of wider rows, which begins off any alignment."""
    return torch.from_numpy(np.pad(rows, [(0, 0), (1, 2)], constant_values=9))[:, 1:-2]


def repeated(rows):
    """Every row the first, with a stride of 0."""
    return torch.from_numpy(rows[:1]).expand(len(rows), -1)


@pytest.mark.parametrize("dimensions", [1, 385])
@pytest.mark.parametrize("laid_out", [in_columns, every_second_row, some_columns, repeated])
def test_rows_that_are_not_contiguous_are_multiplied_as_they_are(products, laid_out, dimensions):
    left, right = laid_out(unit_rows(23, dimensions)), laid_out(unit_rows(9, dimensions, seed=1))
    if dimensions > 1:
        assert not left.is_contiguous()
    plain = torch.from_numpy(unit_rows(9, dimensions, seed=2))
    for first, second in ((left, right), (left, plain), (plain, right)):
        assert_within_the_bound(products(first, second), first.numpy(), second.numpy())


def test_rows_of_a_read_only_memory_map_are_multiplied_and_left_alone(products, tmp_path):
    rows = unit_rows(41, 385)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert_within_the_bound(products(as_tensor(mapped, CPU), as_tensor(mapped[3:4], CPU)), rows, rows[3:4])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), rows)


@pytest.fixture
def is_trusted(monkeypatch):
    """Whether oneDNN would be used if it multiplied like this."""

    def asked(multiply):
        screening._can_use_onednn.cache_clear()
        monkeypatch.setattr(screening, "_onednn_products", multiply)
        return screening._can_use_onednn()

    yield asked
    screening._can_use_onednn.cache_clear()


@needs_onednn
def test_onednn_is_trusted_while_it_keeps_the_bound_and_not_when_it_multiplies_in_bfloat16(is_trusted):
    assert is_trusted(lambda left, right: left @ right.T)
    assert not is_trusted(lambda left, right: (left.bfloat16() @ right.bfloat16().T).float())
    assert not is_trusted(lambda left, right: left.bfloat16().float() @ right.bfloat16().float().T)


def test_without_onednn_torch_s_own_product_is_taken(is_trusted, monkeypatch):
    def absent(left, right):
        raise AssertionError("there is none to call")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not is_trusted(absent)


def test_the_bound_holds_where_the_environment_allows_onednn_bfloat16():
    """What oneDNN makes of it differs between processors; the bound may not."""
    program = """
import torch
from nearfirst.similarity.screening import error_bound, full_precision, products
rows = torch.nn.functional.normalize(torch.rand(300, 384, generator=torch.Generator().manual_seed(0)) + 0.1)
with full_precision():
    error = (products(rows, rows) - rows.double() @ rows.double().T).abs().max()
assert error <= error_bound(384), error
"""
    environment = {**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
