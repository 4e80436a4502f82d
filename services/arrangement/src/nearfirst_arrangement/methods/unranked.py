"""Orders that look at no similarity: the baselines, and the two that go by task."""

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst.similarity.exact import SIMILARITY_QUANTUM
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool, nearest_similarity, seeded_permutation


def arrange_random(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """A seeded shuffle of the pool; a limit keeps its first rows.

    Raises:
        InvalidInput: the limit is above the pool.
    """
    return _first_rows(seeded_permutation(pool.num_train, rules.seed), rules, pool)


def arrange_as_is(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """The dataset's own order; a limit keeps its first rows.

    Raises:
        InvalidInput: the limit is above the pool.
    """
    return _first_rows(np.arange(pool.num_train, dtype=np.int64), rules, pool)


def arrange_cluster(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """All rows of a task together, in dataset order; tasks by first appearance; a limit keeps the first rows.

    Raises:
        InvalidInput: the limit is above the pool.

    References: He et al. 2025 (arXiv 2406.11721), section 3.
    """
    return _first_rows(np.argsort(pool.tasks(), kind="stable").astype(np.int64), rules, pool)


def arrange_round_robin(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """One row of each task in turn, until every task has given all its rows.

    Tasks take turns by first appearance and give their rows in dataset order; a task that has none left is passed over.
    A limit keeps the first rows.

    Raises:
        InvalidInput: the limit is above the pool.

    References: He et al. 2025 (arXiv 2406.11721), section 3.
    """
    task_N = pool.tasks()
    turn_N = _places_within_tasks(task_N)
    return _first_rows(np.lexsort((task_N, turn_N)).astype(np.int64), rules, pool)


def _places_within_tasks(task_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many rows of its task come before each row."""
    by_task_N = np.argsort(task_N, kind="stable")
    _, start_T, count_T = np.unique(task_N[by_task_N], return_index=True, return_counts=True)
    place_N = np.empty(len(task_N), dtype=np.int64)
    place_N[by_task_N] = np.arange(len(task_N)) - np.repeat(start_T, count_T)
    return place_N


def _first_rows(index_N: npt.NDArray[np.int64], rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """The rows up to the limit, with their nearest test rows when there are embeddings to tell."""
    pool.check_limit(rules.limit)
    index_n = index_N[: rules.limit]
    if pool.train is None:
        return ArrangedOrder(index_n)
    aggregates = pool.aggregates(index_n)
    return ArrangedOrder(
        index_n,
        nearest_test=aggregates.nearest_test,
        nearest_similarity=nearest_similarity(aggregates),
        report={"similarity_quantum": SIMILARITY_QUANTUM},
    )
