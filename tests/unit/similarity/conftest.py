"""Rows full of ties, and similarities of them that nothing of ours computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nearfirst.similarity.exact import exact_similarities, split_rows


class TiedRows:
    """Small-integer rows: many equal, many in the same direction, many at the same angle to a test row."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.train = self._rows(rng, 60)
        self.test = self._rows(rng, 9)

    @staticmethod
    def _rows(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
        rows = rng.integers(-1, 2, size=(count, 3))
        rows[(rows == 0).all(axis=1)] = 1
        return rows.astype(np.float32)


@pytest.fixture(params=range(4))
def tied_rows(request: pytest.FixtureRequest) -> TiedRows:
    return TiedRows(request.param)


def exact_dot(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> Fraction:
    """The dot product in rational arithmetic."""
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(left, right, strict=True)), Fraction(0))


@pytest.fixture
def rational_dot():
    return exact_dot


@pytest.fixture
def similarity_matrix():
    """(N, M) similarities of all pairs as they are defined; test_exact.py holds them against rational arithmetic."""
    return lambda train, test: exact_similarities(split_rows(train), split_rows(test))


def crowded_rows(seed: int, num_train: int = 300, num_test: int = 7, dimensions: int = 24):
    """Unit rows that float32 products can't tell apart: a few centres, moved by some float32 steps; copies too."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, dimensions)).astype(np.float32)
    train = centres[rng.integers(0, 4, num_train)] * (1 + rng.integers(-2, 3, (num_train, dimensions)) * 2.0**-22)
    test = centres[rng.integers(0, 4, num_test)] + rng.normal(size=(num_test, dimensions)) * 0.3
    unit = [(each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in (train, test)]
    unit[0][num_train // 2 :: 3] = unit[0][0]
    unit[1][-1] = unit[1][0]
    return unit[0], unit[1]


@pytest.fixture
def crowded():
    return crowded_rows


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def threads():
    return torch_threads
