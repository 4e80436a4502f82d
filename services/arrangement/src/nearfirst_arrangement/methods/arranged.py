"""What goes into an arrangement method and what comes out.

Shapes: N train rows in the pool, n of them in the order, M test rows, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.progress import ProgressCallback
from nearfirst.similarity.aggregates import DistanceAggregates, distance_aggregates


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

    def embeddings(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Train and test embeddings, of a method that needs them.

        Raises:
            InvalidInput: there are none.
        """
        if self.train is None or self.test is None:
            raise InvalidInput("train_embeddings and test_embeddings: got none, and the method ranks by similarity")
        return self.train, self.test

    def aggregates(self, rows: npt.NDArray[np.int64] | None = None) -> DistanceAggregates:
        """Distances of some train rows (all: None) to the test set."""
        train_ND, test_MD = self.embeddings()
        return distance_aggregates(
            train_ND, test_MD, rows=rows, memory_budget_bytes=self.memory_budget_bytes, progress=self.progress
        )

    def check_limit(self, limit: int | None) -> None:
        """Refuse a limit above the number of rows.

        Raises:
            InvalidInput: with both numbers.
        """
        if limit is not None and limit > self.num_train:
            raise InvalidInput(f"limit: got {limit}, wanted at most {self.num_train}, the rows in the pool")


@dataclass(frozen=True, slots=True)
class ArrangedOrder:
    """Train rows in training order, and why each is where it is. All arrays are (n,) and in that order."""

    index: npt.NDArray[np.int64]
    """Rows of the train dataset, distinct."""
    round: npt.NDArray[np.int32] | None = None
    """TMA: the round that chose the row, from 0 (`tma.py` says whose round in orders of two halves)."""
    score: npt.NDArray[np.float64] | None = None
    """WSD: the score, a distance. TMA: similarity to the test row that chose the row."""
    nearest_test: npt.NDArray[np.int64] | None = None
    """Index of the nearest test row, the lower one on a tie; None without embeddings."""
    nearest_similarity: npt.NDArray[np.float64] | None = None
    """Cosine similarity to that test row, -1 to 1; None without embeddings."""
    num_rounds: int | None = None
    """TMA: rounds that the rows come from."""
    report: dict[str, Any] = field(default_factory=dict)
    """JSON values that say how it was computed: `similarity_quantum`, WSD's weights."""


MethodFunction: TypeAlias = Callable[[ArrangementRules, Pool], ArrangedOrder]
"""A method: deterministic in its arguments, whatever the memory budget."""


def nearest_similarity(aggregates: DistanceAggregates) -> npt.NDArray[np.float64]:
    """Similarity to the nearest test row, within [-1, 1]: a float32 row can be longer than 1 by a rounding error."""
    return np.clip(-aggregates.minimum, -1.0, 1.0) + 0.0


def seeded_permutation(length: int, seed: int) -> npt.NDArray[np.int64]:
    """A shuffle of `range(length)`: rows sorted by the random 64-bit numbers that PCG64 gives them.

    Args:
        length: rows.
        seed: 0 or above.

    Returns:
        (length,) int64; equal numbers leave the lower row first. Raw bit streams are numpy's stable interface: unlike
        `Generator.permutation`, they don't change between its versions.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable").astype(np.int64)
