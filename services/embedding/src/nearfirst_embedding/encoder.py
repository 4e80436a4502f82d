"""Texts to vectors with a sentence-transformers model, in fp32.

Legend: N texts, G groups of texts that are equal to the model, D dimensions, B texts in a batch.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput, InvalidModel
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst_embedding.models import EncoderFiles, resolve_encoder

BATCH_SIZE = 128
"""Texts in one forward pass."""
_TOKENIZED_AT_ONCE = 4096
"""Texts whose token ids are in memory at the same time."""
_FINGERPRINT_BYTES = 16
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """What a text is to the model, without its tokens."""

    lengths: npt.NDArray[np.int32]
    """(N,) tokens that the model sees, with its special tokens."""
    fingerprints: npt.NDArray[np.uint64]
    """(N, 2) a hash of those tokens: equal rows are the same input."""
    truncated: npt.NDArray[np.bool_]
    """(N,) True where the text was longer than the limit."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model. Calls from several threads run one after the other: its tokenizer keeps state."""

    model: Any
    """sentence_transformers.SentenceTransformer, in fp32."""
    files: EncoderFiles
    max_length: int
    """Tokens after which a text is cut."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.model.get_embedding_dimension())

    @property
    def prompt(self) -> str:
        """What the model's configuration puts before every text; mostly nothing."""
        name = self.model.default_prompt_name
        return str(self.model.prompts[name]) if name else ""

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token counts, fingerprints and truncation of texts. Memory is O(N), whatever the texts' lengths."""
        num_texts = len(texts)
        lengths = np.empty(num_texts, dtype=np.int32)
        fingerprints = np.empty((num_texts, _FINGERPRINT_BYTES // 8), dtype=np.uint64)
        truncated = np.empty(num_texts, dtype=np.bool_)
        prompt = self.prompt
        for start in range(0, num_texts, _TOKENIZED_AT_ONCE):
            chunk = [prompt + text for text in texts[start : start + _TOKENIZED_AT_ONCE]]
            with self._lock:
                tokenized = self.model.tokenizer(chunk, truncation=True, max_length=self.max_length)
            for row, encoding in enumerate(tokenized.encodings, start):
                ids = np.asarray(encoding.ids, dtype=np.int64)
                digest = hashlib.blake2b(ids.tobytes(), digest_size=_FINGERPRINT_BYTES).digest()
                lengths[row] = len(ids)
                fingerprints[row] = np.frombuffer(digest, dtype=np.uint64)
                truncated[row] = bool(encoding.overflowing)
        return TokenizedTexts(lengths, fingerprints, truncated)

    def encode(
        self,
        texts: Sequence[str],
        tokenized: TokenizedTexts,
        *,
        progress: ProgressCallback = ignore_progress,
        batch_size: int = BATCH_SIZE,
    ) -> npt.NDArray[np.float32]:
        """Vectors of texts.

        Texts that the model can't tell apart (equal tokens after truncation) are encoded once and get the same bytes,
        so that ties between rows stay exact. The distinct ones are batched by length, and in the order of their
        fingerprints within a length: the result depends on the set of texts, not on their order.

        Args:
            texts: N texts, none of them empty.
            tokenized: `tokenize(texts)`.
            progress: called after each batch with the number of texts that have their vector.
            batch_size: texts in one forward pass.

        Returns:
            (N, D) float32, row i is text i's, each of length 1.

        Raises:
            InvalidEmbeddings: a vector has a NaN or an infinity, or no direction; the detail names the row.

        Notes:
            Peak memory is the model, the result and one batch. Rounding (about 1e-7) depends on the other texts of the
            batch, the number of threads and the processor, as in every fp32 matrix product.
        """
        first_rows, group_of_row = _group_equal_inputs(tokenized)
        rows_in_group = np.bincount(group_of_row, minlength=len(first_rows))
        vectors_GD = np.empty((len(first_rows), self.dimensions), dtype=np.float32)
        done = 0
        progress(done, len(texts), "texts")
        for start in range(0, len(first_rows), batch_size):
            rows = first_rows[start : start + batch_size]
            vectors_BD = self.encode_batch([texts[row] for row in rows])
            _refuse_broken_vectors(vectors_BD, rows)
            vectors_GD[start : start + batch_size] = vectors_BD
            done += int(rows_in_group[start : start + batch_size].sum())
            progress(done, len(texts), "texts")
        result: npt.NDArray[np.float32] = vectors_GD[group_of_row]
        return result

    def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(B, D) vectors of length 1, in one forward pass; row i is text i's."""
        import torch
        from sentence_transformers.util import batch_to_device

        with self._lock, torch.inference_mode():
            features = batch_to_device(self.model.preprocess(list(texts), prompt=self.prompt), self.model.device)
            vectors_BD = self.model(features)["sentence_embedding"]
            normalized_BD = torch.nn.functional.normalize(vectors_BD.float(), p=2, dim=1)
        result: npt.NDArray[np.float32] = normalized_BD.cpu().numpy()
        return result


def encode_texts(
    representation: Representation,
    texts: Sequence[str],
    *,
    progress: ProgressCallback = ignore_progress,
    batch_size: int = BATCH_SIZE,
) -> npt.NDArray[np.float32]:
    """Vectors of texts by the model of a representation, whose text rule was applied before.

    The same as `SentenceTransformer.encode(normalize_embeddings=True)` in fp32 to 1e-5. See `Encoder.encode` for what
    is exact, what is refused and what it costs.

    Returns:
        (N, D) float32, row i is text i's, each of length 1.

    Raises:
        InvalidModel: the model can't be found, is incomplete or has no tokenizer of its own.
        InvalidInput: no texts, or one without any character but spaces; the detail names the row.
        InvalidEmbeddings: a vector has a NaN or an infinity, or no direction; the detail names the row.
    """
    refuse_empty_texts(texts)
    encoder = load_encoder(representation)
    return encoder.encode(texts, encoder.tokenize(texts), progress=progress, batch_size=batch_size)


def truncated_counts(representation: Representation, texts: Sequence[str]) -> int:
    """How many texts are longer than the encoder's limit, so that their end has no part in their vector.

    Raises:
        InvalidModel: as `encode_texts`.
    """
    return int(load_encoder(representation).tokenize(texts).truncated.sum())


def encoder_key(representation: Representation, digest: str) -> str:
    """A name for everything that decides what vector a row gets.

    Two sets of vectors may be compared when their keys are equal.

    Args:
        representation: as asked for.
        digest: `EncoderFiles.digest` of its model.

    >>> encoder_key(Representation(model="package:all-MiniLM-L6-v2"), "sha256:00")
    'sentence-transformer model=package:all-MiniLM-L6-v2 files=sha256:00 text=first_turn max_length=own precision=exact'
    """
    revision = f"@{representation.revision}" if representation.revision else ""
    max_length = "own" if representation.max_length is None else representation.max_length
    return (
        f"{representation.kind} model={representation.model}{revision} files={digest} text={representation.text.value} "
        f"max_length={max_length} precision={representation.precision}"
    )


def load_encoder(representation: Representation) -> Encoder:
    """The model of a representation, loaded once for as long as its files stay the same.

    Raises:
        InvalidModel: the model can't be found, is incomplete, has no tokenizer, or is limited to fewer tokens than
            `max_length`.
    """
    files = resolve_encoder(representation.model, representation.revision)
    return _load(files, representation.model, representation.max_length)


@lru_cache(maxsize=2)
def _load(files: EncoderFiles, name: str, max_length: int | None) -> Encoder:
    model = _load_sentence_transformer(files, name)
    tokenizer = getattr(model, "tokenizer", None)
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidModel(f"model {name!r} is not a transformer with a tokenizer.json; wanted one")
    limit = _position_limit(model)
    if max_length is not None and limit is not None and max_length > limit:
        raise InvalidModel(f"max_length {max_length} is above the {limit} positions of model {name!r}")
    wanted = max_length or model.max_seq_length
    model.max_seq_length = int(min(wanted, limit or wanted))
    return Encoder(model, files, model.max_seq_length)


def _load_sentence_transformer(files: EncoderFiles, name: str) -> Any:
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        with _without_weight_bar():
            return SentenceTransformer(
                str(files.folder),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": "float32", "use_safetensors": True},
            ).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise InvalidModel(f"model {name!r} can't be loaded: {error}") from error


@contextmanager
def _without_weight_bar() -> Iterator[None]:
    """Keep transformers' bar of loaded tensors, which is there and gone, out of logs and other bars."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _position_limit(model: Any) -> int | None:
    """Most tokens the network has positions for; None when its configuration sets no bound.

    RoBERTa and its kin number their positions from padding_idx + 1, so a table of 514 holds 512 tokens.
    """
    from torch.nn import Embedding

    for module in model[0].model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, Embedding):
            return int(table.num_embeddings) - (0 if table.padding_idx is None else table.padding_idx + 1)
    limit = getattr(model[0].config, "max_position_embeddings", None)
    return int(limit) if limit is not None and limit > 0 else None


def _group_equal_inputs(tokenized: TokenizedTexts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows that are the same input to the model, longest inputs first.

    Returns:
        first_rows (G,): the lowest row of each group, groups by falling length, then by fingerprint;
        group_of_row (N,): each row's group.
    """
    keys = np.column_stack([tokenized.lengths.astype(np.uint64), tokenized.fingerprints])
    _, first_rows, group_of_row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    last = len(first_rows) - 1
    return first_rows[::-1].astype(np.int64), (last - group_of_row.reshape(-1)).astype(np.int64)


def refuse_empty_texts(texts: Sequence[str]) -> None:
    """Refuse texts that say nothing.

    Raises:
        InvalidInput: there is no text, or one has no character but spaces; the detail names its row.
    """
    if not texts:
        raise InvalidInput("texts is empty; wanted at least one text")
    for row, text in enumerate(texts):
        if not text.strip():
            raise InvalidInput(f"row {row}: the text is {text!r}; wanted at least one character that is not a space")


def _refuse_broken_vectors(vectors_BD: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
    norms_B = np.linalg.norm(vectors_BD, axis=1)
    is_broken_B = ~(np.abs(norms_B - 1) <= _NORM_TOLERANCE)  # also True where the norm is NaN
    if is_broken_B.any():
        row = int(rows[is_broken_B].min())
        raise InvalidEmbeddings(
            f"row {row}: the encoder gave a vector with NaN, an infinity or no direction; wanted finite numbers"
        )
