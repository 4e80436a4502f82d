"""One pass over all pairs of a train row of the order and a test row, for the similarity curve and the coverage.

Similarities are exact (docs/adr/0002-exact-similarity.md): identical rows have identical similarities, so "the first
such row" means the same for every block size and number of threads.

Shapes: n rows of the order, M test rows, D dimensions, E stretches of the order, G groups of test rows; B rows and C
test rows of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.progress import ProgressCallback
from nearfirst.similarity.blocks import spans
from nearfirst.similarity.exact import SplitRows, exact_similarities, split_rows
from nearfirst_arrangement.measures.inputs import UnitVectors

_MAX_TEST_BLOCK = 2048
_MAX_CELLS = 2**18
"""Similarities in a block: what is done to each after the product finds it in the processor's cache."""
_BYTES_PER_CELL = 32
"""Two float64 products, and a mask or a copy."""
_BYTES_PER_COMPONENT = 24
"""Two float64 parts and a temporary."""


class Stretches(NamedTuple):
    """Extremes and sums over the pairs of each stretch of the order, to be accumulated into prefixes."""

    lowest: npt.NDArray[np.float64]
    """(E, G) least similarity of any pair."""
    highest: npt.NDArray[np.float64]
    """(E, G) greatest similarity of any pair."""
    euclidean_sum: npt.NDArray[np.float64]
    """(E,) sum of sqrt(2 - 2 s) over all pairs."""


class BestRows(NamedTuple):
    """What the order has for each test row."""

    similarity: npt.NDArray[np.float64]
    """(E, M) greatest similarity to any row up to the stretch's end."""
    position: npt.NDArray[np.int64]
    """(M,) first row of the order with the greatest similarity."""
    first_related: npt.NDArray[np.int64]
    """(M,) first row that is at least `related_similarity` similar; n where there is none."""


class PairStatistics(NamedTuple):
    """All that the pass finds."""

    stretches: Stretches
    best: BestRows


@dataclass(frozen=True, slots=True)
class PairQuestion:
    """What the pass looks at."""

    ends: npt.NDArray[np.int64]
    """(E,) where stretches of the order end, ascending; the first begins at 0, the last ends at n."""
    kept_ends: npt.NDArray[np.int64]
    """(S,) those of `ends` at which each test row's best similarity so far is kept."""
    test_group: npt.NDArray[np.int64]
    """(M,) group of each test row, 0 to G - 1."""
    num_groups: int
    related_similarity: float


def pair_statistics(
    vectors: UnitVectors, question: PairQuestion, *, memory_budget_bytes: int, progress: ProgressCallback
) -> PairStatistics:
    """Extremes, sums and best rows over all pairs.

    Args:
        vectors: n rows of the order and M test rows.
        question: what to look at.
        memory_budget_bytes: what blocks may take. Changes no result but the last bits of `euclidean_sum`.
        progress: called with rows measured.

    Returns:
        Similarities are multiples of `SIMILARITY_QUANTUM`, clipped to [-1, 1]. Groups without a test row
        have infinities.

    Notes:
        Time: three float64 products of shape n x M x D and some six readings of each block. Memory: a block, and
        S x M similarities.
    """
    num_rows, num_test = len(vectors), len(vectors.test)
    per_group = (len(question.ends), question.num_groups)
    stretches = Stretches(np.full(per_group, np.inf), np.full(per_group, -np.inf), np.zeros(len(question.ends)))
    similarity_SM = np.empty((len(question.kept_ends), num_test))
    position_M = np.empty(num_test, dtype=np.int64)
    first_related_M = np.empty(num_test, dtype=np.int64)
    num_columns = min(num_test, _MAX_TEST_BLOCK)
    block_rows = _block_rows(num_columns, vectors.test.shape[1], memory_budget_bytes)
    done, total = 0, num_rows * len(range(0, num_test, num_columns))
    for columns in spans(num_test, num_columns):
        test_split = split_rows(vectors.test[columns])
        best = _BestOfColumns(columns.stop - columns.start, num_rows, question.related_similarity)
        for e, block in _blocks(question.ends, block_rows):
            sim_BC = _similarities(vectors.ordered(block), test_split)
            highest_C = sim_BC.max(axis=0)
            np.minimum.at(stretches.lowest[e], question.test_group[columns], sim_BC.min(axis=0))
            np.maximum.at(stretches.highest[e], question.test_group[columns], highest_C)
            best.take(block.start, sim_BC, highest_C)
            stretches.euclidean_sum[e] += _sum_of_euclidean_distances(sim_BC)
            similarity_SM[question.kept_ends == block.stop, columns] = best.similarity
            done += block.stop - block.start
            progress(done, total, "rows measured")
        position_M[columns] = best.position
        first_related_M[columns] = best.first_related
    return PairStatistics(stretches, BestRows(similarity_SM, position_M, first_related_M))


def _blocks(ends: npt.NDArray[np.int64], block_rows: int) -> Iterator[tuple[int, slice]]:
    """Positions in ascending order, at most `block_rows` at a time, each with the stretch that they are of."""
    start = 0
    for e, end in enumerate(ends.tolist()):
        for span in spans(end - start, block_rows):
            yield e, slice(start + span.start, start + span.stop)
        start = end


class _BestOfColumns:
    """The best row so far of some test rows, fed with blocks in training order."""

    def __init__(self, num_columns: int, num_rows: int, related_similarity: float) -> None:
        self._related_similarity = related_similarity
        self.similarity = np.full(num_columns, -np.inf)
        self.position = np.zeros(num_columns, dtype=np.int64)
        self.first_related = np.full(num_columns, num_rows, dtype=np.int64)
        self._is_unrelated = np.ones(num_columns, dtype=np.bool_)

    def take(self, first_position: int, sim_BC: npt.NDArray[np.float64], highest_C: npt.NDArray[np.float64]) -> None:
        """Look at the next rows; `highest_C` is the maximum of each column."""
        better = np.flatnonzero(highest_C > self.similarity)
        self.similarity[better] = highest_C[better]
        self.position[better] = first_position + sim_BC[:, better].argmax(axis=0)
        related = np.flatnonzero(self._is_unrelated & (highest_C >= self._related_similarity))
        is_related_Bc = sim_BC[:, related] >= self._related_similarity
        self.first_related[related] = first_position + is_related_Bc.argmax(axis=0)
        self._is_unrelated[related] = False


def _similarities(train_BD: npt.NDArray[np.float32], test_split: SplitRows) -> npt.NDArray[np.float64]:
    sim_BC = exact_similarities(split_rows(train_BD), test_split)
    return np.clip(sim_BC, -1.0, 1.0, out=sim_BC)


def _sum_of_euclidean_distances(sim_BC: npt.NDArray[np.float64]) -> float:
    """Sum of sqrt(2 - 2 s); uses up `sim_BC`."""
    sim_BC *= -2.0
    sim_BC += 2.0
    return float(np.sqrt(sim_BC, out=sim_BC).sum())


def _block_rows(num_columns: int, num_dimensions: int, memory_budget_bytes: int) -> int:
    """Rows of a block: at least one, whatever the budget."""
    per_row = _BYTES_PER_CELL * num_columns + _BYTES_PER_COMPONENT * num_dimensions
    free = memory_budget_bytes - _BYTES_PER_COMPONENT * num_columns * num_dimensions
    return max(1, min(_MAX_CELLS // num_columns, free // per_row))
