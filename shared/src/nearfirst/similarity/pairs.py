"""The exact similarities of `exact.py`, of chosen pairs of rows or of blocks of them, cheaper.

The same fixed-point parts and the same final operations: every sum of parts is exact, so the bits are those of
`exact_similarities`, whatever adds up the products (ADR 0002).

Shapes: N train rows, B of them in a block, M test rows, D dimensions, k pairs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfirst.similarity.exact import SIMILARITY_QUANTUM, SplitRows, check_dimensions, round_to_quantum

_PAIRS_AT_A_TIME = 256
"""Few enough that their rows stay in the processor's caches."""
_SHIFT_HI = 1.5 * 2.0 ** (52 - 26)
_SHIFT_LO = 1.5 * 2.0 ** (52 - 45)


class UnitRows(NamedTuple):
    """Rows on one side of exact products."""

    single: npt.NDArray[np.float32]
    """(B, D)"""
    fixed: npt.NDArray[np.float64]
    """(B, D) hi + lo of `exact.split_rows`: multiples of 2^-45."""

    def take(self, places: npt.NDArray[np.int64]) -> "UnitRows":
        """Some of the rows."""
        return UnitRows(self.single[places], self.fixed[places])


def unit_rows(rows_BD: npt.NDArray[np.float32], out: npt.NDArray[np.float64] | None = None) -> UnitRows:
    """Prepare float32 rows for exact products.

    Adding and subtracting 1.5 * 2^(52 - b) rounds a float64 to a multiple of 2^-b, halves to even. hi is a multiple of
    2^-26, so rounding hi + lo is rounding lo.

    Args:
        rows_BD: float32 unit rows.
        out: (at least B, D) float64 for the fixed-point rows; None: a new array.

    Raises:
        InvalidEmbeddings: D is above `MAX_DIMENSIONS`.
    """
    check_dimensions(rows_BD.shape[1])
    fixed_BD = np.empty(rows_BD.shape) if out is None else out[: len(rows_BD)]
    np.copyto(fixed_BD, rows_BD)
    fixed_BD += _SHIFT_LO
    fixed_BD -= _SHIFT_LO
    return UnitRows(rows_BD, fixed_BD)


def split(rows: UnitRows, out: SplitRows | None = None) -> SplitRows:
    """The two parts of `exact.split_rows`; `out`: at least as many rows to write them to."""
    parts = out or SplitRows(np.empty(rows.single.shape), np.empty(rows.single.shape))
    hi, lo = (part[: len(rows.single)] for part in parts)
    np.copyto(hi, rows.single)
    hi += _SHIFT_HI
    hi -= _SHIFT_HI
    np.subtract(rows.fixed, hi, out=lo)
    return SplitRows(hi, lo)


def pair_similarities(
    left: UnitRows, rows_k: npt.NDArray[np.int64] | None, right: UnitRows, tests_k: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(k,) exact similarity of left row `rows_k` with right row `tests_k`: multiples of `SIMILARITY_QUANTUM`.

    Without `rows_k` the left rows are taken as they stand, one a pair: nothing of them is copied.

    A plain float64 dot product, added up in any order, is within `_plain_bound` of the similarity before that is
    rounded. Only pairs that lie so near to the middle between two multiples of the quantum are computed from parts.
    """
    quanta_k = np.empty(len(tests_k))
    for start in range(0, len(tests_k), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        left_part = left.fixed[part] if rows_k is None else left.fixed.take(rows_k[part], axis=0)
        np.vecdot(left_part, right.fixed.take(tests_k[part], axis=0), out=quanta_k[part])
    quanta_k /= SIMILARITY_QUANTUM
    found_k = np.rint(quanta_k)
    quanta_k -= found_k
    margin = _plain_bound(left.fixed.shape[1]) / SIMILARITY_QUANTUM
    unsure = np.flatnonzero(np.abs(quanta_k, out=quanta_k) >= 0.5 - margin)
    found_k *= SIMILARITY_QUANTUM
    found_k += 0.0
    for start in range(0, len(unsure), _PAIRS_AT_A_TIME):
        some = unsure[start : start + _PAIRS_AT_A_TIME]
        rows = some if rows_k is None else rows_k[some]
        found_k[some] = _from_parts(split(left.take(rows)), split(right.take(tests_k[some])))
    return found_k


def block_similarities(left: UnitRows, right: UnitRows, device: torch.device) -> Tensor:
    """(B, M) exact similarities of all pairs, on the device: three float64 matrix products."""
    left_parts, right_parts = ([torch.from_numpy(part).to(device) for part in split(rows)] for rows in (left, right))
    (left_hi, left_lo), (right_hi, right_lo) = left_parts, right_parts
    cross_BM = left_hi @ right_lo.T
    cross_BM.addmm_(left_lo, right_hi.T)
    sim_BM = (left_hi @ right_hi.T).add_(cross_BM)
    return sim_BM.div_(SIMILARITY_QUANTUM).round_().mul_(SIMILARITY_QUANTUM).add_(0.0)


def similarities_of_pairs(
    train_ND: npt.NDArray[np.float32],
    rows_k: npt.NDArray[np.int64],
    test_MD: npt.NDArray[np.float32],
    tests_k: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """(k,) exact similarity of train row `rows_k` with test row `tests_k`, pair by pair.

    Args:
        train_ND: (N, D) float32 unit rows; may be memory-mapped.
        rows_k: (k,) train rows.
        test_MD: (M, D) float32 unit rows.
        tests_k: (k,) test rows.

    Notes: reads each pair's rows, faster where pairs of one test row follow each other; memory is that of some hundred
        pairs, whatever k.
    """
    found_k = np.empty(len(rows_k))
    for start in range(0, len(rows_k), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        left = unit_rows(train_ND[rows_k[part]])
        tests, test_of_pair = np.unique(tests_k[part], return_inverse=True)
        right = unit_rows(test_MD[tests])
        found_k[part] = pair_similarities(left, None, right, test_of_pair)
    return found_k


def similarities_with(
    right: UnitRows, tests_k: npt.NDArray[np.int64], train_ND: npt.NDArray[np.float32], rows_k: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """As `similarities_of_pairs`, for somebody who asks for the same test rows often and has prepared them."""
    found_k = np.empty(len(rows_k))
    for start in range(0, len(rows_k), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        left = unit_rows(train_ND[rows_k[part]])
        found_k[part] = pair_similarities(left, None, right, tests_k[part])
    return found_k


def _from_parts(left_k: SplitRows, right_k: SplitRows) -> npt.NDArray[np.float64]:
    """The definition: hi . hi + (hi . lo + lo . hi), each sum exact, then rounded to the quantum."""
    cross_k = np.vecdot(left_k.hi, right_k.lo) + np.vecdot(left_k.lo, right_k.hi)
    return round_to_quantum(np.vecdot(left_k.hi, right_k.hi) + cross_k)


def _plain_bound(num_dimensions: int) -> float:
    """D 2^-53 for the additions and multiplications, D 2^-54 for the lo . lo that similarities leave out, and some
    slack for rows above length 1."""
    return 1.6 * num_dimensions * 2.0**-53 + 2.0**-52
