"""WSD, the weighted similarity distance: one score a train row, or one a task.

Shapes: N train rows, n of them in the order, M test rows, T tasks, D dimensions.
"""

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Granularity, Similarity
from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.aggregates import DistanceAggregates, distance_aggregates
from nearfirst.similarity.blocks import spans
from nearfirst.similarity.exact import SIMILARITY_QUANTUM
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool, aggregates_of_rows, nearest_similarity
from nearfirst_arrangement.methods.scores import in_given_order, wsd_scores

_FIXED_POINT = 2.0**36
"""Units of the sums behind a task's mean: 2^-36, finer than float32. Sums of 2^26 rows fit 63 bits."""

_BLOCK_ROWS = 8192


def arrange_wsd(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """Order rows, or tasks, by `WSD_i = w_min * min_j d_ij + w_avg * mean_j d_ij`; `d` as `similarity` says.

    Args:
        rules: `order` nft ascends in the score, lower index first on a tie; fft is nft's exact reverse; rt shuffles by
            `seed`. With granularity coarse the same is done to tasks, each scored by its mean embedding against the
            test rows, the task that appears earlier first on a tie; the rows of a task follow in dataset order, in fft
            too. `limit` keeps the first rows of the order so made. Both fidelities do the same.
        pool: with embeddings; for coarse with tasks.

    Returns:
        Scores are rounded to `SIMILARITY_QUANTUM` before ranking; a row's is its task's when coarse. The report holds
        the weights used, and the number of tasks when coarse.

    Raises:
        InvalidInput: the limit is above the pool; `w_avg` is auto and the mean distance is 0; no embeddings.
        InvalidEmbeddings: coarse, and the embeddings of a task's rows cancel out.

    Notes: one blocked pass over train x test; a second one over the rows in the order to tell their nearest test rows
        for euclidean and coarse.

    References: He et al. 2025 (arXiv 2406.11721), section 4.1: w_min = 1, w_avg = mean_i(min) / mean_i(mean).
    """
    pool.check_limit(rules.limit)
    return _by_task(rules, pool) if rules.granularity is Granularity.COARSE else _by_row(rules, pool)


def _by_row(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    aggregates = pool.aggregates(similarity=rules.similarity)
    score_N, w_avg = wsd_scores(rules, aggregates)
    index_n = in_given_order(score_N, rules)[: rules.limit]
    if rules.similarity is Similarity.COSINE:
        nearest = aggregates_of_rows(aggregates, index_n)
    else:
        nearest = pool.aggregates(index_n)
    return _arranged(index_n, score_N[index_n], nearest, {"w_min": rules.w_min, "w_avg": w_avg})


def _by_task(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    train_ND, test_MD = pool.embeddings()
    codes_T, task_N = np.unique(pool.tasks(), return_inverse=True)
    aggregates = distance_aggregates(
        task_means(train_ND, task_N, pool.progress),
        test_MD,
        similarity=rules.similarity,
        memory_budget_bytes=pool.memory_budget_bytes,
        progress=pool.progress,
    )
    score_T, w_avg = wsd_scores(rules, aggregates)
    place_T = np.empty(len(codes_T), dtype=np.int64)
    place_T[in_given_order(score_T, rules)] = np.arange(len(codes_T))
    index_n = np.argsort(place_T[task_N], kind="stable").astype(np.int64)[: rules.limit]
    weights = {"w_min": rules.w_min, "w_avg": w_avg, "num_tasks": len(codes_T)}
    return _arranged(index_n, score_T[task_N[index_n]], pool.aggregates(index_n), weights)


def _arranged(
    index_n: npt.NDArray[np.int64],
    score_n: npt.NDArray[np.float64],
    nearest: DistanceAggregates,
    report: dict[str, float],
) -> ArrangedOrder:
    return ArrangedOrder(
        index_n,
        score=score_n,
        nearest_test=nearest.nearest_test,
        nearest_similarity=nearest_similarity(nearest),
        report={"similarity_quantum": SIMILARITY_QUANTUM, **report},
    )


def task_means(
    train_ND: npt.NDArray[np.float32], task_N: npt.NDArray[np.int64], progress: ProgressCallback = ignore_progress
) -> npt.NDArray[np.float32]:
    """Each task's mean embedding, of unit length again: the sum of its rows over the length of the sum.

    Args:
        train_ND: (N, D) float32 unit rows; may be memory-mapped.
        task_N: (N,) task of each row, from 0 to T - 1, each with at least one row and at most 2^26.
        progress: called with rows read.

    Returns:
        (T, D) float32 unit rows.

    Raises:
        InvalidEmbeddings: the mean of a task is zero and has no direction.

    Notes: components are added in fixed point, in multiples of 2^-36, so that no order of additions shows. One pass
        over the embeddings, in blocks.
    """
    sum_TD = np.zeros((int(task_N.max()) + 1, train_ND.shape[1]), dtype=np.int64)
    for span in spans(len(train_ND), _BLOCK_ROWS):
        by_task_B = np.argsort(task_N[span], kind="stable")
        tasks_t, start_t = np.unique(task_N[span][by_task_B], return_index=True)
        scaled_BD = np.asarray(train_ND[span], dtype=np.float64)[by_task_B] * _FIXED_POINT
        sum_TD[tasks_t] += np.add.reduceat(np.rint(scaled_BD).astype(np.int64), start_t, axis=0)
        progress(span.stop, len(train_ND), "rows read")
    norm_T = np.linalg.norm(sum_TD.astype(np.float64), axis=1)
    if not norm_T.all():
        raise InvalidEmbeddings(
            f"train_embeddings: the mean of task {int(np.argmin(norm_T))} (tasks in order of first appearance, from 0) "
            "has length 0, which has no direction; granularity coarse can't place it"
        )
    return np.asarray(sum_TD / norm_T[:, None], dtype=np.float32)
