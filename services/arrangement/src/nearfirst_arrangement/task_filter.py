"""Which rows of a dataset take part, by task: one test task makes a specialist, several a generalist."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import InvalidInput


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
    known = set(task_of_row)
    unknown = sorted(set(tasks) - known)
    if unknown:
        raise InvalidInput(
            f"{name}: the dataset has no task {unknown[0]!r}; it has {len(known)}, such as {min(known)!r}"
        )
    wanted = set(tasks)
    return np.array([row for row, task in enumerate(task_of_row) if task in wanted], dtype=np.int64)
