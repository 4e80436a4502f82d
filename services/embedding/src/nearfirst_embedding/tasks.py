"""The embedding worker's tasks: a dataset's rows to vectors, whole or a shard at a time."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nearfirst.contracts.arrangements import RepresentationKind
from nearfirst.contracts.embeddings import EmbeddingShardSpec, EmbeddingSpec
from nearfirst.contracts.problems import InvalidInput, InvalidModel
from nearfirst.contracts.runs import RunKind
from nearfirst.data.example import embedded_text
from nearfirst.data.row_file import RowFile
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.registry.dependencies import dependencies
from nearfirst.store.artifacts import sha256_file
from nearfirst_embedding.artifacts import EmbeddedRows, EmbeddingFiles, join_shards, write_rows
from nearfirst_embedding.precomputed import read_vectors
from nearfirst_embedding.representations import embed_texts, load_representation
from nearfirst_embedding.vector_cache import open_vector_cache


def embed(context: RunContext) -> RunResult:
    """Embed every row of a dataset, or join the shards that the run waited for: the artifact is the same."""
    spec = EmbeddingSpec.model_validate(context.spec)
    with _new_files() as files:
        if spec.representation.kind == RepresentationKind.PRECOMPUTED:
            rows = _take_vectors(context, spec, files)
        elif shards := _finished_shards(context):
            rows = join_shards(files, shards, progress=context.progress)
        else:
            rows = _embed_rows(context, spec, _row_file(context, spec), files)
        return RunResult(rows.model_dump(), files.store(context.worker.store))


def embed_shard(context: RunContext) -> RunResult:
    """Embed rows [start, stop) of a dataset; the artifact is that of `embed`, of these rows."""
    spec = EmbeddingShardSpec.model_validate(context.spec)
    with _new_files() as files:
        rows = _embed_rows(context, spec.embedding, _row_file(context, spec.embedding), files, spec.start, spec.stop)
        return RunResult(rows.model_dump(), files.store(context.worker.store))


@contextmanager
def _new_files() -> Iterator[EmbeddingFiles]:
    with tempfile.TemporaryDirectory(prefix="nearfirst-embed-") as folder:
        yield EmbeddingFiles.in_folder(Path(folder))


def _row_file(context: RunContext, spec: EmbeddingSpec) -> RowFile:
    return RowFile(context.worker.store.local_path(spec.dataset_digest))


def _finished_shards(context: RunContext) -> list[EmbeddingFiles]:
    """The shards that this run waited for, in the order of their rows; none when it is to embed all rows itself."""
    shards = context.read(lambda session: dependencies(session, context.run_id, RunKind.EMBEDDING_SHARD))
    shards.sort(key=lambda row: EmbeddingShardSpec.model_validate(row.spec).start)
    artifacts = [row.artifact for row in shards if row.artifact is not None]
    assert len(artifacts) == len(shards), "a claimed run's dependencies have succeeded"
    return [EmbeddingFiles.of_artifact(context.worker.store, artifact) for artifact in artifacts]


def _embed_rows(
    context: RunContext,
    spec: EmbeddingSpec,
    dataset: RowFile,
    files: EmbeddingFiles,
    start: int = 0,
    stop: int | None = None,
) -> EmbeddedRows:
    """Write the files of some of a dataset's rows (default: all)."""
    representation = spec.representation
    rows = range(len(dataset))[start:stop]
    texts = [embedded_text(dataset[row], representation.text) for row in rows]
    try:
        encoded = embed_texts(representation, texts, cache=open_vector_cache(), progress=context.progress)
    except InvalidInput as error:
        if start == 0 or isinstance(error, InvalidModel):
            raise
        raise type(error)(f"of the rows from {start} on, {error.detail}") from error
    key = load_representation(representation).key
    return write_rows(files, encoded.vectors, encoded.truncated, encoder=key, dataset_digest=spec.dataset_digest)


def _take_vectors(context: RunContext, spec: EmbeddingSpec, files: EmbeddingFiles) -> EmbeddedRows:
    """Write the files of vectors that something else computed, made length 1."""
    assert spec.representation.vectors is not None, "the contract asks for them"
    path = Path(spec.representation.vectors[spec.dataset_digest])
    vectors_ND = read_vectors(path, len(_row_file(context, spec)))
    uncut_N = np.zeros(len(vectors_ND), dtype=np.bool_)
    key = f"{RepresentationKind.PRECOMPUTED} file={sha256_file(path)}"
    return write_rows(files, vectors_ND, uncut_N, encoder=key, dataset_digest=spec.dataset_digest)
