"""Rows full of ties, and similarities of them that nothing of ours computed."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest


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
