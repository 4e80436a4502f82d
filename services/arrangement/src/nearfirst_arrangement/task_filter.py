"""Which rows of a dataset take part, by task: one test task makes a specialist, several a generalist."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nearfirst_arrangement.feasibility import check_tasks_are_known


def rows_of_tasks(
    task_of_row: Sequence[str], tasks: Sequence[str] | None, *, name: str = "tasks"
) -> npt.NDArray[np.int64]:
    """Rows of the named tasks, ascending; all rows without names.

    Args:
        task_of_row: a dataset's tasks, by index.
        tasks: those to keep.
        name: the parameter that an error names.

    Raises:
        InvalidInput: a task that no row has.
    """
    if tasks is None:
        return np.arange(len(task_of_row), dtype=np.int64)
    check_tasks_are_known(tasks, set(task_of_row), name=name)
    wanted = set(tasks)
    return np.array([row for row, task in enumerate(task_of_row) if task in wanted], dtype=np.int64)
