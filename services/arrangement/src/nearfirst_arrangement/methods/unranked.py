"""Orders that look at no similarity: the baselines."""

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
    pool.check_limit(rules.limit)
    return _described(seeded_permutation(pool.num_train, rules.seed)[: rules.limit], pool)


def arrange_as_is(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """The dataset's own order; a limit keeps its first rows.

    Raises:
        InvalidInput: the limit is above the pool.
    """
    pool.check_limit(rules.limit)
    return _described(np.arange(pool.num_train, dtype=np.int64)[: rules.limit], pool)


def _described(index_n: npt.NDArray[np.int64], pool: Pool) -> ArrangedOrder:
    """The rows with their nearest test rows, when there are embeddings to tell."""
    if pool.train is None:
        return ArrangedOrder(index_n)
    aggregates = pool.aggregates(index_n)
    return ArrangedOrder(
        index_n,
        nearest_test=aggregates.nearest_test,
        nearest_similarity=nearest_similarity(aggregates),
        report={"similarity_quantum": SIMILARITY_QUANTUM},
    )
