"""Numbers as they stand in reports."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

DECIMALS = 10
"""Finer than anything a float32 embedding can say; keeps the JSON small and the last bits of a sum out of it."""


def rounded(value: float | np.floating) -> float:
    """One number to `DECIMALS`; never -0.0."""
    return round(float(value), DECIMALS) + 0.0


def rounded_list(values: Iterable[float] | npt.NDArray[np.float64]) -> list[float]:
    """`rounded` of each."""
    return [rounded(value) for value in values]
