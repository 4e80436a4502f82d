"""The one way in: rules and embeddings to an order. A new method is registered in `METHODS`.

Shapes: N train rows, M test rows, D dimensions; n rows of the order.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Method
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES
from nearfirst.similarity.embeddings import check_same_dimensions, normalise
from nearfirst_arrangement.feasibility import refuse_missing_test_tasks, refuse_missing_train_tasks
from nearfirst_arrangement.methods.arranged import ArrangedOrder, MethodFunction, Pool, Precomputed
from nearfirst_arrangement.methods.selection import first_of_each_task, number_tasks, selected_rows
from nearfirst_arrangement.methods.tma import arrange_tma
from nearfirst_arrangement.methods.transport import arrange_ot
from nearfirst_arrangement.methods.unranked import arrange_as_is, arrange_cluster, arrange_random, arrange_round_robin
from nearfirst_arrangement.methods.wsd import arrange_wsd

METHODS: Mapping[Method, MethodFunction] = MappingProxyType(
    {
        Method.WSD: arrange_wsd,
        Method.TMA: arrange_tma,
        Method.OT: arrange_ot,
        Method.ROUND_ROBIN: arrange_round_robin,
        Method.CLUSTER: arrange_cluster,
        Method.RANDOM: arrange_random,
        Method.AS_IS: arrange_as_is,
    }
)


def arrange(
    rules: ArrangementRules,
    train_embeddings: npt.ArrayLike | None,
    test_embeddings: npt.ArrayLike | None,
    num_train: int,
    *,
    train_tasks: npt.NDArray[np.int64] | None = None,
    test_tasks: npt.NDArray[np.int64] | None = None,
    precomputed: Precomputed | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
) -> ArrangedOrder:
    """Arrange a pool of training rows for a test set.

    First the test rows are cut down to `test_per_task`, then the train rows to what `select` keeps, and these are
    arranged.

    Args:
        rules: method, order and their parameters.
        train_embeddings: (N, D), of any real dtype and length; may be memory-mapped. None only for rules whose
            `needs_embeddings` is false.
        test_embeddings: (M, D); given exactly when `train_embeddings` is.
        num_train: N, at least 1.
        train_tasks: (N,) the task of each train row, as integers. Tasks are taken in the order of their first row here,
            selected or not. None: the rows have no tasks; then rules that go by task are refused.
        test_tasks: (M,) the same of test rows, for `test_per_task`.
        precomputed: what shards found out about all N rows against all M; used while neither side is cut down.
        memory_budget_bytes: what the computation may take beside the embeddings and its results. `ot` takes what its
            own module says; the embeddings of selected rows are copied.
        progress: called with absolute counts of the phase that runs; it may raise to stop.

    Returns:
        `index` are rows of the given train embeddings, `nearest_test` of the given test embeddings. A pure function of
        `rules`, the tasks and the embeddings' values: no block size, thread count or memory budget changes a bit of it,
        because similarities are computed exactly (docs/adr/0002-exact-similarity.md). Ties: the lower train index
        first, always.

    Raises:
        InvalidEmbeddings: NaN, infinity or zeros in a row (named), other widths or row counts than wanted (with both).
        InvalidInput: `limit` above the pool that `select` leaves, `rounds` beyond the last, embeddings or tasks missing
            or of another length, more pairs than `ot` takes.
    """
    if num_train < 1:
        raise InvalidInput(f"num_train: got {num_train}, wanted at least one row to arrange")
    train_ND, test_MD = _unit_rows(train_embeddings, test_embeddings, num_train)
    num_test = _num_test(test_MD, test_tasks)
    _check_tasks(rules, train_tasks, test_tasks, num_train, num_test)
    known = precomputed or Precomputed()
    _check_precomputed(known, num_train)
    test_rows = None
    if rules.test_per_task is not None and test_tasks is not None:
        test_rows = first_of_each_task(number_tasks(test_tasks), rules.test_per_task)
        num_test, known = len(test_rows), Precomputed()
        test_MD = None if test_MD is None else test_MD[test_rows]
    task_N = None if train_tasks is None else number_tasks(train_tasks)
    pool = Pool(num_train, train_ND, test_MD, memory_budget_bytes, progress, task_N, known)
    train_rows = None
    if rules.select is not None:
        train_rows = selected_rows(rules, pool)
        pool = _part_of(pool, train_rows)
    arranged = METHODS[rules.method](rules, pool)
    return _in_given_rows(arranged, train_rows, test_rows, _pool_report(rules, pool, num_test))


def _unit_rows(
    train_embeddings: npt.ArrayLike | None, test_embeddings: npt.ArrayLike | None, num_train: int
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
    """Both sides' embeddings, normalised and fitting each other; or neither's."""
    if train_embeddings is None and test_embeddings is None:
        return None, None
    if train_embeddings is None or test_embeddings is None:
        missing = "train_embeddings" if train_embeddings is None else "test_embeddings"
        raise InvalidInput(f"{missing}: got none; give embeddings of both sides, or of neither")
    train_ND = normalise(train_embeddings, name="train_embeddings")
    test_MD = normalise(test_embeddings, name="test_embeddings")
    check_same_dimensions(train_ND, test_MD)
    if len(train_ND) != num_train:
        raise InvalidEmbeddings(f"train_embeddings: got {len(train_ND)} rows, wanted {num_train}, one a train row")
    return train_ND, test_MD


def _num_test(test_MD: npt.NDArray[np.float32] | None, test_tasks: npt.NDArray[np.int64] | None) -> int | None:
    """Test rows, where anything tells."""
    if test_MD is not None:
        return len(test_MD)
    return None if test_tasks is None else len(test_tasks)


def _check_tasks(
    rules: ArrangementRules,
    train_tasks: npt.NDArray[np.int64] | None,
    test_tasks: npt.NDArray[np.int64] | None,
    num_train: int,
    num_test: int | None,
) -> None:
    """Refuse tasks that are missing where the rules go by them, or that are not one a row.

    Raises:
        InvalidInput: as said.
    """
    if train_tasks is None:
        refuse_missing_train_tasks(rules)
    if test_tasks is None and num_test is not None:
        refuse_missing_test_tasks(rules)
    for name, tasks, num_rows in (("train_tasks", train_tasks, num_train), ("test_tasks", test_tasks, num_test)):
        if tasks is not None and (tasks.shape != (num_rows,) or tasks.dtype.kind not in "iu"):
            raise InvalidInput(
                f"{name}: got shape {tasks.shape} of {tasks.dtype}, wanted {num_rows} integers, one a row"
            )


def _check_precomputed(precomputed: Precomputed, num_train: int) -> None:
    if precomputed.aggregates is not None and len(precomputed.aggregates.minimum) != num_train:
        raise InvalidInput(
            f"precomputed: got aggregates of {len(precomputed.aggregates.minimum)} rows, wanted {num_train}, one a row"
        )


def _part_of(pool: Pool, rows: npt.NDArray[np.int64]) -> Pool:
    """A pool of these rows."""
    return replace(
        pool,
        num_train=len(rows),
        train=None if pool.train is None else pool.train[rows],
        train_tasks=pool.tasks()[rows],
        precomputed=Precomputed(),
    )


def _in_given_rows(
    arranged: ArrangedOrder,
    train_rows: npt.NDArray[np.int64] | None,
    test_rows: npt.NDArray[np.int64] | None,
    report: dict[str, Any],
) -> ArrangedOrder:
    """An order of the pool as one of the given rows, of which the pool has `train_rows` and `test_rows` (None: all)."""
    nearest_n = arranged.nearest_test
    if test_rows is not None and nearest_n is not None:
        nearest_n = test_rows[nearest_n]
    index_n = arranged.index if train_rows is None else train_rows[arranged.index]
    return replace(arranged, index=index_n, nearest_test=nearest_n, report={**report, **arranged.report})


def _pool_report(rules: ArrangementRules, pool: Pool, num_test: int | None) -> dict[str, Any]:
    """What was arranged for what: JSON values."""
    report: dict[str, Any] = {"num_pool": pool.num_train, "num_test": num_test}
    if rules.needs_embeddings:
        report["similarity"] = rules.similarity.value
    if rules.select is not None:
        report["select"] = rules.select.model_dump(mode="json")
    if rules.test_per_task is not None:
        report["test_per_task"] = rules.test_per_task
    return report
