"""The arrangement worker's second task: what some training rows contribute, and how an arrangement takes it in.

Shapes: N train rows of the pool, M test rows, K candidates.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.candidates import CandidateKind, CandidatesSpec
from nearfirst.contracts.runs import RunKind
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.registry.dependencies import dependencies
from nearfirst.similarity.aggregates import DistanceAggregates, distance_aggregates
from nearfirst.similarity.candidates import (
    CandidateBlock,
    candidate_block,
    default_list_length,
    merge_candidate_blocks,
)
from nearfirst.similarity.embeddings import normalise
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.methods.arranged import Precomputed
from nearfirst_arrangement.selected_rows import SelectedRows, SelectedVectors, selected_vectors

log = logging.getLogger(__name__)


def find_candidates(context: RunContext) -> RunResult:
    """Compare the rows of a shard with all test rows; the artifact has an .npy file for each array of the result."""
    spec = CandidatesSpec.model_validate(context.spec)
    train, test = selected_vectors(context, spec.train), selected_vectors(context, spec.test)
    # Of the whole pool, as `arrange` does: whether rows are of unit length already is decided for all together.
    train_ND = normalise(train.embeddings, name="train_embeddings")
    test_MD = normalise(test.embeddings, name="test_embeddings")
    start, stop = np.searchsorted(train.index, [spec.start, spec.stop]).tolist()
    budget = context.worker.settings.memory_budget_bytes
    found: DistanceAggregates | CandidateBlock
    if spec.find is CandidateKind.AGGREGATES:
        found = distance_aggregates(
            train_ND[start:stop],
            test_MD,
            similarity=spec.similarity,
            memory_budget_bytes=budget,
            progress=context.progress,
        )
    else:
        found = candidate_block(
            train_ND,
            test_MD,
            rows=slice(start, stop),
            length=default_list_length(len(train_ND), len(test_MD), budget),
            farthest=spec.find is CandidateKind.FARTHEST,
            memory_budget_bytes=budget,
            progress=context.progress,
        )
    result = {"compared": _compared(train, test), "num_rows": stop - start}
    return RunResult(result, _store(context.worker.store, found))


def precomputed_of(context: RunContext, train: SelectedRows, test: SelectedRows) -> Precomputed | None:
    """What the candidate runs that an arrangement waited for have found out, merged; None when it waited for none.

    Args:
        context: the arrangement's run.
        train: its training rows.
        test: its test rows.
    """
    shards = context.read(lambda session: dependencies(session, context.run_id, RunKind.CANDIDATES))
    if not shards or train.vectors is None or test.vectors is None:
        return None
    compared = _compared(train.vectors, test.vectors)
    if any((shard.result or {}).get("compared") != compared for shard in shards):
        # The vectors were lost and embedded again since, perhaps by another kind of processor.
        log.warning("%s: its shards compared other vectors than it has; they are not used", context.run_id)
        return None
    specs = [CandidatesSpec.model_validate(shard.spec) for shard in shards]
    in_order = sorted(zip(specs, shards, strict=True), key=lambda pair: pair[0].start)
    store, budget = context.worker.store, context.worker.settings.memory_budget_bytes
    length = default_list_length(len(train.index), len(test.index), budget)

    def found(kind: CandidateKind) -> list[Mapping[str, Any]]:
        return [
            _arrays(store, row.artifact) for spec, row in in_order if spec.find is kind and row.artifact is not None
        ]

    return Precomputed(
        aggregates=_joined(found(CandidateKind.AGGREGATES)),
        nearest=_merged(found(CandidateKind.NEAREST), length),
        farthest=_merged(found(CandidateKind.FARTHEST), length),
        similarity=next(
            (spec.similarity for spec in specs if spec.find is CandidateKind.AGGREGATES), Similarity.COSINE
        ),
    )


def _compared(train: SelectedVectors, test: SelectedVectors) -> dict[str, str]:
    """Names the vectors that a result is about."""
    return {"train": train.artifact, "test": test.artifact}


def _joined(shards: Sequence[Mapping[str, Any]]) -> DistanceAggregates | None:
    """The aggregates of all rows, from those of shards in the order of their rows."""
    if not shards:
        return None
    names = [field.name for field in fields(DistanceAggregates)]
    return DistanceAggregates(*(np.concatenate([shard[name] for shard in shards]) for name in names))


def _merged(shards: Sequence[Mapping[str, Any]], length: int) -> CandidateBlock | None:
    """Each test row's best rows of the pool, from its best of each shard."""
    return merge_candidate_blocks([CandidateBlock(**shard) for shard in shards], length) if shards else None


def _store(store: Store, found: DistanceAggregates | CandidateBlock) -> str:
    """Keep a result; returns the artifact's digest."""
    with tempfile.TemporaryDirectory(prefix="nearfirst-candidates-") as folder:
        files = {f"{field.name}.npy": Path(folder) / f"{field.name}.npy" for field in fields(found)}
        for path in files.values():
            np.save(path, getattr(found, path.stem))
        return store.put_artifact(files)


def _arrays(store: Store, artifact: str) -> dict[str, Any]:
    """What `_store` kept, by field, memory-mapped."""
    names = store.files(artifact)
    return {Path(name).stem: np.load(store.artifact_file(artifact, name), mmap_mode="r") for name in names}
