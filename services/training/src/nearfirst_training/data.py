"""From examples to batches: tokenized ahead, handed out in exactly the planned order.

Legend: R tokenized rows, B rows of a step, b rows of a micro-batch, T tokens of the longest of them, S scored tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.data.example import Example
from nearfirst.data.template import tokenize_example
from nearfirst_training.plan import Plan

UNSCORED = -100
"""Label of a token that no loss is taken on."""

_PROGRESS_EVERY = 256


@dataclass(frozen=True)
class TokenizedRows:
    """Token ids and labels of R examples, end to end in flat arrays."""

    ids: Sequence[str]
    """Example id of each row."""
    tasks: Sequence[str]
    tokens: NDArray[np.int32]
    labels: NDArray[np.int32]
    """Aligned with `tokens`: the token itself where it is scored, -100 elsewhere."""
    offsets: NDArray[np.int64]
    """(R+1): row r is [offsets[r], offsets[r+1])."""
    num_truncated: int
    """Rows that were cut at `max_length`."""

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Token ids and labels of one row."""
        part = slice(self.offsets[number], self.offsets[number + 1])
        return self.tokens[part], self.labels[part]

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def num_scored(self) -> NDArray[np.int64]:
        """Scored tokens of each row. A row's first token has nothing before it to be predicted from: never scored."""
        return np.array([np.count_nonzero(self.row(r)[1][1:] != UNSCORED) for r in range(len(self))], dtype=np.int64)


def tokenize_rows(
    examples: Iterable[Example],
    tokenizer: Any,
    max_length: int,
    *,
    total: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> TokenizedRows:
    """Tokenize examples by the paper's template.

    Args:
        examples: in the order of the rows to come.
        tokenizer: a transformers tokenizer with bos and eos.
        max_length: tokens after which a row is cut, at its tail.
        total: number of examples, for the progress.
        progress: told of rows.
    """
    ids: list[str] = []
    tasks: list[str] = []
    tokens: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int32]] = []
    num_truncated = 0
    for example in examples:
        row = tokenize_example(example, tokenizer, max_length)
        ids.append(example.id)
        tasks.append(example.task)
        tokens.append(np.asarray(row.input_ids, dtype=np.int32))
        labels.append(np.asarray(row.labels, dtype=np.int32))
        num_truncated += row.is_truncated
        if len(ids) % _PROGRESS_EVERY == 0:
            progress(len(ids), total, "rows")
    progress(len(ids), total, "rows")
    empty = np.empty(0, dtype=np.int32)
    return TokenizedRows(
        ids=ids,
        tasks=tasks,
        tokens=np.concatenate([empty, *tokens]),
        labels=np.concatenate([empty, *labels]),
        offsets=np.cumsum([0, *map(len, tokens)], dtype=np.int64),
        num_truncated=num_truncated,
    )


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


def collate(rows: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], device: torch.device) -> MicroBatch:
    """Pad rows of (token ids, labels) and find their scored tokens.

    The pad's value is 0: no label is on it and no real token sees it.
    """
    width = max(len(tokens) for tokens, _ in rows)
    input_ids_bT = np.zeros((len(rows), width), dtype=np.int64)
    labels_bT = np.full((len(rows), width), UNSCORED, dtype=np.int64)
    for number, (tokens, labels) in enumerate(rows):
        input_ids_bT[number, : len(tokens)] = tokens
        labels_bT[number, 1 : len(labels)] = labels[1:]
    row_S, column_S = np.nonzero(labels_bT != UNSCORED)
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids_bT).to(device),
        predictors=torch.from_numpy(row_S * width + column_S - 1).to(device),
        targets=torch.from_numpy(labels_bT[row_S, column_S]).to(device),
        rows=torch.from_numpy(row_S).to(device),
    )


@dataclass(frozen=True)
class StepBatch:
    """The rows of one optimizer step, with the ids that they carry themselves."""

    ids: list[str]
    rows: list[tuple[NDArray[np.int32], NDArray[np.int32]]]

    def micro_batches(self, size: int | None, device: torch.device) -> list[MicroBatch]:
        """Cut the step into forward passes of at most `size` rows; None: one pass."""
        size = size or len(self.rows)
        return [collate(self.rows[start : start + size], device) for start in range(0, len(self.rows), size)]

    @property
    def num_tokens(self) -> int:
        """Real tokens, pads not counted."""
        return sum(len(tokens) for tokens, _ in self.rows)


class OrderLoader:
    """Hands out the rows of each step, in the plan's order."""

    def __init__(self, plan: Plan, rows: TokenizedRows, slot_N: NDArray[np.int64]) -> None:
        """`slot_N[k]` is the row of `rows` that stands at position k of the order."""
        self._plan = plan
        self._rows = rows
        self._slot_N = slot_N

    def batch(self, step: int) -> StepBatch:
        """The rows of step `step`, from 1. Its ids come from the rows, not from the plan."""
        slots = self._slot_N[self._plan.positions(step)].tolist()
        return StepBatch(ids=[self._rows.ids[slot] for slot in slots], rows=[self._rows.row(slot) for slot in slots])


def load_order(
    plan: Plan,
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    *,
    progress: ProgressCallback = ignore_progress,
) -> tuple[OrderLoader, TokenizedRows]:
    """Tokenize each row that the plan consumes, once, and make the loader of its steps.

    Returns:
        The loader and the tokenized rows (those of the order's first `plan.num_rows` positions, each dataset row once).
    """
    consumed_N = plan.index[: plan.num_rows]
    rows_R, slot_N = np.unique(consumed_N, return_inverse=True)
    tokenized = tokenize_rows(
        (examples[row] for row in rows_R.tolist()), tokenizer, max_length, total=len(rows_R), progress=progress
    )
    return OrderLoader(plan, tokenized, slot_N.astype(np.int64)), tokenized
