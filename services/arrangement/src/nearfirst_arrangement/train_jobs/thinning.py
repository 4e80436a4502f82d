"""Which measurements of a long curve are enough to draw it. N measurements."""

import numpy as np
import numpy.typing as npt


def rows_to_draw(
    step_N: npt.NDArray[np.int64], value_N: npt.NDArray[np.float64], num_points: int
) -> npt.NDArray[np.intp]:
    """Rows of a curve that show what all of it shows: no peak and no dip is lost.

    The range of steps is divided into equal stretches; of each the row with the lowest value is kept and the one with
    the highest, of equal ones the earliest for the lowest and the latest for the highest. So are the first row and
    the last.

    Args:
        step_N: strictly ascending.
        value_N: finite.
        num_points: most rows that are kept, at least 4.

    Returns:
        Rows in ascending order; all of them where they are no more than `num_points`.

    Notes:
        O(N log N) time and O(N) memory.
    """
    num_rows = len(step_N)
    if num_rows <= num_points:
        return np.arange(num_rows)
    num_stretches = (num_points - 2) // 2
    share_N = (step_N - step_N[0]) / (step_N[-1] - step_N[0])
    stretch_N = np.minimum((share_N * num_stretches).astype(np.intp), num_stretches - 1)
    ascending_N = np.lexsort((value_N, stretch_N))
    is_first_N = np.diff(stretch_N[ascending_N], prepend=-1) > 0
    is_last_N = np.append(is_first_N[1:], True)
    return np.unique(np.concatenate([ascending_N[is_first_N], ascending_N[is_last_N], [0, num_rows - 1]]))
