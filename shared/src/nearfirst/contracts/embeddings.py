"""Embedding runs: a registered dataset's rows as vectors."""

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.base import Contract


class EmbeddingSpec(Contract):
    """What an embedding run computes: every row of a dataset, in dataset order. Also its cache key."""

    dataset_digest: str
    representation: Representation
    model_fingerprint: str | None = None
    """For a model folder: a digest of its files' names, sizes and times, so that a changed model is embedded anew."""
