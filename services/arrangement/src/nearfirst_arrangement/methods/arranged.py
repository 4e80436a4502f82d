"""What goes into an arrangement method and what comes out.

Shapes: N train rows in the pool, n of them in the order, M test rows, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Similarity
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.progress import ProgressCallback
from nearfirst.similarity.aggregates import DistanceAggregates, distance_aggregates
from nearfirst.similarity.candidates import CandidateBlock
from nearfirst_arrangement.feasibility import check_limit


@dataclass(frozen=True, slots=True)
class Precomputed:
    """What shards have found out about the whole train pool, merged; None where they didn't ask.

    It changes how long an arrangement takes, and nothing else.
    """

    aggregates: DistanceAggregates | None = None
    """(N,) arrays, one entry a train row, in `similarity`."""
    nearest: CandidateBlock | None = None
    """Every test row's nearest train rows."""
    farthest: CandidateBlock | None = None
    """Every test row's farthest train rows."""
    similarity: Similarity = Similarity.COSINE
    """What `aggregates` measure; aggregates in another similarity are computed anew."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows to arrange, and what they are arranged for."""

    num_train: int
    train: npt.NDArray[np.float32] | None
    """(N, D) float32 unit rows; None for methods that look at no embedding."""
    test: npt.NDArray[np.float32] | None
    """(M, D) float32 unit rows; None exactly when `train` is."""
    memory_budget_bytes: int
    progress: ProgressCallback
    train_tasks: npt.NDArray[np.int64] | None = None
    """(N,) task of each row; tasks are numbered in the order in which they take turns. None: the rows have no tasks."""
    precomputed: Precomputed = field(default_factory=Precomputed)
    """Of exactly these rows."""

    def embeddings(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Train and test embeddings, of a method that needs them.

        Raises:
            InvalidInput: there are none.
        """
        if self.train is None or self.test is None:
            raise InvalidInput("train_embeddings and test_embeddings: got none, and the method ranks by similarity")
        return self.train, self.test

    def tasks(self) -> npt.NDArray[np.int64]:
        """The rows' tasks, of a method that needs them; `arrange` has refused rules that ask for missing ones."""
        assert self.train_tasks is not None, "arrange checks that there are tasks"
        return self.train_tasks

    def aggregates(
        self, rows: npt.NDArray[np.int64] | None = None, *, similarity: Similarity = Similarity.COSINE
    ) -> DistanceAggregates:
        """Distances of some train rows (all: None) to the test set; the precomputed ones where they are the same.

        No method asks for the maximum: it is NaN unless precomputed.
        """
        known = self.precomputed.aggregates
        if known is not None and self.precomputed.similarity is similarity:
            return known if rows is None else aggregates_of_rows(known, rows)
        train_ND, test_MD = self.embeddings()
        return distance_aggregates(
            train_ND,
            test_MD,
            rows=rows,
            similarity=similarity,
            with_maximum=False,
            memory_budget_bytes=self.memory_budget_bytes,
            progress=self.progress,
        )

    def check_limit(self, limit: int | None) -> None:
        """Refuse a limit above the number of rows.

        Raises:
            InvalidInput: with both numbers.
        """
        check_limit(limit, self.num_train)


@dataclass(frozen=True, slots=True)
class ArrangedOrder:
    """Train rows in training order, and why each is where it is. All arrays are (n,) and in that order."""

    index: npt.NDArray[np.int64]
    """Rows of the train dataset, distinct."""
    round: npt.NDArray[np.int32] | None = None
    """TMA: the round that chose the row, from 0 (`tma.py` says whose round in orders of two halves)."""
    score: npt.NDArray[np.float64] | None = None
    """WSD: the score, a distance; coarse: that of the row's task. OT: the row's part of the total cost. TMA: similarity
    to the test row that chose the row."""
    nearest_test: npt.NDArray[np.int64] | None = None
    """Index of the nearest test row, the lower one on a tie; None without embeddings."""
    nearest_similarity: npt.NDArray[np.float64] | None = None
    """Cosine similarity to that test row, -1 to 1; None without embeddings."""
    num_rounds: int | None = None
    """TMA: rounds that the rows come from."""
    report: dict[str, Any] = field(default_factory=dict)
    """JSON values that say how it was computed: `num_pool` and `num_test` (rows after selection), `similarity`,
    `similarity_quantum`, `select`, `test_per_task`, WSD's weights, OT's `total_cost`."""


MethodFunction: TypeAlias = Callable[[ArrangementRules, Pool], ArrangedOrder]
"""A method: deterministic in its arguments, whatever the memory budget."""


def aggregates_of_rows(aggregates: DistanceAggregates, rows: npt.NDArray[np.int64]) -> DistanceAggregates:
    """The entries of some rows, in their order."""
    return DistanceAggregates(
        aggregates.minimum[rows], aggregates.mean[rows], aggregates.maximum[rows], aggregates.nearest_test[rows]
    )


def nearest_similarity(aggregates: DistanceAggregates) -> npt.NDArray[np.float64]:
    """Similarity to the nearest test row, within [-1, 1]: a float32 row can be longer than 1 by a rounding error."""
    return np.clip(-aggregates.minimum, -1.0, 1.0) + 0.0


def seeded_permutation(length: int, seed: int | np.random.SeedSequence) -> npt.NDArray[np.int64]:
    """A shuffle of `range(length)`: rows sorted by the random 64-bit numbers that PCG64 gives them.

    Args:
        length: rows.
        seed: 0 or above; or a sequence, for one of several independent shuffles.

    Returns:
        (length,) int64; equal numbers leave the lower row first. Raw bit streams are numpy's stable interface: unlike
        `Generator.permutation`, they don't change between its versions.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable").astype(np.int64)
