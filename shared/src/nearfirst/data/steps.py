"""How many rows a job consumes, and the rows of a step, cut into forward passes.

Rank r of W takes rows r, r + W, r + 2W, ... of a step. Inside a rank its rows are put together by length, so that
little is padding: the step's set of rows, its loss and its receipt don't depend on it.
"""

from collections.abc import Sequence

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.training import TrainSettings

PASS_COST_TOKENS = 256
"""What a forward and backward pass costs whatever its size, in tokens: more passes are worth it when they save more
padding than this."""


def rows_to_consume(num_order_rows: int, settings: TrainSettings) -> int:
    """Rows over all epochs: `epochs` passes over the order, `max_steps` full steps, or the smaller when both are set.

    Without either: one pass. With `max_steps` alone the order is repeated as often as that takes.
    """
    by_steps = None if settings.max_steps is None else settings.max_steps * settings.global_batch_size
    if settings.epochs is None and by_steps is not None:
        return by_steps
    by_epochs = num_order_rows * (settings.epochs or 1)
    return by_epochs if by_steps is None else min(by_epochs, by_steps)


def passes_of_rank(lengths: Sequence[int], settings: TrainSettings) -> list[list[int]]:
    """One rank's forward passes over its rows of a step; the paper's are consecutive rows.

    Args:
        lengths: tokens of each row.
        settings: `fidelity`, `micro_batch_size` and `micro_batch_tokens`.

    Returns:
        Groups of row numbers; each row is in exactly one.
    """
    if settings.fidelity is Fidelity.PAPER:
        return cut_in_order(len(lengths), settings.micro_batch_size)
    return cut_by_length(lengths, settings.micro_batch_size, settings.micro_batch_tokens)


def cut_by_length(
    lengths: Sequence[int], max_rows: int | None = None, max_tokens: int | None = None
) -> list[list[int]]:
    """Rows put together so that padded tokens plus `PASS_COST_TOKENS` a group are fewest.

    Args:
        lengths: tokens of each row.
        max_rows: rows in a group; None: any number.
        max_tokens: tokens in a group, padding included; a row that is longer has a group to itself. None: any number.

    Returns:
        Groups of row numbers, the longest rows first; each row in exactly one. Equal lengths stand by row number.

    >>> cut_by_length([3, 1000, 4, 990])
    [[1, 3], [2, 0]]
    """
    by_length = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    cheapest, starts = [0.0], [0]
    for stop in range(1, len(by_length) + 1):
        costs = []
        for start in range(stop - 1, -1, -1):
            num_rows, num_tokens = stop - start, (stop - start) * lengths[by_length[start]]
            too_large = num_rows > (max_rows or num_rows) or num_tokens > (max_tokens or num_tokens)
            if too_large and num_rows > 1:
                break
            costs.append((cheapest[start] + num_tokens + PASS_COST_TOKENS, start))
        best = min(costs)
        cheapest.append(best[0])
        starts.append(best[1])
    groups = []
    stop = len(by_length)
    while stop:
        groups.append(by_length[starts[stop] : stop])
        stop = starts[stop]
    return groups[::-1]


def cut_in_order(num_rows: int, max_rows: int | None = None) -> list[list[int]]:
    """Consecutive rows, `max_rows` together; None: all."""
    size = max_rows or max(num_rows, 1)
    return [list(range(start, min(start + size, num_rows))) for start in range(0, num_rows, size)]
