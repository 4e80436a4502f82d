"""The rows of each step, cut into forward passes, in exactly the planned order.

Rank r of W takes rows r, r + W, r + 2W, ... of a step. Inside a step its rows are put together by length, so that
little is padding: the step's set of rows, its loss and its receipt don't depend on it.

Legend: W ranks, B rows of a step, b rows of a micro-batch, T tokens of the longest of them, S scored tokens.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray

from nearfirst.contracts.training import TrainSettings
from nearfirst.data.steps import passes_of_rank
from nearfirst_training.data import UNSCORED, TokenizedRows
from nearfirst_training.plan import Plan

Row = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Token ids and labels."""


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass, padded at the right to its own longest row.

    No attention mask: under causal attention no real token comes after a pad, so none sees one.
    """

    input_ids: torch.Tensor
    """(b, T) int64."""
    predictors: torch.Tensor
    """(S,) int64: place in the flattened (b*T) batch of the token that each scored token is predicted from."""
    targets: torch.Tensor
    """(S,) int64: the scored tokens."""
    rows: torch.Tensor
    """(S,) int64: row of the batch that each scored token belongs to."""

    def to(self, device: torch.device) -> "MicroBatch":
        """On the device; copied from pinned memory without waiting."""
        parts = (self.input_ids, self.predictors, self.targets, self.rows)
        return MicroBatch(*(part.to(device, non_blocking=True) for part in parts))


def collate(rows: Sequence[Row], device: torch.device) -> MicroBatch:
    """Pad rows and find their scored tokens; for a GPU they are left in pinned memory, ready to be copied.

    The pad's value is 0: no label is on it and no real token sees it.
    """
    width = max(len(tokens) for tokens, _ in rows)
    input_ids_bT = np.zeros((len(rows), width), dtype=np.int64)
    labels_bT = np.full((len(rows), width), UNSCORED, dtype=np.int64)
    for number, (tokens, labels) in enumerate(rows):
        input_ids_bT[number, : len(tokens)] = tokens
        labels_bT[number, 1 : len(labels)] = labels[1:]
    row_S, column_S = np.nonzero(labels_bT != UNSCORED)
    arrays = (input_ids_bT, row_S * width + column_S - 1, labels_bT[row_S, column_S], row_S)
    tensors = (torch.from_numpy(array) for array in arrays)
    return MicroBatch(*(tensor.pin_memory() if device.type == "cuda" else tensor for tensor in tensors))


@dataclass(frozen=True)
class StepBatch:
    """What one rank trains on in one step, and what all ranks do together."""

    ids: list[str]
    """Ids that this rank's rows carry themselves, in the order of the plan."""
    rows: list[Row]
    """As `ids`."""
    groups: list[list[int]]
    """Rows of each of this rank's forward passes."""
    num_passes: int
    """Forward passes that every rank makes; a rank with fewer groups makes empty ones."""
    num_groups: int
    """Groups of all ranks."""
    num_scored: int
    """Scored tokens of all ranks."""
    num_tokens: int
    """Real tokens of all ranks, pads not counted."""

    def micro_batches(self, device: torch.device) -> list[MicroBatch]:
        """This rank's forward passes."""
        filled = [collate([self.rows[row] for row in group], device) for group in self.groups]
        return filled + [_empty_micro_batch()] * (self.num_passes - len(filled))


def _empty_micro_batch() -> MicroBatch:
    """One token and nothing to predict: for a rank that takes part in the others' communication."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return MicroBatch(torch.zeros(1, 1, dtype=torch.int64), nothing, nothing, nothing)


class OrderLoader:
    """Hands out one rank's rows of each step, in the plan's order."""

    def __init__(
        self,
        plan: Plan,
        rows: TokenizedRows,
        slot_N: NDArray[np.int64],
        settings: TrainSettings,
        *,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """`slot_N[k]` is the row of `rows` that stands at position k of the order."""
        self._plan = plan
        self._rows = rows
        self._slot_N = slot_N
        self._settings = settings
        self._rank, self._size = rank, size
        self._length_R, self._num_scored_R = rows.lengths(), rows.num_scored()

    def batch(self, step: int) -> StepBatch:
        """The rows of step `step`, from 1. Its ids come from the rows, not from the plan."""
        slots_B = self._slot_N[self._plan.positions(step)]
        cuts = [
            passes_of_rank(self._length_R[slots_B[rank :: self._size]].tolist(), self._settings)
            for rank in range(self._size)
        ]
        own = slots_B[self._rank :: self._size].tolist()
        return StepBatch(
            ids=[self._rows.ids[slot] for slot in own],
            rows=[self._rows.row(slot) for slot in own],
            groups=cuts[self._rank],
            num_passes=max(len(cut) for cut in cuts),
            num_groups=sum(len(cut) for cut in cuts),
            num_scored=int(self._num_scored_R[slots_B].sum()),
            num_tokens=int(self._length_R[slots_B].sum()),
        )


def in_plan_order(ids_of_ranks: Sequence[Sequence[str]]) -> list[str]:
    """The ids of a step, as its ranks took them in turn.

    >>> in_plan_order([["a", "c", "e"], ["b", "d"]])
    ['a', 'b', 'c', 'd', 'e']
    """
    return [each for turn in zip_longest(*ids_of_ranks) for each in turn if each is not None]


def prefetched(
    loader: OrderLoader, steps: range, device: torch.device
) -> Iterator[tuple[int, StepBatch, list[MicroBatch]]]:
    """Each step's batch and its forward passes; the next one is made while the caller works on this one."""

    def load(step: int) -> tuple[StepBatch, list[MicroBatch]]:
        batch = loader.batch(step)
        return batch, batch.micro_batches(device)

    if not steps:
        return
    with ThreadPoolExecutor(1, "nearfirst-batches") as ahead:
        coming: Future[tuple[StepBatch, list[MicroBatch]]] = ahead.submit(load, steps[0])
        for step in steps:
            batch, micro_batches = coming.result()
            if step != steps[-1]:
                coming = ahead.submit(load, step + 1)
            yield step, batch, micro_batches
