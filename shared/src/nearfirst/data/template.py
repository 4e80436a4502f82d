r"""The paper's chat template, and examples as token ids with labels.

    <s>User: {u}\nAssistant: {a}</s>\nUser: {u}\nAssistant: {a}</s>

Legend: T tokens of one example.

Each piece ("User: {u}", "\nAssistant: ", "{a}") is tokenized on its own and without special tokens; bos opens the
example and eos ends each answer. Only the answers and their eos are scored. A system turn, which the paper's data never
has, becomes a line of its own before the turn it precedes: "System: {s}", unscored.

References: the paper's training code (REFERENCE: bos + "User: " + u, "\nAssistant: ", a + eos, then "\nUser: ").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nearfirst.contracts.problems import InvalidInput, InvalidModel
from nearfirst.data.example import Example

IGNORED_LABEL = -100
"""Label of a token that is not scored: what torch's cross entropy leaves out."""

_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


class Tokenizer(Protocol):
    """What the template needs of a tokenizer; those of transformers have it."""

    @property
    def bos_token_id(self) -> int | None:
        """Opens an example; None: the model has none, and nothing opens it."""

    @property
    def eos_token_id(self) -> int | None:
        """Ends an answer."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One example, ready to train on."""

    input_ids: NDArray[np.int64]
    """(T,), T at most max_length."""
    labels: NDArray[np.int64]
    """(T,): input_ids where scored, IGNORED_LABEL elsewhere. Aligned with input_ids: the loss does the shift."""
    num_scored: int
    """Labels that are scored; 0 when truncation cut off every answer."""
    is_truncated: bool
    """Whether tokens were cut off at the tail."""


class _Piece(NamedTuple):
    text: str
    is_scored: bool
    """Scored pieces end with eos."""


def _pieces(example: Example) -> Iterator[_Piece]:
    separator = ""
    for turn in example.turns:
        opening = f"{separator}{_SPEAKERS[turn.role]}: "
        if turn.role == "assistant":
            yield _Piece(opening, is_scored=False)
            yield _Piece(turn.content, is_scored=True)
        else:
            yield _Piece(opening + turn.content, is_scored=False)
        separator = "\n"


def generation_prompt(example: Example) -> str:
    r"""The text that a model continues with its answer to the first exchange: "User: {u}\nAssistant: ".

    It has no bos: its text is the tokenizer's, which adds it when it encodes a prompt.
    """
    texts = []
    for piece in _pieces(example):
        if piece.is_scored:
            break
        texts.append(piece.text)
    return "".join(texts)


def tokenize_example(example: Example, tokenizer: Tokenizer, max_length: int) -> TokenizedExample:
    """Token ids and labels of an example under the paper's template.

    Args:
        example: its turns, in order.
        tokenizer: needs an eos token.
        max_length: tokens after which the tail is cut, bos and eos included; at least 1.

    Raises:
        InvalidModel: the tokenizer has no eos token.
        InvalidInput: max_length is below 1.
    """
    if max_length < 1:
        raise InvalidInput(f"max_length {max_length} wants to be at least 1")
    eos = tokenizer.eos_token_id
    if eos is None:
        raise InvalidModel("the tokenizer has no eos token; the template ends each answer with it")
    bos = tokenizer.bos_token_id
    input_ids = [] if bos is None else [bos]
    labels = [IGNORED_LABEL] * len(input_ids)
    for piece in _pieces(example):
        piece_ids = tokenizer.encode(piece.text, add_special_tokens=False)
        if piece.is_scored:
            piece_ids = [*piece_ids, eos]
        input_ids.extend(piece_ids)
        labels.extend(piece_ids if piece.is_scored else [IGNORED_LABEL] * len(piece_ids))
    kept_labels = np.array(labels[:max_length], dtype=np.int64)
    return TokenizedExample(
        input_ids=np.array(input_ids[:max_length], dtype=np.int64),
        labels=kept_labels,
        num_scored=int(np.count_nonzero(kept_labels != IGNORED_LABEL)),
        is_truncated=len(input_ids) > max_length,
    )
