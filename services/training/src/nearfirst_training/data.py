"""From examples to token ids and labels, once, ahead of training.

Legend: R tokenized rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.contracts.training import TemplateName
from nearfirst.data.example import Example
from nearfirst.data.template import tokenize_examples
from nearfirst_training.plan import Plan

UNSCORED = -100
"""Label of a token that no loss is taken on."""

_CHUNK = 256
"""Examples that are tokenized together, on all cores when the tokenizer can; progress is told after each chunk."""


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
    template: TemplateName = "paper",
    total: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> TokenizedRows:
    """Tokenize examples under a template.

    Args:
        examples: in the order of the rows to come.
        tokenizer: a transformers tokenizer with an eos token, for chat with a chat template.
        max_length: tokens after which a row is cut, at its tail.
        template: which one.
        total: number of examples, for the progress.
        progress: told of rows.
    """
    ids: list[str] = []
    tasks: list[str] = []
    tokens: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int32]] = []
    num_truncated = 0
    left = iter(examples)
    while chunk := list(islice(left, _CHUNK)):
        for example, row in zip(chunk, tokenize_examples(chunk, tokenizer, max_length, template), strict=True):
            ids.append(example.id)
            tasks.append(example.task)
            tokens.append(row.input_ids.astype(np.int32))
            labels.append(row.labels.astype(np.int32))
            num_truncated += row.is_truncated
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


def tokenize_plan(
    plan: Plan,
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    *,
    template: TemplateName = "paper",
    progress: ProgressCallback = ignore_progress,
) -> tuple[TokenizedRows, NDArray[np.int64]]:
    """Tokenize each row that the plan consumes, once.

    Returns:
        The rows, and (N',) the row at each of the order's first `plan.num_rows` positions.
    """
    consumed_N = plan.index[: plan.num_rows]
    rows_R, slot_N = np.unique(consumed_N, return_inverse=True)
    tokenized = tokenize_rows(
        (examples[row] for row in rows_R.tolist()),
        tokenizer,
        max_length,
        template=template,
        total=len(rows_R),
        progress=progress,
    )
    return tokenized, slot_N.astype(np.int64)
