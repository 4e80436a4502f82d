"""Batches whose shape depends on a text alone, so that its vector does too.

A matrix product may sum in another order when its shape is another, and attention may take another path when its mask
has no padding at all; either moves a vector by about 1e-7. So a text of n tokens is always computed at one width and
with one number of rows, both functions of n; the last batch of a width is filled up with copies of its first row. What
is left, a row's place among the others and the number of threads, changes no bit with torch's kernels
(tests/unit/embedding/test_same_bytes.py measures it).

Legend: N sequences, B rows in a batch, T tokens wide.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_STEPS = ((256, 16), (1024, 64))
"""(up to this many tokens, widths are multiples of this)."""
_COARSEST_STEP = 256


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How much is computed together. A request of one text pays for a whole batch, so small is good."""

    tokens: int
    """At most so many, padding included; but at least one row."""
    rows: int
    """At most so many."""


CPU_BATCH = BatchSize(tokens=512, rows=16)
"""Within a tenth of what larger ones give (MiniLM on 2 cores, widths from 32)."""
GPU_BATCH = BatchSize(tokens=16_384, rows=256)


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences that are computed together."""

    rows: npt.NDArray[np.int64]
    """Which sequences, at most `num_rows`."""
    width: int
    """T: tokens and padding."""
    num_rows: int
    """B: these sequences and copies."""


def padded_width(num_tokens: int, max_length: int) -> int:
    """The width at which a sequence is computed.

    Always wider than the sequence, so that its batch has padding, except at `max_length`, where no batch has any.

    Args:
        num_tokens: 1 to max_length.
        max_length: the encoder's limit.

    >>> [padded_width(n, 300) for n in (3, 15, 16, 255, 256, 300)]
    [16, 16, 32, 256, 300, 300]
    """
    step = next((step for limit, step in _STEPS if num_tokens < limit), _COARSEST_STEP)
    return min((num_tokens // step + 1) * step, max_length)


def plan_batches(lengths_N: npt.NDArray[np.int32], max_length: int, size: BatchSize) -> Iterator[Batch]:
    """Cut sequences into batches, longest first.

    Args:
        lengths_N: (N,) tokens of each, 1 to max_length.
        max_length: the encoder's limit.
        size: of every batch.
    """
    widths_N = np.array([padded_width(int(length), max_length) for length in lengths_N], dtype=np.int64)
    is_full_N = lengths_N == max_length  # without padding: never together with rows that have some
    kinds_N = 2 * widths_N + is_full_N
    for kind in np.unique(kinds_N)[::-1]:
        rows = np.flatnonzero(kinds_N == kind)
        width = int(kind) // 2
        num_rows = max(1, min(size.tokens // width, size.rows))
        for start in range(0, len(rows), num_rows):
            yield Batch(rows[start : start + num_rows], width, num_rows)
