"""WSD, the weighted similarity distance: one score a train row.

Shapes: N train rows, n of them in the order.
"""

import math

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Order
from nearfirst.contracts.problems import InvalidInput
from nearfirst.similarity.aggregates import DistanceAggregates
from nearfirst.similarity.exact import SIMILARITY_QUANTUM, round_to_quantum
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool, nearest_similarity, seeded_permutation


def arrange_wsd(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """Order rows by `WSD_i = w_min * min_j d_ij + w_avg * mean_j d_ij`, with `d = -cosine`.

    Args:
        rules: `order` nft ascends in the score, lower index first on a tie; fft is nft's exact reverse; rt shuffles by
            `seed`. `limit` keeps the first rows of the order so made. Both fidelities do the same.
        pool: with embeddings.

    Returns:
        Scores are rounded to `SIMILARITY_QUANTUM` before ranking; the report holds the weights used.

    Raises:
        InvalidInput: the limit is above the pool; `w_avg` is auto and the mean distance is 0; no embeddings.

    Notes: one blocked pass over train x test.

    References: He et al. 2025 (arXiv 2406.11721), section 4.1: w_min = 1, w_avg = mean_i(min) / mean_i(mean).
    """
    pool.check_limit(rules.limit)
    aggregates = pool.aggregates()
    w_avg = automatic_w_avg(aggregates) if rules.w_avg == "auto" else rules.w_avg
    score_N = round_to_quantum(rules.w_min * aggregates.minimum + w_avg * aggregates.mean)
    index_n = _ordered(score_N, rules)[: rules.limit]
    return ArrangedOrder(
        index_n,
        score=score_N[index_n],
        nearest_test=aggregates.nearest_test[index_n],
        nearest_similarity=nearest_similarity(aggregates)[index_n],
        report={"similarity_quantum": SIMILARITY_QUANTUM, "w_min": rules.w_min, "w_avg": w_avg},
    )


def automatic_w_avg(aggregates: DistanceAggregates) -> float:
    """The weight that gives both terms the same mean: mean_i(min_j d_ij) / mean_i(mean_j d_ij).

    Raises:
        InvalidInput: the mean distance is 0, and no weight does.
    """
    total_mean = math.fsum(aggregates.mean)
    if total_mean == 0:
        raise InvalidInput("w_avg: got auto, but the mean distance of train to test rows is 0; give a number")
    return math.fsum(aggregates.minimum) / total_mean


def _ordered(score_N: npt.NDArray[np.float64], rules: ArrangementRules) -> npt.NDArray[np.int64]:
    if rules.order is Order.RT:
        return seeded_permutation(len(score_N), rules.seed)
    nearest_first_N = np.argsort(score_N, kind="stable").astype(np.int64)
    return nearest_first_N[::-1].copy() if rules.order is Order.FFT else nearest_first_N
