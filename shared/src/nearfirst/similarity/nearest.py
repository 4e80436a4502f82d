"""Each row's highest (or lowest) exact similarity among the cells that float32 products leave open.

Shapes: B rows of a block, C columns, k cells.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nearfirst.similarity.pairs import UnitRows, block_similarities, pair_similarities

_CROWD = 16
"""A row with more columns than this within the bound is multiplied with all of them exactly."""


@dataclass(frozen=True, slots=True)
class Best:
    """Of each row of a block, (B,): the best similarity and the first column that has it."""

    similarity: npt.NDArray[np.float64]
    column: npt.NDArray[np.int64]


def best_of_cells(
    rows_k: npt.NDArray[np.int64],
    columns_k: npt.NDArray[np.int64],
    sign: float,
    left: UnitRows,
    right: UnitRows,
    device: torch.device,
) -> Best:
    """Each row's highest similarity times `sign`, and its first column.

    Args:
        rows_k: rows of the cells; every row occurs.
        columns_k: their columns; among a row's are all that can be its best.
        sign: 1: the highest similarity, -1: the lowest.
        left: the B rows.
        right: the C rows that the columns stand for.
        device: where crowded rows are multiplied with all columns.
    """
    num_B = np.bincount(rows_k, minlength=len(left.single))
    crowd_b = np.flatnonzero(num_B > _CROWD)
    if len(crowd_b):
        best_b = block_similarities(left.take(crowd_b), right, device).mul_(sign).max(1)
        alone_k = num_B[rows_k] <= _CROWD
        rows_k = np.concatenate([rows_k[alone_k], crowd_b])
        columns_k = np.concatenate([columns_k[alone_k], best_b.indices.cpu().numpy()])
    some_B = np.empty(len(num_B), dtype=np.int64)
    some_B[rows_k] = np.arange(len(rows_k))
    similarity_B = pair_similarities(left, None, right, columns_k[some_B])
    if len(rows_k) == len(num_B):
        return Best(similarity_B, columns_k[some_B])
    key_k = np.empty(len(rows_k))
    key_k[some_B] = similarity_B
    is_other_k = np.ones(len(rows_k), dtype=np.bool_)
    is_other_k[some_B] = False
    key_k[is_other_k] = pair_similarities(left, rows_k[is_other_k], right, columns_k[is_other_k])
    best = _first_best(rows_k, columns_k, sign * key_k, len(num_B))
    return Best(sign * best.similarity, best.column)


def _first_best(
    rows_k: npt.NDArray[np.int64], columns_k: npt.NDArray[np.int64], key_k: npt.NDArray[np.float64], num_rows: int
) -> Best:
    """The highest key of each row and the lowest of its columns that have it; every row occurs."""
    best = Best(np.empty(num_rows), np.empty(num_rows, dtype=np.int64))
    best.similarity[rows_k], best.column[rows_k] = key_k, columns_k
    several = np.flatnonzero(np.bincount(rows_k, minlength=num_rows)[rows_k] > 1)
    by_row = several[np.lexsort((columns_k[several], -key_k[several], rows_k[several]))]
    rows_b, first_b = np.unique(rows_k[by_row], return_index=True)
    best.similarity[rows_b], best.column[rows_b] = key_k[by_row][first_b], columns_k[by_row][first_b]
    return best
