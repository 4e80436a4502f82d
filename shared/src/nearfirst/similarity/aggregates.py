"""How far each train row is from the test set: exact minimum, mean and maximum distance, and the nearest test row.

Shapes: N train rows, n of them measured, M test rows, D dimensions; B and C rows of a block.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, block_shape, spans
from nearfirst.similarity.embeddings import check_same_dimensions
from nearfirst.similarity.exact import exact_products, round_to_quantum, split_rows


@dataclass(frozen=True, slots=True)
class DistanceAggregates:
    """Distances (negated cosine similarities) of n train rows to all M test rows."""

    minimum: npt.NDArray[np.float64]
    """(n,) distance to the nearest test row."""
    mean: npt.NDArray[np.float64]
    """(n,) mean distance."""
    maximum: npt.NDArray[np.float64]
    """(n,) distance to the farthest test row."""
    nearest_test: npt.NDArray[np.int64]
    """(n,) index of the nearest test row; the lower index where several are as near."""


def distance_aggregates(
    train_ND: npt.NDArray[np.float32],
    test_MD: npt.NDArray[np.float32],
    *,
    rows: npt.NDArray[np.int64] | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
) -> DistanceAggregates:
    """Minimum, mean and maximum of `d_ij = -cosine(train_i, test_j)` over j, and the argmin.

    Args:
        train_ND: (N, D) float32 unit rows (`normalise`); may be memory-mapped.
        test_MD: (M, D) float32 unit rows.
        rows: (n,) train rows to measure, in this order; None measures all.
        memory_budget_bytes: what blocks may take beside the embeddings and the results. Changes no result.
        progress: called with measured rows.

    Returns:
        Arrays in the order of `rows`. Minimum and maximum are multiples of `SIMILARITY_QUANTUM`. The mean is the exact
        sum of similarities rounded to 2^-51, divided once: finer than the quantum, so that rows whose means are equal
        stay so.

    Raises:
        InvalidEmbeddings: train and test differ in D.

    Notes:
        Time: three float64 matrix products of shape n x M x D. Never holds an n x M matrix.
    """
    check_same_dimensions(train_ND, test_MD)
    wanted_n = np.arange(len(train_ND)) if rows is None else rows
    num_rows, num_test = len(wanted_n), len(test_MD)
    shape = block_shape(num_rows, num_test, train_ND.shape[1], memory_budget_bytes)
    nearest_n = np.full(num_rows, -np.inf)
    farthest_n = np.full(num_rows, np.inf)
    sum_n = _ExactSum(num_rows)
    nearest_test_n = np.zeros(num_rows, dtype=np.int64)
    done, total = 0, num_rows * len(range(0, num_test, shape.test))
    for test_span in spans(num_test, shape.test):
        test_split = split_rows(test_MD[test_span])
        for span in spans(num_rows, shape.train):
            sim_BC = exact_products(split_rows(train_ND[wanted_n[span]]), test_split)
            sum_n.add(span, sim_BC)
            round_to_quantum(sim_BC)
            best_B = sim_BC.argmax(axis=1)
            similarity_B = sim_BC[np.arange(len(sim_BC)), best_B]
            nearer_B = similarity_B > nearest_n[span]
            nearest_n[span][nearer_B] = similarity_B[nearer_B]
            nearest_test_n[span][nearer_B] = best_B[nearer_B] + test_span.start
            np.minimum(farthest_n[span], sim_BC.min(axis=1), out=farthest_n[span])
            done += span.stop - span.start
            progress(done, total, "rows measured")
    mean_n = -sum_n.mean(num_test)
    return DistanceAggregates(-nearest_n + 0.0, mean_n + 0.0, -farthest_n + 0.0, nearest_test_n)


class _ExactSum:
    """Sums of similarities in fixed point: no order of additions and no cut into blocks changes them.

    Terms are rounded to multiples of 2^-51. A block's sum fits 63 bits (`MAX_TEST_BLOCK` is 2^11); totals are kept as
    high * 2^32 + low.
    """

    _SCALE = 2.0**51

    def __init__(self, length: int) -> None:
        self._high_n = np.zeros(length, dtype=np.int64)
        self._low_n = np.zeros(length, dtype=np.int64)

    def add(self, span: slice, terms_BC: npt.NDArray[np.float64]) -> None:
        """Add the terms of each row to the sums of `span`."""
        scaled_BC = terms_BC * self._SCALE
        sum_B = np.rint(scaled_BC, out=scaled_BC).astype(np.int64).sum(axis=1) + self._low_n[span]
        self._high_n[span] += sum_B >> 32
        self._low_n[span] = sum_B & 0xFFFF_FFFF

    def mean(self, count: int) -> npt.NDArray[np.float64]:
        """The sums over `count`."""
        return (self._high_n * 2.0**32 + self._low_n) / self._SCALE / count
