"""What an order consists of, part by part: tasks, distances, cut texts.

Shapes: n rows of the order, K tasks.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.reports import MAX_BINS, MAX_TASKS, CutTexts, DistanceByPosition, TaskMix, Truncation
from nearfirst_arrangement.measures.inputs import MeasuredRows
from nearfirst_arrangement.measures.rounding import rounded, rounded_list

_NUM_TENTHS = 10


def equal_parts(length: int, num_parts: int) -> npt.NDArray[np.int64]:
    """Bounds of `num_parts` parts of a range whose sizes differ by one at most; of `length` parts when that is less.

    >>> equal_parts(7, 3).tolist()
    [0, 2, 4, 7]
    """
    parts = min(num_parts, length)
    return np.arange(parts + 1, dtype=np.int64) * length // parts


def task_codes(tasks: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct tasks by first appearance, and each row's place among them."""
    code_of: dict[str, int] = {}
    codes = np.array([code_of.setdefault(task, len(code_of)) for task in tasks], dtype=np.int64)
    return list(code_of), codes


def task_mix(tasks: Sequence[str]) -> TaskMix:
    """Rows of each task in each tenth of the order.

    Args:
        tasks: (n,) in training order.
    """
    names, code_n = task_codes(tasks)
    bounds = equal_parts(len(tasks), _NUM_TENTHS)
    count_TK = np.stack(
        [np.bincount(code_n[start:stop], minlength=len(names)) for start, stop in pairwise(bounds.tolist())]
    )
    # Sorted by first appearance already, which the stable sort keeps on a tie.
    shown = np.lexsort((-count_TK.sum(axis=0), -count_TK.max(axis=0)))[:MAX_TASKS]
    shown_T = count_TK[:, shown]
    others_T = count_TK.sum(axis=1) - shown_T.sum(axis=1)
    return TaskMix(
        bounds=bounds.tolist(),
        tasks=[names[code] for code in shown],
        counts=np.column_stack([shown_T, others_T]).tolist(),
        num_tasks=(count_TK > 0).sum(axis=1).tolist(),
        largest=[names[code] for code in count_TK.argmax(axis=1).tolist()],
        largest_counts=count_TK.max(axis=1).tolist(),
        num_tasks_total=len(names),
    )


def distance_by_position(similarity_n: npt.NDArray[np.float64], similarity: Similarity) -> DistanceByPosition:
    """Distances to the nearest test row in up to `MAX_BINS` parts of the order.

    Args:
        similarity_n: (n,) cosine similarity to the nearest test row, in training order.
        similarity: which distance.
    """
    if similarity is Similarity.EUCLIDEAN:
        distance_n = np.sqrt(np.maximum(2.0 - 2.0 * similarity_n, 0.0))
    else:
        distance_n = -similarity_n
    bounds = equal_parts(len(distance_n), MAX_BINS)
    parts = np.split(distance_n, bounds[1:-1])
    return DistanceByPosition(
        similarity=similarity,
        bounds=bounds.tolist(),
        mean=rounded_list(part.mean() for part in parts),
        min=rounded_list(part.min() for part in parts),
        lower_quartile=rounded_list(np.quantile(part, 0.25) for part in parts),
        upper_quartile=rounded_list(np.quantile(part, 0.75) for part in parts),
        max=rounded_list(part.max() for part in parts),
    )


def truncation(train: MeasuredRows, test: MeasuredRows) -> Truncation:
    """Rows of the order and test rows that the encoder cut."""
    return Truncation(train=_cut_texts(train.truncated), test=_cut_texts(test.truncated))


def _cut_texts(truncated: npt.NDArray[np.bool_] | None) -> CutTexts | None:
    if truncated is None:
        return None
    num_rows = int(np.count_nonzero(truncated))
    return CutTexts(num_rows=num_rows, share=rounded(num_rows / len(truncated)))
