"""The exact similarities of `exact.py`, of chosen pairs of rows or of blocks, in torch.

The same fixed-point parts and the same final operations: every sum of parts is exact, so the bits are those of
`exact_similarities`, whatever adds up the products (ADR 0002).

Shapes: N train rows, B of them in a block, M test rows, D dimensions, k pairs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfirst.similarity.exact import SIMILARITY_QUANTUM, check_dimensions
from nearfirst.similarity.screening import as_tensor

_PAIRS_AT_A_TIME = 1024
"""Few enough that their rows stay in the processor's caches."""
_LANES = 16
_SHIFT_HI = 1.5 * 2.0 ** (52 - 26)
_SHIFT_LO = 1.5 * 2.0 ** (52 - 45)


class UnitRows(NamedTuple):
    """Rows on one side of exact products."""

    single: Tensor
    """(B, D) float32."""
    fixed: Tensor
    """(B, D) float64: hi + lo of `exact.split_rows`, multiples of 2^-45."""

    def take(self, places: Tensor) -> "UnitRows":
        """Some of the rows."""
        return UnitRows(self.single.index_select(0, places), self.fixed.index_select(0, places))


def unit_rows(rows_BD: Tensor, out: Tensor | None = None) -> UnitRows:
    """Prepare float32 rows for exact products.

    Adding and subtracting 1.5 * 2^(52 - b) rounds a float64 to a multiple of 2^-b, halves to even. hi is a multiple of
    2^-26, so rounding hi + lo is rounding lo.

    Args:
        rows_BD: float32.
        out: (at least B, D) float64 for the fixed-point rows; None: a new tensor.

    Raises:
        InvalidEmbeddings: D is above `MAX_DIMENSIONS`.
    """
    check_dimensions(rows_BD.shape[1])
    fixed = torch.empty(rows_BD.shape, dtype=torch.float64, device=rows_BD.device) if out is None else out
    return UnitRows(rows_BD, fixed[: len(rows_BD)].copy_(rows_BD).add_(_SHIFT_LO).sub_(_SHIFT_LO))


def split(rows: UnitRows, out: Tensor | None = None) -> Tensor:
    """Rows as [hi | lo], (B, 2D): the two parts of `exact.split_rows`; `out` as for `unit_rows`."""
    num_rows, num_dimensions = rows.single.shape
    parts = rows.fixed.new_empty(num_rows, 2 * num_dimensions) if out is None else out[:num_rows]
    hi, lo = parts[:, :num_dimensions], parts[:, num_dimensions:]
    hi.copy_(rows.single).add_(_SHIFT_HI).sub_(_SHIFT_HI)
    torch.sub(rows.fixed, hi, out=lo)
    return parts


def pair_similarities(left: UnitRows, rows_k: Tensor, right: UnitRows, tests_k: Tensor) -> Tensor:
    """(k,) exact similarity of left row `rows_k` with right row `tests_k`: float64 multiples of `SIMILARITY_QUANTUM`.

    A plain float64 dot product, added up in any order, is within `_plain_bound` of the similarity before that is
    rounded. Only pairs that lie so near to the middle between two multiples of the quantum are computed from parts.
    """
    found_k = torch.empty(len(rows_k), dtype=torch.float64, device=left.fixed.device)
    margin = _plain_bound(left.fixed.shape[1]) / SIMILARITY_QUANTUM
    for start in range(0, len(rows_k), _PAIRS_AT_A_TIME):
        rows, tests = rows_k[start : start + _PAIRS_AT_A_TIME], tests_k[start : start + _PAIRS_AT_A_TIME]
        products = right.fixed.index_select(0, tests).mul_(left.fixed.index_select(0, rows))
        plain_k = _sum_of_lanes(products).div_(SIMILARITY_QUANTUM)
        rounded_k = plain_k.round()
        unsure = (plain_k.sub_(rounded_k).abs_() >= 0.5 - margin).nonzero().ravel()
        rounded_k.mul_(SIMILARITY_QUANTUM).add_(0.0)
        rounded_k[unsure] = _from_parts(split(left.take(rows[unsure])), split(right.take(tests[unsure])))
        found_k[start : start + _PAIRS_AT_A_TIME] = rounded_k
    return found_k


def block_similarities(left: UnitRows, right: UnitRows) -> Tensor:
    """(B, M) exact similarities of all pairs: three float64 matrix products."""
    num_dimensions = left.fixed.shape[1]
    left_parts, right_parts = split(left), split(right)
    cross_BM = left_parts[:, :num_dimensions] @ right_parts[:, num_dimensions:].T
    cross_BM.addmm_(left_parts[:, num_dimensions:], right_parts[:, :num_dimensions].T)
    sim_BM = left_parts[:, :num_dimensions] @ right_parts[:, :num_dimensions].T
    return round_to_quantum(sim_BM.add_(cross_BM))


def similarities_of_pairs(
    train_ND: npt.NDArray[np.float32],
    rows_k: npt.NDArray[np.int64],
    test_MD: npt.NDArray[np.float32],
    tests_k: npt.NDArray[np.int64],
    device: torch.device,
) -> npt.NDArray[np.float64]:
    """(k,) exact similarity of train row `rows_k` with test row `tests_k`, pair by pair.

    Args:
        train_ND: (N, D) float32 unit rows; may be memory-mapped.
        rows_k: (k,) train rows.
        test_MD: (M, D) float32 unit rows.
        tests_k: (k,) test rows.
        device: where to multiply; changes no bit.

    Notes: reads each pair's rows, faster where pairs of one test row follow each other; memory is that of a thousand
        pairs, whatever k.
    """
    found_k = np.empty(len(rows_k))
    for start in range(0, len(rows_k), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        left = unit_rows(as_tensor(train_ND[rows_k[part]], device))
        tests, test_of_pair = np.unique(tests_k[part], return_inverse=True)
        right = unit_rows(as_tensor(test_MD[tests], device))
        each = torch.arange(len(left.single), device=device)
        chosen = torch.from_numpy(test_of_pair).to(device)
        found_k[part] = pair_similarities(left, each, right, chosen).cpu().numpy()
    return found_k


def round_to_quantum(values: Tensor) -> Tensor:
    """Round in place to the nearest multiple of `SIMILARITY_QUANTUM`, halves to even, -0.0 to 0.0; returns `values`."""
    return values.div_(SIMILARITY_QUANTUM).round_().mul_(SIMILARITY_QUANTUM).add_(0.0)


def _from_parts(left_k2D: Tensor, right_k2D: Tensor) -> Tensor:
    """The definition: hi . hi + (hi . lo + lo . hi), each sum exact, then rounded to the quantum."""
    num_dimensions = left_k2D.shape[1] // 2
    main_k = (left_k2D[:, :num_dimensions] * right_k2D[:, :num_dimensions]).sum(1)
    return round_to_quantum(main_k.add_((left_k2D * right_k2D.roll(num_dimensions, 1)).sum(1)))


def _sum_of_lanes(terms_kD: Tensor) -> Tensor:
    """(k,) sums of rows: D / L terms in each of L lanes, then the lanes; a sum's error grows with D / L + 2 L only."""
    num_terms = terms_kD.shape[1]
    whole = num_terms // _LANES * _LANES
    lanes_kL = terms_kD[:, :whole].view(len(terms_kD), whole // _LANES, _LANES).sum(1)
    return torch.cat([lanes_kL, terms_kD[:, whole:]], dim=1).sum(1)


def _plain_bound(num_dimensions: int) -> float:
    """u = 2^-53 for each addition and the multiplication that a term passes through, D 2^-54 for the lo . lo that
    similarities leave out, and slack for rows above length 1."""
    num_roundings = num_dimensions // _LANES + 2 * _LANES + 2
    return 1.05 * (num_roundings * 2.0**-53 + num_dimensions * 2.0**-54)
