"""How far each train row is from the test set: exact minimum, mean and maximum distance, and the nearest test row.

Shapes: N train rows, n of them measured, M test rows, D dimensions; B and C rows of a block, k pairs of rows.
"""

import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, BlockShape, block_shape, spans
from nearfirst.similarity.centroid import Centroid
from nearfirst.similarity.embeddings import check_same_dimensions, distinct_rows
from nearfirst.similarity.exact import SIMILARITY_QUANTUM, SplitRows, round_to_quantum
from nearfirst.similarity.nearest import Best, best_of_cells
from nearfirst.similarity.pairs import UnitRows, block_similarities, split, unit_rows
from nearfirst.similarity.screening import FoldedKeys, as_tensor, default_device, error_bound, full_precision, products
from nearfirst.similarity.workers import in_order, num_workers

_EXACT_ROWS = 256
"""Rows of a block whose fixed-point parts are worked on together: they stay in the processor's caches."""


@dataclass(frozen=True, slots=True)
class DistanceAggregates:
    """Distances of n train rows to all M test rows."""

    minimum: npt.NDArray[np.float64]
    """(n,) distance to the nearest test row."""
    mean: npt.NDArray[np.float64]
    """(n,) mean distance."""
    maximum: npt.NDArray[np.float64]
    """(n,) distance to the farthest test row; NaN where it wasn't asked for."""
    nearest_test: npt.NDArray[np.int64]
    """(n,) index of the nearest test row; the lower index where several are as near."""


def distance_aggregates(
    train_ND: npt.NDArray[np.float32],
    test_MD: npt.NDArray[np.float32],
    *,
    rows: npt.NDArray[np.int64] | None = None,
    similarity: Similarity = Similarity.COSINE,
    with_maximum: bool = True,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
    device: torch.device | None = None,
) -> DistanceAggregates:
    """Minimum, mean and maximum over j of the distances d_ij of train rows i to test rows j, and the argmin.

    With s_ij the exact cosine similarity (`exact.py`), a multiple of `SIMILARITY_QUANTUM`:

    - cosine: `d_ij = -s_ij`; the mean is minus the product of the train row with the exact mean of the test rows
      (`centroid.py`), which by linearity is the mean of the similarities before they are rounded.
    - euclidean: `d_ij = sqrt(2 - 2 s_ij)`, 0 where s_ij is above 1, rounded to the quantum; the mean is the exact
      sum of these distances, divided once.

    Args:
        train_ND: (N, D) float32 unit rows (`normalise`); may be memory-mapped.
        test_MD: (M, D) float32 unit rows.
        rows: (n,) train rows to measure, in this order; None measures all.
        similarity: what distance is.
        with_maximum: whether to find the farthest test rows too, about a fifth of the time for cosine.
        memory_budget_bytes: what blocks may take beside the embeddings and the results. Changes no result.
        progress: called with measured rows.
        device: where to multiply; None: the GPU where there is one. Changes no result.

    Returns:
        Arrays in the order of `rows`. Minimum and maximum are multiples of `SIMILARITY_QUANTUM`, cosine means of
        `MEAN_QUANTUM`. `nearest_test` is the lowest test row of the highest similarity, for euclidean too.

    Raises:
        InvalidEmbeddings: train and test differ in D, or D is above `MAX_DIMENSIONS`.

    Notes:
        Cosine: one float32 matrix product of shape n x M x D, and exact similarities of about two pairs a row
        (`screening.py`); rows with many test rows within the float32 bound of the nearest or the farthest are
        multiplied exactly with all. Euclidean: all pairs exactly, about six times the float32 product. Never holds an
        n x M matrix.
    """
    check_same_dimensions(train_ND, test_MD)
    wanted_n = None if rows is None else np.asarray(rows, dtype=np.int64)
    where = device or default_device()
    work = _Work(train_ND, wanted_n, test_MD, memory_budget_bytes, where)
    with full_precision():
        if similarity is Similarity.EUCLIDEAN:
            return _measure_euclidean(work, progress)
        return _measure_cosine(work, progress, with_maximum=with_maximum)


class _Work:
    """Train rows to measure against test rows, block by block."""

    def __init__(
        self,
        train_ND: npt.NDArray[np.float32],
        rows_n: npt.NDArray[np.int64] | None,
        test_MD: npt.NDArray[np.float32],
        memory_budget_bytes: int,
        device: torch.device,
    ) -> None:
        self.test_MD = test_MD
        self.device = device
        self.workers = num_workers(device)
        self.num_rows = len(train_ND) if rows_n is None else len(rows_n)
        self._train_ND, self._rows_n = train_ND, rows_n
        self._memory_budget_bytes = memory_budget_bytes

    def shape(self, num_test: int) -> BlockShape:
        """Blocks of the rows to measure and so many test rows."""
        return block_shape(self.num_rows, num_test, self.test_MD.shape[1], self._memory_budget_bytes // self.workers)

    def train_rows(self, span: slice) -> npt.NDArray[np.float32]:
        """(B, D) the rows that belong at these places of the results."""
        return self._train_ND[span] if self._rows_n is None else self._train_ND[self._rows_n[span]]


class _Extremes:
    """The highest and the lowest similarity of each row so far, and the first test row that has the highest."""

    def __init__(self, length: int) -> None:
        self.highest_n = np.full(length, -np.inf)
        self.lowest_n = np.full(length, np.inf)
        self.nearest_test_n = np.zeros(length, dtype=np.int64)

    def add_highest(self, span: slice, highest: Best, tests_C: npt.NDArray[np.int64]) -> None:
        """Take in a block; `tests_C` are the test rows of its columns, higher than those of earlier blocks."""
        nearer_B = highest.similarity > self.highest_n[span]
        self.highest_n[span][nearer_B] = highest.similarity[nearer_B]
        self.nearest_test_n[span][nearer_B] = tests_C[highest.column[nearer_B]]

    def add_lowest(self, span: slice, lowest: Best) -> None:
        """Take in a block."""
        np.minimum(self.lowest_n[span], lowest.similarity, out=self.lowest_n[span])


class _CosineBlocks:
    """The work on blocks of train rows against some test rows; blocks write to places of their own in the results."""

    def __init__(
        self,
        work: _Work,
        tests_C: npt.NDArray[np.int64],
        found: _Extremes,
        means: tuple[Centroid, npt.NDArray[np.float64]] | None,
        *,
        with_maximum: bool,
    ) -> None:
        self._work = work
        self._tests_C = tests_C
        self._right = unit_rows(work.test_MD[tests_C])
        self._test_CD = as_tensor(self._right.single, work.device)
        self._found = found
        self._means = means
        self._with_maximum = with_maximum
        self._buffers = threading.local()

    def measure(self, span: slice) -> int:
        """Measure the train rows of a block; returns their number."""
        train_BD = self._work.train_rows(span)
        keys_BC = products(as_tensor(train_BD, self._work.device), self._test_CD)
        signs = (1.0, -1.0) if self._with_maximum else (1.0,)
        cells = [_near_best(keys_BC if sign > 0 else keys_BC.neg_(), train_BD.shape[1]) for sign in signs]
        for part in spans(len(train_BD), _EXACT_ROWS):
            self._measure_exactly(
                train_BD[part],
                slice(span.start + part.start, span.start + part.stop),
                [each.of_rows(part) for each in cells],
            )
        return len(train_BD)

    def _measure_exactly(self, train_SD: npt.NDArray[np.float32], span: slice, cells: list["_NearCells"]) -> None:
        """Some rows of a block, few enough for the processor's caches, and the cells where their best can be."""
        fixed, parts = self._own_rows(train_SD.shape[1])
        left = unit_rows(train_SD, out=fixed)
        if self._means is not None:
            centroid, mean_n = self._means
            mean_n[span] = centroid.similarities(split(left, out=parts))
        highest = best_of_cells(*cells[0], 1.0, left, self._right, self._work.device)
        self._found.add_highest(span, highest, self._tests_C)
        if self._with_maximum:
            self._found.add_lowest(span, best_of_cells(*cells[1], -1.0, left, self._right, self._work.device))

    def _own_rows(self, num_dimensions: int) -> tuple[npt.NDArray[np.float64], SplitRows]:
        """This thread's fixed-point rows and their parts, (`_EXACT_ROWS`, D) each."""
        rows: tuple[npt.NDArray[np.float64], SplitRows] | None = getattr(self._buffers, "rows", None)
        if rows is None:
            fixed, hi, lo = (np.empty((_EXACT_ROWS, num_dimensions)) for _ in range(3))
            rows = self._buffers.rows = (fixed, SplitRows(hi, lo))
        return rows


class _NearCells(NamedTuple):
    """Cells of a block within the bound of the best of their row, (k,) each, in ascending order of rows."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    def of_rows(self, part: slice) -> "_NearCells":
        """Those of some rows, counted from the first of them."""
        start, stop = np.searchsorted(self.rows, [part.start, part.stop])
        return _NearCells(self.rows[start:stop] - part.start, self.columns[start:stop])


def _near_best(keys_BC: Tensor, num_dimensions: int) -> _NearCells:
    """The cells that can be the best of their row."""
    folded = FoldedKeys(keys_BC)
    cells = folded.cells_at_least(folded.row_maxima() - 2 * error_bound(num_dimensions))
    return _NearCells(cells.p.cpu().numpy(), cells.q.cpu().numpy())


def _measure_cosine(work: _Work, progress: ProgressCallback, *, with_maximum: bool) -> DistanceAggregates:
    first_m = distinct_rows(work.test_MD).first
    shape = work.shape(len(first_m))
    centroid = Centroid.of(work.test_MD)
    found, mean_n = _Extremes(work.num_rows), np.empty(work.num_rows)
    done, total = 0, work.num_rows * len(range(0, len(first_m), shape.test))
    for test_span in spans(len(first_m), shape.test):
        means = (centroid, mean_n) if test_span.start == 0 else None
        blocks = _CosineBlocks(work, first_m[test_span], found, means, with_maximum=with_maximum)
        for num_measured in in_order(blocks.measure, spans(work.num_rows, shape.train), work.workers):
            done += num_measured
            progress(done, total, "rows measured")
    maximum_n = -found.lowest_n + 0.0 if with_maximum else np.full(work.num_rows, np.nan)
    return DistanceAggregates(-found.highest_n + 0.0, -mean_n + 0.0, maximum_n, found.nearest_test_n)


def _measure_euclidean(work: _Work, progress: ProgressCallback) -> DistanceAggregates:
    shape = work.shape(len(work.test_MD))
    found, sum_n = _Extremes(work.num_rows), np.zeros(work.num_rows, dtype=np.int64)
    done, total = 0, work.num_rows * len(range(0, len(work.test_MD), shape.test))
    for test_span in spans(len(work.test_MD), shape.test):
        right = unit_rows(work.test_MD[test_span])
        tests_C = np.arange(test_span.start, test_span.stop)

        def measure(span: slice, right: UnitRows = right, tests_C: npt.NDArray[np.int64] = tests_C) -> int:
            sim_BC = block_similarities(unit_rows(work.train_rows(span)), right, work.device)
            highest, lowest = (Best(*(each.cpu().numpy() for each in best)) for best in (sim_BC.max(1), sim_BC.min(1)))
            found.add_highest(span, highest, tests_C)
            found.add_lowest(span, lowest)
            quanta_BC = _euclidean(sim_BC.cpu().numpy()) / SIMILARITY_QUANTUM
            sum_n[span] += quanta_BC.astype(np.int64).sum(axis=1)
            return len(sim_BC)

        for num_measured in in_order(measure, spans(work.num_rows, shape.train), work.workers):
            done += num_measured
            progress(done, total, "rows measured")
    mean_n = sum_n * SIMILARITY_QUANTUM / len(work.test_MD)
    minimum_n, maximum_n = (_euclidean(each) for each in (found.highest_n, found.lowest_n))
    return DistanceAggregates(minimum_n, mean_n, maximum_n, found.nearest_test_n)


def _euclidean(similarity: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distances of unit rows, rounded to `SIMILARITY_QUANTUM`."""
    return round_to_quantum(np.sqrt(np.maximum(2.0 - 2.0 * similarity, 0.0)))
