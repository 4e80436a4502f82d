"""Embedding runs: a registered dataset's rows as vectors."""

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.base import Contract


class EmbeddingSpec(Contract):
    """What an embedding run computes: every row of a dataset, in dataset order."""

    dataset: str
    dataset_digest: str
    representation: Representation
