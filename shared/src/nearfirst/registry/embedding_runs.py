"""The run that embeds a dataset: one for each content, cut into shards that any worker may take when it is large."""

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import Representation, RepresentationKind
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.embeddings import EmbeddingShardSpec, EmbeddingSpec
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.runs import Progress, RunKind, RunState
from nearfirst.encoders import refuse_unknown_kind
from nearfirst.model_names import file_fingerprint, folder_fingerprint, resolve_file, resolve_model
from nearfirst.registry.content_runs import content_run
from nearfirst.registry.models import DependencyRow, RunRow
from nearfirst.registry.results import progress_of
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store


def embedding_run(
    session: Session, dataset: Dataset, representation: Representation, store: Store, settings: Settings
) -> RunRow:
    """The run whose artifact has a dataset's vectors, created, found, or queued again when its vectors are lost.

    A dataset of more than `settings.embedding_shard_rows` rows is embedded by shard runs, which the run waits for and
    merges. The artifact's bytes don't depend on that.

    Args:
        session: open transaction.
        dataset: whose rows.
        representation: resolved by `resolve_representation`: its paths are trusted here.
        store: has artifacts.
        settings: how large a shard is.

    Raises:
        InvalidInput: precomputed vectors without a file for this dataset.
    """
    spec = embedding_spec(dataset, representation)

    def shards() -> list[str]:
        return [
            content_run(session, RunKind.EMBEDDING_SHARD, shard, store).id
            for shard in shard_specs(spec, dataset.num_examples, settings.embedding_shard_rows)
        ]

    return content_run(session, RunKind.EMBEDDING, spec, store, depends_on=shards)


def resolve_representation(representation: Representation, settings: Settings) -> Representation:
    """A representation with absolute paths in place of the folder or the files that it names; idempotent.

    Raises:
        PathNotAllowed: a path outside the allowed roots.
        InvalidModel: no such model folder, or a name that is neither a path nor an id.
        InvalidInput: no such file of vectors; no encoder of the kind is installed.
    """
    refuse_unknown_kind(representation.kind)
    if representation.vectors is None:
        return representation.model_copy(update={"model": resolve_model(representation.model, settings)})
    files = {dataset: resolve_file(path, settings) for dataset, path in representation.vectors.items()}
    return representation.model_copy(update={"vectors": {dataset: str(path) for dataset, path in files.items()}})


def embedding_spec(dataset: Dataset, representation: Representation) -> EmbeddingSpec:
    """What embeds a dataset under a resolved representation; also the key under which it is kept.

    Raises:
        InvalidInput: precomputed vectors without a file for this dataset.
    """
    if representation.vectors is None:
        found = folder_fingerprint(representation.model)
        return EmbeddingSpec(dataset_digest=dataset.digest, representation=representation, model_fingerprint=found)
    file = representation.vectors.get(dataset.id)
    if file is None:
        listed = ", ".join(sorted(representation.vectors)) or "none"
        raise InvalidInput(f"representation.vectors: no file for dataset {dataset.id}; got files for {listed}")
    return EmbeddingSpec(
        dataset_digest=dataset.digest,
        # Model, text rule and limits play no part, and may not make two keys of one file.
        representation=Representation(kind=RepresentationKind.PRECOMPUTED, vectors={dataset.digest: file}),
        model_fingerprint=file_fingerprint(file),
    )


def shard_specs(spec: EmbeddingSpec, num_rows: int, shard_rows: int) -> list[EmbeddingShardSpec]:
    """The shards of an embedding run, in the order of their rows; none when one worker is to do it whole."""
    if num_rows <= shard_rows or spec.representation.kind == RepresentationKind.PRECOMPUTED:
        return []
    return [
        EmbeddingShardSpec(embedding=spec, start=start, stop=min(start + shard_rows, num_rows))
        for start in range(0, num_rows, shard_rows)
    ]


def embedding_progress(session: Session, row: RunRow) -> Progress | None:
    """How far an embedding run is; while it waits for its shards, how far they are together."""
    if row.state != RunState.QUEUED:
        return progress_of(row)
    is_done = RunRow.state == RunState.SUCCEEDED
    size = RunRow.spec["stop"].as_integer() - RunRow.spec["start"].as_integer()
    query = (
        select(func.sum(size), func.sum(case((is_done, size), else_=func.coalesce(RunRow.progress_done, 0))))
        .join(DependencyRow, DependencyRow.depends_on == RunRow.id)
        .where(DependencyRow.run_id == row.id, RunRow.kind == RunKind.EMBEDDING_SHARD)
    )
    total, done = session.execute(query).one()
    return None if total is None else Progress(done=done, total=total, unit="texts")
