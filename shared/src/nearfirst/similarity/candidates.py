"""Each test row's best K rows of a set of train rows, and how the lists of disjoint sets become one.

Shapes: N train rows, n of them ranked, M test rows, D dimensions, K candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, block_shape
from nearfirst.similarity.embeddings import check_same_dimensions, distinct_rows
from nearfirst.similarity.exact import check_dimensions
from nearfirst.similarity.screening import default_device, full_precision
from nearfirst.similarity.shortlists import BYTES_PER_CANDIDATE, Ranking, best_rows
from nearfirst.similarity.workers import num_workers

_MAX_LIST_LENGTH = 1024
"""Longer lists cost more to fill than they save in fillings, on real data with 1,000 test rows."""


@dataclass(frozen=True, slots=True)
class CandidateBlock:
    """The nearest (or farthest) of some train rows, for each test row: best first, the lower row first on a tie."""

    keys_MK: npt.NDArray[np.float64]  # noqa: N815
    """(M, K) exact similarity, descending; of farthest rows minus it, so that the best is the highest here too."""
    rows_MK: npt.NDArray[np.int64]  # noqa: N815
    """(M, K) train rows."""
    length_M: npt.NDArray[np.int64]  # noqa: N815
    """(M,) entries of each list that count; fewer than K only where the set has fewer rows."""
    num_rows: int
    """Rows of the set."""


def default_list_length(num_train: int, num_test: int, memory_budget_bytes: int) -> int:
    """How long candidate lists should be: what half of the budget can hold, and no longer than pays."""
    affordable = memory_budget_bytes // 2 // (BYTES_PER_CANDIDATE * num_test)
    return max(1, min(num_train, _MAX_LIST_LENGTH, affordable))


def candidate_block(
    train_ND: npt.NDArray[np.float32],
    test_MD: npt.NDArray[np.float32],
    *,
    rows: slice | npt.NDArray[np.int64] | None = None,
    length: int,
    farthest: bool = False,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
    device: torch.device | None = None,
) -> CandidateBlock:
    """The best `length` rows of each test row, among some train rows.

    Args:
        train_ND: (N, D) float32 unit rows (`normalise`); may be memory-mapped.
        test_MD: (M, D) float32 unit rows.
        rows: the train rows that take part: a slice without a step, or distinct row numbers; None: all.
        length: K, at least 1; lists are as long as the set where that is shorter.
        farthest: rank by ascending similarity instead of descending.
        memory_budget_bytes: what blocks may take beside the embeddings and the lists. Changes no result.
        progress: called with rows read.
        device: where to multiply; None: the GPU where there is one. Changes no result.

    Returns:
        Row numbers are those of `train_ND`. Exact: the same bits for any budget, thread count and device.

    Raises:
        InvalidEmbeddings: train and test differ in D, or D is above `MAX_DIMENSIONS`.

    Notes: see `shortlists.best_rows`; exact similarities of M K pairs.
    """
    check_same_dimensions(train_ND, test_MD)
    check_dimensions(train_ND.shape[1])
    chosen: slice | npt.NDArray[np.int64]
    if isinstance(rows, np.ndarray):
        chosen, num_rows = np.sort(rows).astype(np.int64), len(rows)
    else:
        start, stop, _ = (rows or slice(None)).indices(len(train_ND))
        chosen, num_rows = slice(start, stop), max(0, stop - start)
    kept = min(length, num_rows)
    if kept == 0:
        empty = np.empty((len(test_MD), 0))
        return CandidateBlock(empty, empty.astype(np.int64), np.zeros(len(test_MD), dtype=np.int64), num_rows)
    distinct = distinct_rows(test_MD)
    where = device or default_device()
    budget = memory_budget_bytes // num_workers(where)
    shape = block_shape(num_rows, len(distinct.first), train_ND.shape[1], budget)
    reading = RowsRead(num_rows * -(-len(distinct.first) // shape.test), progress)
    ranking = Ranking(
        train_ND,
        chosen,
        num_rows,
        test_MD[distinct.first],
        length=kept,
        sign=-1.0 if farthest else 1.0,
        device=where,
    )
    with full_precision():
        ranked = best_rows(ranking, shape, reading.add)
    length_M = np.full(len(test_MD), kept, dtype=np.int64)
    return CandidateBlock(ranked.keys[distinct.number], ranked.rows[distinct.number], length_M, num_rows)


def merge_candidate_blocks(blocks: Sequence[CandidateBlock], length: int) -> CandidateBlock:
    """The best `length` rows of each test row among the train rows of all blocks.

    Args:
        blocks: of disjoint sets of rows of the same train rows, for the same test rows, all nearest or all farthest; at
            least one.
        length: K. A list is shorter where a block that has more rows than it lists leaves open what comes next.

    Returns:
        What `candidate_block` gives for the union, up to that length: exact, the lower row first on a tie.
    """
    keys_MK = np.concatenate([block.keys_MK for block in blocks], axis=1)
    rows_MK = np.concatenate([block.rows_MK for block in blocks], axis=1)
    counts_MK = np.concatenate(
        [np.arange(block.keys_MK.shape[1]) < block.length_M[:, None] for block in blocks], axis=1
    )
    # Behind the last row of a list that leaves rows out, there may be rows that no list has.
    is_last_MK = np.concatenate(
        [
            (np.arange(block.keys_MK.shape[1]) == block.length_M[:, None] - 1)
            & (block.length_M < int(block.num_rows))[:, None]
            for block in blocks
        ],
        axis=1,
    )
    by_key_MK = np.lexsort((rows_MK, -keys_MK, ~counts_MK), axis=1)
    counts_MK, is_last_MK = (np.take_along_axis(each, by_key_MK, axis=1) for each in (counts_MK, is_last_MK))
    known_M = np.where(is_last_MK.any(axis=1), is_last_MK.argmax(axis=1) + 1, counts_MK.sum(axis=1))
    kept_MK = by_key_MK[:, :length]
    return CandidateBlock(
        np.take_along_axis(keys_MK, kept_MK, axis=1),
        np.take_along_axis(rows_MK, kept_MK, axis=1),
        np.minimum(known_M, kept_MK.shape[1]),
        sum(int(block.num_rows) for block in blocks),
    )


class RowsRead:
    """Turns the rows of each block into calls with absolute counts."""

    def __init__(self, total: int, progress: ProgressCallback) -> None:
        self._total = total
        self._progress = progress
        self._done = 0

    def add(self, num_rows: int) -> None:
        """Rows read since the last call; what has to be read a second time isn't counted again."""
        self._done = min(self._done + num_rows, self._total)
        self._progress(self._done, self._total, "rows read")
