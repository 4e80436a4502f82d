"""Texts to token ids, once.

Legend: N texts.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import InvalidModel


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """N token sequences, one after the other in one array."""

    ids: npt.NDArray[np.int32]
    """All tokens, special ones included."""
    offsets: npt.NDArray[np.int64]
    """(N + 1,) text i's tokens are `ids[offsets[i]:offsets[i + 1]]`."""
    truncated: npt.NDArray[np.bool_]
    """(N,) True where the text was longer than the limit."""

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """(N,) tokens of each text."""
        return np.diff(self.offsets).astype(np.int32)

    def row(self, row: int) -> npt.NDArray[np.int32]:
        """The tokens of one text."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @classmethod
    def from_lists(cls, ids: Sequence[Sequence[int]], truncated: Sequence[bool]) -> "TokenizedTexts":
        """From a list of ids for each text."""
        lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter((token for row in ids for token in row), dtype=np.int32, count=int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]), np.array(truncated, dtype=np.bool_))


class TextTokenizer:
    """A fast tokenizer with a prompt and a limit. Calls from several threads run one by one: it keeps state."""

    def __init__(self, tokenizer: Any, max_length: int, prompt: str = "") -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: transformers' PreTrainedTokenizerFast.
            max_length: tokens after which a text is cut.
            prompt: goes before every text.

        Raises:
            InvalidModel: the special tokens and the prompt fill `max_length` alone, so that every text would be one.
        """
        taken = len(tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
        if max_length <= taken:
            raise InvalidModel(
                f"max_length {max_length} leaves no place for a text: special tokens and prompt alone take {taken}"
            )
        self.max_length = max_length
        self.vocabulary_size = len(tokenizer)
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._lock = threading.Lock()

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Tokens of N texts as the model sees them, cut at the limit."""
        with self._lock:
            encodings = self._tokenizer(
                [self._prompt + text for text in texts],
                truncation=True,
                max_length=self.max_length,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            ).encodings
        return TokenizedTexts.from_lists(
            [encoding.ids for encoding in encodings], [bool(encoding.overflowing) for encoding in encodings]
        )

    def num_tokens(self, text: str) -> int:
        """Tokens of a text before any is cut off, special ones included."""
        with self._lock:
            return len(self._tokenizer(self._prompt + text, truncation=False, verbose=False)["input_ids"])
