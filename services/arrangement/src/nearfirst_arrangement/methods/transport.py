"""OT: rows by their part of the cost of an optimal transport of train rows onto test rows.

Shapes: N train rows, n of them in the order, M test rows, D dimensions; G and H groups of identical rows.
"""

import math
import warnings

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Fidelity, Similarity
from nearfirst.contracts.problems import NearfirstError
from nearfirst.similarity.blocks import block_shape, spans
from nearfirst.similarity.embeddings import distinct_rows
from nearfirst.similarity.exact import SIMILARITY_QUANTUM, exact_similarities, round_to_quantum, split_rows
from nearfirst_arrangement.feasibility import check_transport_size
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool, nearest_similarity
from nearfirst_arrangement.methods.scores import in_given_order

_MAX_ITERATIONS = 10**9
"""Of the network simplex: 28,751 x 1,125 rows of P3 take more than 100,000, the paper's cap, and below 1,000,000."""


def arrange_ot(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """Order rows by `sum_j plan_ij * cost_ij`, for the optimal plan between uniform train and test measures.

    The cost of a pair is 1 - cosine, or the euclidean distance: what `similarity` says, never below 0.

    Args:
        rules: `order` nft ascends in the score, lower index first on a tie; fft is nft's exact reverse; rt shuffles by
            `seed`; `limit` keeps the first rows of the order so made. Fidelity `paper` hands all rows to the solver
            with the masses 1/N and 1/M. An optimal plan may then move identical rows differently; `corrected` hands
            each different row over once with the mass of all its copies, N M in total, so that identical rows share a
            score and the solver's sums of masses are exact.
        pool: with embeddings.

    Returns:
        A row's mean cost, its score times N, is rounded to `SIMILARITY_QUANTUM` before ranking. The report holds the
        total cost, the sum of all scores, and POT's version: where several plans are optimal, the solver's choice
        decides.

    Raises:
        InvalidInput: the limit is above the pool; N M is above `MAX_PAIRS` (feasibility.py), with the bytes that it
            would take; no embeddings.
        NearfirstError: the solver gave up; an order from a plan that isn't optimal is never made.

    Notes: memory `BYTES_PER_PAIR` (feasibility.py) N M bytes whatever the memory budget; time a little above linear in
        N M. One thread. Progress can't stop the solver once it runs.

    References: Bonneel et al., "Displacement interpolation using Lagrangian mass transport" (2011), by POT's `ot.emd`.
    """
    pool.check_limit(rules.limit)
    check_transport_size(pool.num_train, 0 if pool.test is None else len(pool.test))
    score_N = _scores(rules, pool)
    index_n = in_given_order(score_N, rules)[: rules.limit]
    nearest = pool.aggregates(index_n)
    return ArrangedOrder(
        index_n,
        score=score_N[index_n],
        nearest_test=nearest.nearest_test,
        nearest_similarity=nearest_similarity(nearest),
        report={
            "similarity_quantum": SIMILARITY_QUANTUM,
            "total_cost": math.fsum(score_N),
            "pot_version": _pot_version(),
        },
    )


def _scores(rules: ArrangementRules, pool: Pool) -> npt.NDArray[np.float64]:
    """(N,) row sums of plan * cost."""
    train_ND, test_MD = pool.embeddings()
    if rules.fidelity is Fidelity.PAPER:
        cost_NM = _costs(train_ND, test_MD, rules.similarity, pool)
        mean_cost_N = _row_costs(_uniform(len(train_ND)), _uniform(len(test_MD)), cost_NM, pool) * len(train_ND)
        return round_to_quantum(mean_cost_N) / len(train_ND)
    # Adding 0.0 turns -0.0 into it: rows of equal values have equal bytes then.
    train, test = distinct_rows(train_ND + np.float32(0)), distinct_rows(test_MD + np.float32(0))
    cost_GH = _costs(train_ND[train.first], test_MD[test.first], rules.similarity, pool)
    mass_G = np.bincount(train.number).astype(np.float64) * len(test_MD)
    mass_H = np.bincount(test.number).astype(np.float64) * len(train_ND)
    mean_cost_G = round_to_quantum(_row_costs(mass_G, mass_H, cost_GH, pool) / mass_G)
    return mean_cost_G[train.number] / len(train_ND)


def _uniform(length: int) -> npt.NDArray[np.float64]:
    return np.full(length, 1 / length, dtype=np.float64)


def _costs(
    train_ND: npt.NDArray[np.float32], test_MD: npt.NDArray[np.float32], similarity: Similarity, pool: Pool
) -> npt.NDArray[np.float64]:
    """(N, M) costs of all pairs, multiples of the quantum."""
    cost_NM = np.empty((len(train_ND), len(test_MD)))
    shape = block_shape(*cost_NM.shape, train_ND.shape[1], pool.memory_budget_bytes)
    for test_span in spans(len(test_MD), shape.test):
        test_split = split_rows(test_MD[test_span])
        for span in spans(len(train_ND), shape.train):
            sim_BC = exact_similarities(split_rows(train_ND[span]), test_split)
            cost_NM[span, test_span] = _cost_of(sim_BC, similarity)
            pool.progress(span.stop, len(train_ND), "rows measured")
    return cost_NM


def _cost_of(sim_BC: npt.NDArray[np.float64], similarity: Similarity) -> npt.NDArray[np.float64]:
    if similarity is Similarity.COSINE:
        return np.maximum(1.0 - sim_BC, 0.0)
    return round_to_quantum(np.sqrt(np.maximum(2.0 - 2.0 * sim_BC, 0.0)))


def _row_costs(
    mass_N: npt.NDArray[np.float64], mass_M: npt.NDArray[np.float64], cost_NM: npt.NDArray[np.float64], pool: Pool
) -> npt.NDArray[np.float64]:
    """(N,) `sum_j plan_ij * cost_ij` of the optimal plan.

    Raises:
        NearfirstError: the solver found none.
    """
    import ot  # brings scipy with it, and only this method needs them

    pool.progress(0, 1, "transport plans")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say is in the log, and is raised below
        plan_NM, log = ot.emd(mass_N, mass_M, cost_NM, numItermax=_MAX_ITERATIONS, log=True)
    if log["warning"] is not None:
        raise NearfirstError(
            f"optimal transport of {len(mass_N)} x {len(mass_M)} rows: the solver stopped without an optimal plan: "
            f"{log['warning']}"
        )
    pool.progress(1, 1, "transport plans")
    row_cost_N: npt.NDArray[np.float64] = np.einsum("nm,nm->n", plan_NM, cost_NM)
    return row_cost_N


def _pot_version() -> str:
    import ot

    return str(ot.__version__)
