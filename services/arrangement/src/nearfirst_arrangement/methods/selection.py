"""Which rows take part: so many of each task, before anything is arranged.

Shapes: N train rows, M test rows, T tasks; L rows of one task, n of them wanted.
"""

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Fidelity, SelectHow, SelectPerTask
from nearfirst_arrangement.methods.arranged import Pool, aggregates_of_rows, seeded_permutation
from nearfirst_arrangement.methods.scores import nearest_first, wsd_scores


def number_tasks(tasks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Any codes as numbers from 0 in the order of first appearance.

    >>> number_tasks(np.array([7, 3, 7, 9])).tolist()
    [0, 1, 0, 2]
    """
    _, first_T, task_N = np.unique(tasks, return_index=True, return_inverse=True)
    number_T = np.empty(len(first_T), dtype=np.int64)
    number_T[np.argsort(first_T)] = np.arange(len(first_T))
    return number_T[task_N]


def first_of_each_task(task_M: npt.NDArray[np.int64], per_task: int) -> npt.NDArray[np.int64]:
    """The first rows of every task, ascending."""
    return np.sort(np.concatenate([rows_L[:per_task] for rows_L in _rows_by_task(task_M)]))


def selected_rows(rules: ArrangementRules, pool: Pool) -> npt.NDArray[np.int64]:
    """The rows that `rules.select` keeps, ascending; a task with at most `per_task` rows is kept whole.

    Args:
        rules: with `select`. `random` draws by `seed`, every task for itself: what is drawn from one doesn't depend on
            the rows of the others. `first` takes the first in dataset order. `polar` and `uniform` rank a task's rows
            by WSD with the rules' weights and similarity, auto meaning the weight of this task's rows alone, the lower
            index first on a tie. `polar` takes the ceil(n/2) nearest and the floor(n/2) farthest. `uniform` takes, with
            fidelity corrected, the n rows at places floor(k L / n) of the ranking; `paper` takes every (L // n)-th,
            which can be nearly 2n of them.
        pool: with tasks; with embeddings for polar and uniform.

    Raises:
        InvalidInput: no embeddings; `w_avg` is auto and the mean distance of a task's rows is 0.
    """
    select = rules.select
    assert select is not None, "the caller asks for a selection"
    by_task = _rows_by_task(pool.tasks())
    kept = [rows_L for rows_L in by_task if len(rows_L) <= select.per_task]
    crowded = [(task, rows_L) for task, rows_L in enumerate(by_task) if len(rows_L) > select.per_task]
    if select.how in (SelectHow.POLAR, SelectHow.UNIFORM):
        kept += _by_wsd(rules, select, pool, [rows_L for _, rows_L in crowded])
    else:
        kept += [rows_L[_places(select, len(rows_L), task, rules.seed)] for task, rows_L in crowded]
    return np.sort(np.concatenate(kept))


def _rows_by_task(task_N: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The rows of each task, ascending; `task_N` is numbered from 0 without gaps."""
    by_task_N = np.argsort(task_N, kind="stable").astype(np.int64)
    return np.split(by_task_N, np.cumsum(np.bincount(task_N))[:-1])


def _places(select: SelectPerTask, num_rows: int, task: int, seed: int) -> npt.NDArray[np.int64] | slice:
    """Which of a task's rows `random` or `first` keeps."""
    if select.how is SelectHow.FIRST:
        return slice(select.per_task)
    return seeded_permutation(num_rows, np.random.SeedSequence(seed, spawn_key=(task,)))[: select.per_task]


def _by_wsd(
    rules: ArrangementRules, select: SelectPerTask, pool: Pool, tasks: list[npt.NDArray[np.int64]]
) -> list[npt.NDArray[np.int64]]:
    """Of each task's rows those that `polar` or `uniform` keeps."""
    if not tasks:
        return []
    aggregates = pool.aggregates(np.concatenate(tasks), similarity=rules.similarity)
    kept, start = [], 0
    for rows_L in tasks:
        score_L, _ = wsd_scores(rules, aggregates_of_rows(aggregates, np.arange(start, start + len(rows_L))))
        kept.append(rows_L[nearest_first(score_L)[_ranks(select, len(rows_L), rules.fidelity)]])
        start += len(rows_L)
    return kept


def _ranks(select: SelectPerTask, num_rows: int, fidelity: Fidelity) -> npt.NDArray[np.int64]:
    """Which places of a task's ranking `polar` or `uniform` keeps; the task has more rows than that."""
    wanted = select.per_task
    if select.how is SelectHow.POLAR:
        num_farthest = wanted // 2
        return np.concatenate([np.arange(wanted - num_farthest), np.arange(num_rows - num_farthest, num_rows)])
    if fidelity is Fidelity.PAPER:
        return np.arange(0, num_rows, num_rows // wanted)
    return np.arange(wanted) * num_rows // wanted
