"""Scores that rank: WSD's formula, and how a score becomes an order.

Shapes: n scored things (train rows or tasks).
"""

import math

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Order
from nearfirst.contracts.problems import InvalidInput
from nearfirst.similarity.aggregates import DistanceAggregates
from nearfirst.similarity.exact import round_to_quantum
from nearfirst_arrangement.methods.arranged import seeded_permutation


def wsd_scores(rules: ArrangementRules, aggregates: DistanceAggregates) -> tuple[npt.NDArray[np.float64], float]:
    """`WSD_i = w_min * min_j d_ij + w_avg * mean_j d_ij`, rounded to `SIMILARITY_QUANTUM`.

    Args:
        rules: `w_min` and `w_avg`; auto weighs the mean over exactly these n, see `automatic_w_avg`.
        aggregates: (n,) arrays.

    Returns:
        (n,) scores, distances; and the `w_avg` used.

    Raises:
        InvalidInput: `w_avg` is auto and the mean distance is 0.
    """
    w_avg = automatic_w_avg(aggregates) if rules.w_avg == "auto" else rules.w_avg
    return round_to_quantum(rules.w_min * aggregates.minimum + w_avg * aggregates.mean), w_avg


def automatic_w_avg(aggregates: DistanceAggregates) -> float:
    """The weight that gives both terms the same mean: mean_i(min_j d_ij) / mean_i(mean_j d_ij).

    Raises:
        InvalidInput: the mean distance is 0, and no weight does.
    """
    total_mean = math.fsum(aggregates.mean)
    if total_mean == 0:
        raise InvalidInput("w_avg: got auto, but the mean distance of train to test rows is 0; give a number")
    return math.fsum(aggregates.minimum) / total_mean


def nearest_first(score_n: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Places in ascending score, the lower place first on a tie."""
    return np.argsort(score_n, kind="stable").astype(np.int64)


def in_given_order(score_n: npt.NDArray[np.float64], rules: ArrangementRules) -> npt.NDArray[np.int64]:
    """Places in the order of `rules`: nft is `nearest_first`, fft its exact reverse, rt a shuffle seeded by `seed`."""
    if rules.order is Order.RT:
        return seeded_permutation(len(score_n), rules.seed)
    ascending_n = nearest_first(score_n)
    return ascending_n[::-1].copy() if rules.order is Order.FFT else ascending_n
