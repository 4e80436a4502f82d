"""How many tokens a job trains on: counted, or measured on steps that are drawn at random.

A sample is of whole steps, so that padding is measured too and neighbours that are alike cost nothing but spread:
cluster sampling with a ratio estimator (Cochran 1977, "Sampling Techniques", section 6.5). Steps of many rows are
sampled row by row instead. Where every row is known, tokens are exact, and only the padding of very many steps is
sampled.

Legend: n clusters drawn of N, x rows and y tokens of a cluster.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.estimates import TokenEstimate
from nearfirst.contracts.training import TrainSettings
from nearfirst.data.steps import passes_of_rank

MAX_EXACT_ROWS = 4096
"""Of so many different rows each is tokenized."""
SAMPLED_ROWS = 2048
"""Of more, about so many."""
_MIN_SAMPLED_STEPS = 4
_MAX_STEPS = 16_384
"""Of so many steps the padding of each is looked at."""

MeasureRow = Callable[[int], int]
"""Tokens of a row of the dataset, after the cut at `max_length`."""


class _Cluster(NamedTuple):
    num_rows: int
    tokens: int
    padded_tokens: int
    largest_pass: int


def count_tokens(
    index: npt.NDArray[np.int64], num_rows: int, settings: TrainSettings, measure_row: MeasureRow
) -> TokenEstimate:
    """Tokens of all steps of a job.

    Args:
        index: (R,) row in the dataset at each position of the order, R at least 1.
        num_rows: rows consumed over all epochs: positions 0, 1, ... of the order, repeated.
        settings: rows of a step, processes and micro-batches; `seed` draws the sample.
        measure_row: called at most once for each row.
    """
    lengths: dict[int, int] = {}

    def length(position: int) -> int:
        row = int(index[position % len(index)])
        if row not in lengths:
            lengths[row] = measure_row(row)
        return lengths[row]

    batch = settings.global_batch_size
    is_exact = min(num_rows, len(index)) <= MAX_EXACT_ROWS
    by_step = batch * _MIN_SAMPLED_STEPS <= SAMPLED_ROWS or is_exact
    size = batch if by_step else 1
    num_clusters = -(-num_rows // size)
    clusters = [
        _measured([length(p) for p in range(number * size, min((number + 1) * size, num_rows))], settings)
        for number in _drawn(num_clusters, _MAX_STEPS if is_exact else SAMPLED_ROWS // size, settings.seed)
    ]
    scale = num_rows / sum(cluster.num_rows for cluster in clusters)
    tokens = _exact_tokens(length, len(index), num_rows) if is_exact else scale * sum(c.tokens for c in clusters)
    padded = round(scale * sum(cluster.padded_tokens for cluster in clusters))
    return TokenEstimate(
        tokens=round(tokens),
        padded_tokens=padded if by_step else None,
        is_exact=is_exact,
        num_rows_read=len(lengths),
        standard_error=None if is_exact else _standard_error(clusters, num_clusters),
        longest_row=max(lengths.values()),
        largest_pass=max(cluster.largest_pass for cluster in clusters) if by_step else None,
    )


def _exact_tokens(length: Callable[[int], int], num_positions: int, num_rows: int) -> int:
    """Tokens of every epoch, the last one as far as it goes."""
    epochs, rest = divmod(num_rows, num_positions)
    whole = sum(map(length, range(num_positions))) if epochs else 0
    return epochs * whole + sum(map(length, range(rest)))


def _drawn(num_clusters: int, wanted: int, seed: int) -> Iterator[int]:
    """So many different clusters; all when there are no more."""
    if wanted >= num_clusters:
        return iter(range(num_clusters))
    return iter(np.sort(np.random.default_rng(seed).choice(num_clusters, wanted, replace=False)).tolist())


def _measured(lengths: Sequence[int], settings: TrainSettings) -> _Cluster:
    """A step (or a single row), cut into the forward passes of all ranks."""
    passes = []
    for rank in range(settings.num_processes):
        own = lengths[rank :: settings.num_processes]
        for group in passes_of_rank(own, settings):
            passes.append(len(group) * max((own[row] for row in group), default=0))
    return _Cluster(len(lengths), sum(lengths), sum(passes), max(passes))


def _standard_error(clusters: Sequence[_Cluster], num_clusters: int) -> float | None:
    """Of N / n * sum of y, by the spread of y - r x over the clusters, r = tokens per row; None for a single one.

    N sqrt((1 - n / N) / n * sum (y - r x)^2 / (n - 1))
    """
    drawn = len(clusters)
    if drawn < 2:
        return None
    per_row = sum(cluster.tokens for cluster in clusters) / sum(cluster.num_rows for cluster in clusters)
    squares = sum((cluster.tokens - per_row * cluster.num_rows) ** 2 for cluster in clusters)
    return num_clusters * math.sqrt((1 - drawn / num_clusters) / drawn * squares / (drawn - 1))
