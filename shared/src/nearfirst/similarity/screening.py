r"""Float32 products that tell which pairs are worth computing exactly.

One float32 matrix product is several times cheaper than the exact similarities of `exact.py`, and it is within a known
distance of them. For rows of unit length, whatever the order of the additions, with fused multiply-add or without,

    | fl(a . b) - a . b |  <=  gamma_D ||a|| ||b||,   gamma_D = D u / (1 - D u),   u = 2^-24

(about 2.3e-5 for D = 384). So where two float32 products differ by more than twice this bound, their exact similarities
are in the same order, and only pairs nearer to each other than that have to be computed exactly. The products
themselves never reach a result: no kernel, block size, thread count or device shows in one.

Shapes: P rows that have a floor each, Q rows they are multiplied with, k cells found; D dimensions.

References:
    N. J. Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_UNIT_ROUNDOFF = 2.0**-24
_NORM_SLACK = 1.01
"""Squared length that a row may have: `UNIT_TOLERANCE`, and the rounding of the norm that was compared with it."""
_REST = 2.0**-22
"""What exact similarities leave out or round, and the float32 arithmetic on floors: together below this."""

_FEWEST_FOLDS, _MOST_FOLDS = 8, 16
_FOLD_ALIGNMENT = 16


def error_bound(num_dimensions: int) -> float:
    """How far a float32 product of two unit rows may be from their exact similarity."""
    gamma = num_dimensions * _UNIT_ROUNDOFF / (1 - num_dimensions * _UNIT_ROUNDOFF)
    return _NORM_SLACK * gamma + _REST


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products inside are float32 throughout: no TF32, no bfloat16, whatever the process has set."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]  # set at import
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def as_tensor(rows: npt.NDArray[np.float32], device: torch.device) -> Tensor:
    """Rows on the device; copied where torch can't share the memory (a read-only memory map) or the device differs."""
    contiguous = np.ascontiguousarray(rows)
    if not contiguous.flags.writeable:
        contiguous = contiguous.copy()
    return torch.from_numpy(contiguous).to(device)


def products(left_PD: Tensor, right_QD: Tensor) -> Tensor:
    """(P, Q) float32 products of rows, `left @ right.T`; to be called inside `full_precision`.

    Processors multiply with oneDNN where torch has it: MKL, which torch takes by itself, reaches half of that on AMD's.
    """
    if left_PD.device.type == "cpu" and _can_use_onednn():
        return _onednn_products(left_PD, right_QD)
    return left_PD @ right_QD.T


def _onednn_products(left_PD: Tensor, right_QD: Tensor) -> Tensor:
    product_PQ: Tensor = torch.ops.mkldnn._linear_pointwise(left_PD, right_QD, None, "none", [], "")
    return product_PQ


@cache
def _can_use_onednn() -> bool:
    """Whether torch has oneDNN, and it keeps the bound: an environment variable can make it multiply in bfloat16."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):  # type: ignore[no-untyped-call]
        return False
    rows = torch.nn.functional.normalize(torch.sin(torch.arange(256.0 * 384)).view(256, 384))
    with full_precision():
        error = (_onednn_products(rows, rows) - rows.double() @ rows.double().T).abs().max()
    return float(error) <= error_bound(384)


class Cells(NamedTuple):
    """Cells of a matrix, (k,) each, in ascending order of `p`."""

    p: Tensor
    q: Tensor


class FoldedKeys:
    """A P x Q matrix of float32 keys, and the maxima of disjoint sets of its columns.

    Columns are folded like a sheet: with F folds of G columns, set g holds columns g, g + G, ... g + (F - 1) G; what is
    left over of Q are sets of one column. Finding the few cells above a floor then reads all cells once, in long
    vectors, and looks at single cells only where a set has one.
    """

    def __init__(self, keys_PQ: Tensor) -> None:
        self.keys_PQ = keys_PQ
        self._num_folds, self._num_sets = _folds(keys_PQ.shape[1])
        self._folded = self._num_folds * self._num_sets
        self._tail_PR = keys_PQ[:, self._folded :]
        self._head_PFG = keys_PQ[:, : self._folded].view(len(keys_PQ), self._num_folds, self._num_sets)
        self._maxima_PG = self._head_PFG.amax(1)

    def row_maxima(self) -> Tensor:
        """(P,) the largest key of each row."""
        parts = [part.amax(1) for part in (self._maxima_PG, self._tail_PR) if part.shape[1]]
        return parts[0] if len(parts) == 1 else torch.maximum(*parts)

    def cells_at_least(self, floor_P: Tensor) -> Cells:
        """Cells whose key is at least their row's floor."""
        p_h, set_h = (self._maxima_PG >= floor_P[:, None]).nonzero(as_tuple=True)
        member_hF = self._head_PFG[p_h, :, set_h] >= floor_P[p_h, None]
        hit_k, fold_k = member_hF.nonzero(as_tuple=True)
        p_t, q_t = (self._tail_PR >= floor_P[:, None]).nonzero(as_tuple=True)
        p_k = torch.cat([p_h[hit_k], p_t])
        q_k = torch.cat([fold_k * self._num_sets + set_h[hit_k], q_t + self._folded])
        by_p = torch.argsort(p_k, stable=True)
        return Cells(p_k[by_p], q_k[by_p])


def _folds(num_columns: int) -> tuple[int, int]:
    """Folds and sets that leave over the fewest columns; sets are a multiple of a vector register."""
    choices = [
        (folds, num_columns // (folds * _FOLD_ALIGNMENT) * _FOLD_ALIGNMENT)
        for folds in range(_FEWEST_FOLDS, _MOST_FOLDS + 1)
    ]
    return max(choices, key=lambda choice: choice[0] * choice[1])
