"""Candidate runs: what some training rows contribute to an arrangement, computed by any worker and merged exactly."""

from enum import StrEnum

from nearfirst.contracts.arrangements import Selection, Similarity
from nearfirst.contracts.base import Contract


class CandidateKind(StrEnum):
    """What is found out about the rows of a shard."""

    AGGREGATES = "aggregates"
    """Each row's minimum, mean and maximum distance to the test rows, and its nearest test row."""
    NEAREST = "nearest"
    """Each test row's nearest of these rows."""
    FARTHEST = "farthest"
    """Each test row's farthest of these rows."""


class CandidatesSpec(Contract):
    """What a candidate run computes; also the key under which arrangements share it."""

    find: CandidateKind
    train: Selection
    """The training rows; those with a dataset index in [start, stop) are this shard's."""
    train_embeddings: str
    """The embedding run of the training dataset. Embedding runs are named by their content."""
    test: Selection
    test_embeddings: str
    similarity: Similarity
    """Of aggregates. Which rows are nearest is the same under every similarity: cosine there."""
    start: int
    stop: int
