r"""The mean of a set of unit rows, and exact products with it: the mean of many similarities for the price of one.

By linearity the mean over j of x . t_j is x . c with c the mean of the t_j. The components of all t_j are multiples of
2^-45 (`exact.py`), so their sum is exact in integers; c is that sum over M, rounded to multiples of 2^-64 and split:

    c = hi + lo + rest,   hi a multiple of 2^-26,   lo of 2^-45,   rest of 2^-64;   |lo| <= 2^-27,  |rest| <= 2^-46

and with x = hi + lo,

    x . c = hi_x . hi_c  +  (hi_x . lo_c + lo_x . hi_c)  +  (hi_x . rest_c + lo_x . lo_c).

Terms of the three sums are multiples of 2^-52, 2^-71 and 2^-90, their partial sums below 2, sqrt(D) 2^-26 and
sqrt(D) 2^-46 + D 2^-54: each fits 53 bits up to 2^15 dimensions, so every sum is exact in any order. What is left out
(lo_x . rest_c) is below D 2^-73.

Shapes: M rows, D dimensions, B rows of a block.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.similarity.blocks import spans
from nearfirst.similarity.exact import SplitRows, split_rows

MEAN_QUANTUM = 2.0**-50
"""Mean similarities are multiples of this: finer than `SIMILARITY_QUANTUM`, so that equal means stay equal."""

_BLOCK_ROWS = 4096
_BITS = (26, 45, 64)


@dataclass(frozen=True, slots=True)
class Centroid:
    """The mean row in three parts, (D,) each."""

    hi: npt.NDArray[np.float64]
    lo: npt.NDArray[np.float64]
    rest: npt.NDArray[np.float64]

    @staticmethod
    def of(rows_MD: npt.NDArray[np.float32]) -> "Centroid":
        """The exact mean of unit rows, rounded to multiples of 2^-64. M is at most 2^36, D `MAX_DIMENSIONS`."""
        hi_D, lo_D = np.zeros(rows_MD.shape[1], np.int64), np.zeros(rows_MD.shape[1], np.int64)
        for span in spans(len(rows_MD), _BLOCK_ROWS):
            parts = split_rows(rows_MD[span])
            hi_D += (parts.hi * 2.0 ** _BITS[0]).astype(np.int64).sum(axis=0)
            lo_D += (parts.lo * 2.0 ** _BITS[1]).astype(np.int64).sum(axis=0)
        pairs = zip(hi_D.tolist(), lo_D.tolist(), strict=True)
        hi, lo, rest = np.array([_mean_parts(hi, lo, len(rows_MD)) for hi, lo in pairs]).T
        return Centroid(hi.copy(), lo.copy(), rest.copy())

    def similarities(self, left: SplitRows) -> npt.NDArray[np.float64]:
        """(B,) mean similarity of rows, given by their parts (`pairs.split`), to all rows of the set."""
        cross_B = np.vecdot(left.hi, self.lo) + np.vecdot(left.lo, self.hi)
        rest_B = np.vecdot(left.hi, self.rest) + np.vecdot(left.lo, self.lo)
        mean_B: npt.NDArray[np.float64] = np.vecdot(left.hi, self.hi) + (cross_B + rest_B)
        mean_B /= MEAN_QUANTUM
        np.rint(mean_B, out=mean_B)
        mean_B *= MEAN_QUANTUM
        return mean_B


def _mean_parts(hi: int, lo: int, count: int) -> tuple[float, float, float]:
    """(hi 2^-26 + lo 2^-45) / count as multiples of 2^-26, 2^-45 and 2^-64, each rounded to the nearest."""
    mean = _divide(((hi << (_BITS[1] - _BITS[0])) + lo) << (_BITS[2] - _BITS[1]), count)
    hi_part = _divide(mean, 1 << (_BITS[2] - _BITS[0]))
    mean -= hi_part << (_BITS[2] - _BITS[0])
    lo_part = _divide(mean, 1 << (_BITS[2] - _BITS[1]))
    rest = mean - (lo_part << (_BITS[2] - _BITS[1]))
    return hi_part / 2.0 ** _BITS[0], lo_part / 2.0 ** _BITS[1], rest / 2.0 ** _BITS[2]


def _divide(numerator: int, denominator: int) -> int:
    """The nearest integer to a quotient, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
