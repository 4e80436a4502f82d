"""Embedding runs: a registered dataset's rows as vectors, whole or a shard at a time."""

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.base import Contract


class EmbeddingSpec(Contract):
    """What an embedding run computes: every row of a dataset, in dataset order. Also its cache key."""

    dataset_digest: str
    representation: Representation
    """Of kind precomputed: `vectors` holds this dataset's file alone, under the dataset's digest."""
    model_fingerprint: str | None = None
    """For a model folder or a file of vectors: a digest of the files' names, sizes and times, so that what changed is
    embedded anew."""


class EmbeddingShardSpec(Contract):
    """Rows [start, stop) of an embedding run, for any worker."""

    embedding: EmbeddingSpec
    start: int
    stop: int
