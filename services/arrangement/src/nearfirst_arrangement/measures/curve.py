"""The similarity curve: nine distances of training prefixes from the test set (`SimilarityCurve` defines each).

Nothing is computed anew for a prefix. Mean and centroid distances follow from running sums of the rows, by linearity:
the mean of x_i . t_j over all pairs is the product of the two means. Extremes are running extremes; euclidean ones
follow from cosine ones, sqrt(2 - 2 s) being monotone. The mean euclidean distance is a running sum.

Shapes: n rows of the order, M test rows, D dimensions, P prefixes, G groups of test rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.reports import MAX_CURVE_POINTS, MAX_TASKS, PairMeasures, TaskCurve
from nearfirst_arrangement.measures.composition import task_codes
from nearfirst_arrangement.measures.inputs import UnitVectors
from nearfirst_arrangement.measures.pairs import Stretches
from nearfirst_arrangement.measures.rounding import rounded_list

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class CurvePoints:
    """Which prefixes are measured."""

    rows: npt.NDArray[np.int64]
    """(P,) rows in each, ascending; the last is the whole order."""
    rows_per_step: int
    every_steps: int

    @property
    def steps(self) -> list[int]:
        """Optimizer steps that train on so many rows, rounded up."""
        return (-(-self.rows // self.rows_per_step)).tolist()  # type: ignore[no-any-return]


def curve_points(num_rows: int, *, rows_per_step: int, every_steps: int) -> CurvePoints:
    """Every `every_steps` steps and the whole order; a multiple of it where that is more than `MAX_CURVE_POINTS`.

    Raises:
        InvalidInput: a parameter is below 1.

    >>> curve_points(500, rows_per_step=16, every_steps=10).rows.tolist()
    [160, 320, 480, 500]
    """
    for name, value in (("rows_per_step", rows_per_step), ("every_steps", every_steps)):
        if value < 1:
            raise InvalidInput(f"{name}: got {value}, wanted at least 1")
    widened = -(-num_rows // (rows_per_step * every_steps * MAX_CURVE_POINTS)) * every_steps
    stride = rows_per_step * widened
    rows_P = np.append(np.arange(stride, num_rows, stride, dtype=np.int64), num_rows)
    return CurvePoints(rows_P, rows_per_step, widened)


@dataclass(frozen=True, slots=True)
class RowGroups:
    """Test rows by task: a group for each shown task, then one for all other rows."""

    tasks: list[str]
    """The most frequent, at most `MAX_TASKS`; then the first to appear."""
    of_row: npt.NDArray[np.int64]
    """(M,) 0 to `len(tasks)`."""

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.tasks) + 1

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(G,) test rows in each."""
        return np.bincount(self.of_row, minlength=self.num_groups)


def group_by_task(tasks: Sequence[str] | None, num_test: int) -> RowGroups:
    """Groups of the test rows; without tasks all are in the last one."""
    if tasks is None:
        return RowGroups([], np.zeros(num_test, dtype=np.int64))
    names, code_M = task_codes(tasks)
    shown = np.argsort(-np.bincount(code_M), kind="stable")[:MAX_TASKS]
    group_of = np.full(len(names), len(shown), dtype=np.int64)
    group_of[shown] = np.arange(len(shown))
    return RowGroups([names[code] for code in shown], group_of[code_M])


@dataclass(frozen=True, slots=True)
class PairCurves:
    """The eight measures that come from embeddings."""

    cosine: PairMeasures
    euclidean: PairMeasures
    by_task: list[TaskCurve]


def pair_curves(
    vectors: UnitVectors, rows_P: npt.NDArray[np.int64], groups: RowGroups, stretches: Stretches
) -> PairCurves:
    """Cosine and euclidean distances of prefixes from the test set, and cosine distances from each shown task.

    Args:
        vectors: n rows of the order and M test rows.
        rows_P: rows in each prefix.
        groups: of the test rows.
        stretches: of the P stretches between prefixes, by these groups.
    """
    size_G = groups.sizes
    test_sum_GD = np.zeros((groups.num_groups, vectors.test.shape[1]))
    np.add.at(test_sum_GD, groups.of_row, vectors.test.astype(np.float64))
    mean_PD = _prefix_sums(vectors, rows_P) / rows_P[:, None]
    lowest_PG = np.minimum.accumulate(stretches.lowest, axis=0)
    highest_PG = np.maximum.accumulate(stretches.highest, axis=0)
    lowest_P, highest_P = lowest_PG.min(axis=1), highest_PG.max(axis=1)
    test_mean_D = test_sum_GD.sum(axis=0) / size_G.sum()
    euclidean = PairMeasures(
        avg=rounded_list(stretches.euclidean_sum.cumsum() / (rows_P * size_G.sum())),
        min=rounded_list(_euclidean(highest_P)),
        max=rounded_list(_euclidean(lowest_P)),
        centroid=rounded_list(np.linalg.norm(mean_PD - test_mean_D, axis=1)),
    )
    by_task = [
        TaskCurve(
            task=task,
            num_test=int(size_G[g]),
            cosine=_cosine_measures(mean_PD, test_sum_GD[g] / size_G[g], lowest_PG[:, g], highest_PG[:, g]),
        )
        for g, task in enumerate(groups.tasks)
    ]
    return PairCurves(_cosine_measures(mean_PD, test_mean_D, lowest_P, highest_P), euclidean, by_task)


def _cosine_measures(
    mean_PD: npt.NDArray[np.float64],
    test_mean_D: npt.NDArray[np.float64],
    lowest_P: npt.NDArray[np.float64],
    highest_P: npt.NDArray[np.float64],
) -> PairMeasures:
    product_P = mean_PD @ test_mean_D
    length_P = np.linalg.norm(mean_PD, axis=1) * np.linalg.norm(test_mean_D)
    centroid_P = np.divide(product_P, length_P, out=np.zeros_like(product_P), where=length_P > 0)
    return PairMeasures(
        avg=rounded_list(-product_P),
        min=rounded_list(-highest_P),
        max=rounded_list(-lowest_P),
        centroid=rounded_list(-centroid_P),
    )


def _euclidean(similarity: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance of unit vectors with this cosine."""
    return np.sqrt(2.0 - 2.0 * similarity)


def _prefix_sums(vectors: UnitVectors, rows_P: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(P, D) sums of the first rows of the order."""
    sum_PD = np.zeros((len(rows_P), vectors.test.shape[1]))
    start = 0
    for p, stop in enumerate(rows_P.tolist()):
        for first in range(start, stop, _ROWS_AT_ONCE):
            block_BD = vectors.ordered(slice(first, min(first + _ROWS_AT_ONCE, stop)))
            sum_PD[p] += block_BD.sum(axis=0, dtype=np.float64)
        start = stop
    return sum_PD.cumsum(axis=0)
