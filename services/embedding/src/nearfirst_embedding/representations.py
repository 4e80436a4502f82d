"""Texts to vectors: the plug-ins that can, and the one function that uses them.

A *representation* (`nearfirst.contracts.arrangements.Representation`) names a kind. Each kind is an entry point of the
group `nearfirst.encoders`: `kind = "package.module:load"`, where `load(representation)` returns a `TextEncoder`.
docs/representations.md shows how to add one.

Callers use `embed_texts`: it finds the encoder, takes what the cache has, has the rest computed, checks every vector
and stores it. A text's vector is a pure function of the encoder's key and the text, so any cut into shards, any order
and any state of the cache give the same bytes on one kind of machine.

Legend: N texts, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Representation, RepresentationKind
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.encoders import find_encoder
from nearfirst_embedding.processor import processor_fingerprint
from nearfirst_embedding.vector_cache import CachedVector, VectorCache, open_vector_cache, text_key

TEXTS_AT_ONCE = 4096
"""Texts that are looked up, computed and stored together: what a killed run loses at most."""
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """What became of N texts, in their order."""

    vectors: npt.NDArray[np.float32]
    """(N, D) float32, each row of length 1."""
    num_tokens: npt.NDArray[np.int32]
    """(N,) tokens that the encoder saw, its special tokens included; 0 where it has no tokens."""
    truncated: npt.NDArray[np.bool_]
    """(N,) True where the text was longer than the encoder's limit: its end has no part in the vector."""


class TextEncoder(Protocol):
    """What a plug-in's `load(representation)` returns.

    Making one should be cheap: whatever is slow (importing torch, reading weights) waits for the first text, since
    texts that the cache knows never come.
    """

    @property
    def key(self) -> str:
        """Everything that decides a text's vector: weights by digest, limits, precision, pooling, own options.

        Vectors of equal keys may be compared, and are taken from the cache; `encoder_key` makes one.
        """

    @property
    def dimensions(self) -> int:
        """D. May load the model."""

    def encode_texts(self, texts: Sequence[str], *, progress: ProgressCallback = ignore_progress) -> EncodedTexts:
        """Vectors of N texts, none of them empty; N is at least 1.

        Row i must depend on text i and `key` alone, not on the other texts. `progress` is called with the number of
        texts that are done, of N, unit `texts`; what it raises must come through.
        """


def load_representation(representation: Representation) -> TextEncoder:
    """The encoder of a representation, found by its kind among the installed plug-ins.

    Raises:
        InvalidInput: no installed plug-in has this kind, or it can't be imported; or the kind is precomputed, which has
            vectors instead of an encoder (`nearfirst_embedding.precomputed.read_vectors`).
        InvalidModel: the plug-in can't find or trust the model.
    """
    if representation.kind == RepresentationKind.PRECOMPUTED:
        raise InvalidInput("representation kind precomputed has vectors in files and encodes no texts")
    plug_in = find_encoder(representation.kind)
    try:
        load = plug_in.load()
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"the encoder {representation.kind!r} ({plug_in.value}) can't be loaded: {error}") from error
    encoder: TextEncoder = load(representation)
    return encoder


def embed_texts(
    representation: Representation,
    texts: Sequence[str],
    *,
    cache: VectorCache | None = None,
    progress: ProgressCallback = ignore_progress,
) -> EncodedTexts:
    """Vectors of texts, from the cache where it has them.

    Args:
        representation: which encoder; its text rule was applied before.
        texts: N texts.
        cache: where vectors are looked up and kept; None: every text is computed.
        progress: called with the number of texts that have their vector, of N, unit `texts`; it may raise, and what was
            stored until then is found the next time.

    Returns:
        A row for each text, in the order of the texts.

    Raises:
        InvalidInput: see `load_representation` and `refuse_unusable_texts`.
        InvalidModel: the model can't be found, loaded or trusted.
        InvalidEmbeddings: the encoder gave a NaN, an infinity, a vector that is not of length 1 or not the shape it
            promised; the detail names the row.

    Notes:
        Texts that the cache has need no tokenizer and no model, and with all of them there torch is never imported.
        Memory is the result and what `TEXTS_AT_ONCE` texts take.
    """
    refuse_unusable_texts(texts)
    encoder = load_representation(representation)
    parts: list[EncodedTexts] = []
    progress(0, len(texts), "texts")
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        chunk = texts[start : start + TEXTS_AT_ONCE]
        parts.append(_embed_chunk(encoder, chunk, start, len(texts), cache, progress))
    dimensions = sorted({part.vectors.shape[1] for part in parts})
    if len(dimensions) > 1:
        raise InvalidEmbeddings(f"encoder {representation.kind!r} gave vectors of {dimensions} dimensions; wanted one")
    return EncodedTexts(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.num_tokens for part in parts]),
        np.concatenate([part.truncated for part in parts]),
    )


def encode_texts(
    representation: Representation, texts: Sequence[str], *, progress: ProgressCallback = ignore_progress
) -> EncodedTexts:
    """`embed_texts` with this machine's own cache, as its settings have it: what the command lines use.

    The entry point `encode_texts` of the group `nearfirst.embedding` is this function, for distributions that may not
    import this one.
    """
    return embed_texts(representation, texts, cache=open_vector_cache(), progress=progress)


def encoder_key(representation: Representation, digest: str) -> str:
    """A name for everything that decides what vector a row gets.

    Two sets of vectors may be compared when their keys are equal.

    Args:
        representation: as asked for.
        digest: of the files that define the encoder, as `EncoderFiles.digest`.

    >>> encoder_key(Representation(model="package:all-MiniLM-L6-v2"), "sha256:00")
    'sentence-transformer model=package:all-MiniLM-L6-v2 files=sha256:00 text=first_turn max_length=own precision=exact'
    """
    revision = f"@{representation.revision}" if representation.revision else ""
    max_length = "own" if representation.max_length is None else representation.max_length
    pooling = f" pooling={representation.pooling}" if representation.pooling else ""
    options = "".join(f" {name}={representation.options[name]!r}" for name in sorted(representation.options))
    return (
        f"{representation.kind} model={representation.model}{revision} files={digest} text={representation.text.value} "
        f"max_length={max_length} precision={representation.precision}{pooling}{options}"
    )


def refuse_unusable_texts(texts: Sequence[str]) -> None:
    """Refuse texts that say nothing, or that no encoder can read.

    Raises:
        InvalidInput: there is no text; one has no character but spaces; one has a lone surrogate, which UTF-8 can't
            hold. The detail names its row.
    """
    if not texts:
        raise InvalidInput("texts is empty; wanted at least one text")
    for row, text in enumerate(texts):
        if not text.strip():
            raise InvalidInput(f"row {row}: the text is {text!r}; wanted at least one character that is not a space")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"row {row}: character {error.start} of the text is {text[error.start]!r}, half of a pair that UTF-8 "
                "can't hold; wanted Unicode text"
            ) from error


def refuse_broken_vectors(vectors_ND: npt.NDArray[np.float32], rows: Sequence[int]) -> None:
    """Refuse what an encoder may not return.

    Args:
        vectors_ND: what it returned.
        rows: N, the caller's numbers of the texts.

    Raises:
        InvalidEmbeddings: not (N, D) float32; or a row that has a NaN or is not of length 1, which the detail names.
    """
    if vectors_ND.ndim != 2 or len(vectors_ND) != len(rows) or vectors_ND.dtype != np.float32:
        raise InvalidEmbeddings(
            f"the encoder gave {vectors_ND.dtype} vectors of shape {vectors_ND.shape} for {len(rows)} texts; wanted "
            "float32 and a row for each text"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        norms_N = np.linalg.norm(vectors_ND, axis=1)
    is_broken_N = ~(np.abs(norms_N - 1) <= _NORM_TOLERANCE)  # also True where the norm is NaN
    if is_broken_N.any():
        row = rows[int(np.argmax(is_broken_N))]
        raise InvalidEmbeddings(
            f"row {row}: the encoder gave a vector with NaN, an infinity or no direction; wanted finite numbers and "
            "length 1"
        )


def _embed_chunk(
    encoder: TextEncoder,
    texts: Sequence[str],
    first_row: int,
    num_texts: int,
    cache: VectorCache | None,
    progress: ProgressCallback,
) -> EncodedTexts:
    """Vectors of texts [first_row, first_row + len(texts)) of `num_texts`."""
    namespace = f"{encoder.key} on {processor_fingerprint()}"
    keys = [text_key(namespace, text) for text in texts]
    known: dict[bytes, CachedVector] = cache.lookup(keys) if cache is not None else {}
    missing = {key: row for row, key in reversed(list(enumerate(keys))) if key not in known}
    if missing:
        rows = sorted(missing.values())
        num_known = len(texts) - len(rows)

        def report(done: int, total: int | None, unit: str) -> None:
            progress(first_row + num_known + done, num_texts, unit)

        encoded = encoder.encode_texts([texts[row] for row in rows], progress=report)
        refuse_broken_vectors(encoded.vectors, [first_row + row for row in rows])
        computed = {
            keys[row]: CachedVector(encoded.vectors[i], int(encoded.num_tokens[i]), bool(encoded.truncated[i]))
            for i, row in enumerate(rows)
        }
        if cache is not None:
            cache.store(computed)
        known = known | computed
    progress(first_row + len(texts), num_texts, "texts")
    found = [known[key] for key in keys]
    return EncodedTexts(
        np.stack([entry.vector for entry in found]),
        np.array([entry.num_tokens for entry in found], dtype=np.int32),
        np.array([entry.truncated for entry in found], dtype=np.bool_),
    )
