"""Token sequences to vectors through a transformer, for every kind of representation that has one.

Legend: N texts, G groups of texts with equal tokens, B rows in a batch, T tokens wide, D dimensions.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst_embedding.batches import CPU_BATCH, GPU_BATCH, Batch, plan_batches
from nearfirst_embedding.representations import EncodedTexts
from nearfirst_embedding.tokens import TextTokenizer, TokenizedTexts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, as `TransformerEncoder` uses it."""

    tokenizer: TextTokenizer
    forward: "Callable[[Tensor, Tensor], Tensor]"
    """(ids_BT, mask_BT) int64 on the model's device, mask 1 where there is a token -> (B, D) pooled vectors."""
    dimensions: int
    device: str


class TransformerEncoder:
    """A `TextEncoder` (representations.py) that loads its model with the first text. Safe to use from several threads.

    A text's vector depends on its tokens and the model alone: see batches.py.
    """

    def __init__(self, key: str, load: Callable[[], LoadedModel]) -> None:
        """Nothing is loaded yet.

        Args:
            key: everything that decides a vector.
            load: called at most once, when the model is first wanted.
        """
        self.key = key
        self._load = load
        self._loading = threading.Lock()
        self._computing = threading.Lock()

    @cached_property
    def _loaded(self) -> LoadedModel:
        return self._load()

    @property
    def model(self) -> LoadedModel:
        """The model, loaded now if it wasn't.

        Raises:
            InvalidModel: it can't be loaded; the detail says why.
        """
        with self._loading:
            return self._loaded

    @property
    def dimensions(self) -> int:
        """D."""
        return self.model.dimensions

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut."""
        return self.model.tokenizer.max_length

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Tokens of N texts, cut at `max_length`."""
        return self.model.tokenizer.tokenize(texts)

    def encode_texts(self, texts: Sequence[str], *, progress: ProgressCallback = ignore_progress) -> EncodedTexts:
        """Vectors, token counts and truncation of N texts; see `TextEncoder`."""
        tokenized = self.tokenize(texts)
        return EncodedTexts(self.encode(tokenized, progress=progress), tokenized.lengths, tokenized.truncated)

    def encode(
        self, tokenized: TokenizedTexts, *, progress: ProgressCallback = ignore_progress
    ) -> npt.NDArray[np.float32]:
        """Vectors of token sequences.

        Args:
            tokenized: N sequences of 1 to `max_length` tokens.
            progress: called after each batch with the number of texts that have their vector.

        Returns:
            (N, D) float32, row i is text i's, each of length 1. Equal sequences are computed once.

        Notes:
            Time is that of the padded tokens; peak memory is the model, the result and one batch.
        """
        first_rows, group_of_row = _group_equal_sequences(tokenized)
        num_members_G = np.bincount(group_of_row, minlength=len(first_rows))
        size = CPU_BATCH if self.model.device == "cpu" else GPU_BATCH
        vectors_GD = np.empty((len(first_rows), self.dimensions), dtype=np.float32)
        done = 0
        for batch in plan_batches(tokenized.lengths[first_rows], self.max_length, size):
            vectors_GD[batch.rows] = self._compute(tokenized, first_rows[batch.rows], batch)
            done += int(num_members_G[batch.rows].sum())
            progress(done, len(tokenized), "texts")
        vectors_ND: npt.NDArray[np.float32] = vectors_GD[group_of_row]
        return vectors_ND

    def _compute(self, tokenized: TokenizedTexts, rows: npt.NDArray[np.int64], batch: Batch) -> npt.NDArray[np.float32]:
        """(len(rows), D) vectors of one batch."""
        import torch

        model = self.model
        ids_BT = np.full((batch.num_rows, batch.width), model.tokenizer.pad_id, dtype=np.int64)
        mask_BT = np.zeros((batch.num_rows, batch.width), dtype=np.int64)
        for place, row in enumerate(rows):
            sequence = tokenized.row(int(row))
            ids_BT[place, : len(sequence)] = sequence
            mask_BT[place, : len(sequence)] = 1
        ids_BT[len(rows) :] = ids_BT[0]
        mask_BT[len(rows) :] = mask_BT[0]
        with self._computing, torch.inference_mode():
            pooled_BD = model.forward(
                torch.from_numpy(ids_BT).to(model.device), torch.from_numpy(mask_BT).to(model.device)
            )
            vectors_BD = torch.nn.functional.normalize(pooled_BD.float(), p=2, dim=1)
        computed_BD: npt.NDArray[np.float32] = vectors_BD.cpu().numpy()
        return computed_BD[: len(rows)]


def _group_equal_sequences(tokenized: TokenizedTexts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Texts that are the same to the model.

    Returns:
        first_rows (G,): the lowest row of each group, ascending; group_of_row (N,): each row's group.
    """
    groups: dict[bytes, int] = {}
    group_of_row = np.array(
        [groups.setdefault(tokenized.row(row).tobytes(), len(groups)) for row in range(len(tokenized))], dtype=np.int64
    )
    _, first_rows = np.unique(group_of_row, return_index=True)
    return first_rows.astype(np.int64), group_of_row
