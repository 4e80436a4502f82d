"""The files of embedded rows, whole or a shard of them: written, read, and shards joined into one.

embeddings.npy   (N, D) float32, unit rows
truncated.npy    (N,) bool: the encoder cut the row's text
embeddings.json  `EmbeddedRows`

Equal rows give equal bytes, however many shards they came in.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.base import Contract
from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.store.artifacts import Store

VECTORS = "embeddings.npy"
TRUNCATED = "truncated.npy"
DESCRIPTION = "embeddings.json"


class EmbeddedRows(Contract):
    """What embedded rows are."""

    encoder: str
    """Everything that decided the vectors; vectors of equal keys may be compared."""
    num_rows: int
    """N."""
    dimensions: int
    """D."""
    dataset_digest: str
    truncated: int
    """Rows whose text was cut."""


class EmbeddingFiles(NamedTuple):
    """Where embedded rows lie."""

    vectors: Path
    truncated: Path
    description: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "EmbeddingFiles":
        """The files of this folder, which need not exist yet."""
        return cls(folder / VECTORS, folder / TRUNCATED, folder / DESCRIPTION)

    @classmethod
    def of_artifact(cls, store: Store, artifact: str) -> "EmbeddingFiles":
        """The files of a stored artifact, for reading.

        Raises:
            NotFound, CorruptArtifact: they are not there or were changed.
        """
        return cls(*(store.artifact_file(artifact, name) for name in (VECTORS, TRUNCATED, DESCRIPTION)))

    def store(self, store: Store) -> str:
        """Keep the files; returns the artifact's digest."""
        return store.put_artifact({path.name: path for path in self})

    def described(self) -> EmbeddedRows:
        """What the description says."""
        return EmbeddedRows.model_validate_json(self.description.read_bytes())


def write_rows(
    files: EmbeddingFiles,
    vectors_ND: npt.NDArray[np.float32],
    truncated_N: npt.NDArray[np.bool_],
    *,
    encoder: str,
    dataset_digest: str,
) -> EmbeddedRows:
    """Write all three files."""
    np.save(files.vectors, vectors_ND)
    return _write_description(files, truncated_N, vectors_ND.shape[1], encoder, dataset_digest)


def join_shards(
    files: EmbeddingFiles, shards: Sequence[EmbeddingFiles], *, progress: ProgressCallback = ignore_progress
) -> EmbeddedRows:
    """Write the rows of all shards, in the order of the shards, as if they had been embedded at once.

    Raises:
        InvalidEmbeddings: the shards come from different encoders.

    Notes:
        Vectors are copied from file to file, one shard at a time.
    """
    parts = [shard.described() for shard in shards]
    encoder, dimensions = _only_encoder(parts)
    num_rows = sum(part.num_rows for part in parts)
    vectors_ND = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        files.vectors, mode="w+", dtype=np.float32, shape=(num_rows, dimensions)
    )
    start = 0
    for shard, part in zip(shards, parts, strict=True):
        vectors_ND[start : start + part.num_rows] = np.load(shard.vectors, mmap_mode="r")
        start += part.num_rows
        progress(start, num_rows, "rows merged")
    vectors_ND.flush()
    truncated_N = np.concatenate([np.load(shard.truncated) for shard in shards])
    return _write_description(files, truncated_N, dimensions, encoder, parts[0].dataset_digest)


def _only_encoder(parts: Sequence[EmbeddedRows]) -> tuple[str, int]:
    """The encoder of all shards, and its dimensions."""
    first = parts[0]
    for part in parts:
        if (part.encoder, part.dimensions) != (first.encoder, first.dimensions):
            raise InvalidEmbeddings(
                f"shards of one dataset come from two encoders: {first.encoder} ({first.dimensions} dimensions) and "
                f"{part.encoder} ({part.dimensions}); the workers don't have the same model files"
            )
    return first.encoder, first.dimensions


def _write_description(
    files: EmbeddingFiles, truncated_N: npt.NDArray[np.bool_], dimensions: int, encoder: str, dataset_digest: str
) -> EmbeddedRows:
    np.save(files.truncated, truncated_N)
    rows = EmbeddedRows(
        encoder=encoder,
        num_rows=len(truncated_N),
        dimensions=dimensions,
        dataset_digest=dataset_digest,
        truncated=int(truncated_N.sum()),
    )
    files.description.write_text(rows.model_dump_json())
    return rows
