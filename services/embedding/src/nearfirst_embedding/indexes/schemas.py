"""The bodies of /indexes."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.base import Contract
from nearfirst.contracts.runs import Progress, RunState

MAX_TOP_K = 1000


class IndexRequest(Contract):
    """The body of POST /indexes."""

    dataset: str
    """Id of a registered dataset."""
    representation: Representation | None = None
    """null: the encoder that this server serves, with the default text rule."""


class Index(Contract):
    """GET /indexes/{id}: an index is the embedding run of a dataset, which arrangements share."""

    id: str
    state: RunState
    progress: Progress | None = None
    """While shards are embedded: all of them together."""
    dataset: str | None
    """Id of the first dataset that was registered with these rows; null when none is left."""
    dataset_digest: str
    representation: Representation
    encoder: str | None = None
    """Everything that decided the vectors; null before they are there."""
    num_rows: int | None = None
    dimensions: int | None = None
    error: dict[str, Any] | None = None
    waits_for: list[str] = Field(default_factory=list)
    """Shards that must be embedded first."""


class SearchRequest(Contract):
    """The body of POST /indexes/{id}/search: queries as texts or as vectors, not both."""

    texts: list[str] | None = Field(default=None, min_length=1)
    """Embedded by the served encoder, which must be the index's."""
    vectors: list[Annotated[list[float], Field(min_length=1)]] | None = Field(default=None, min_length=1)
    """Of the index's dimensions; their length plays no part."""
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K)
    """Rows wanted for each query; an index with fewer rows gives all that it has."""

    @model_validator(mode="after")
    def _one_kind_of_query(self) -> "SearchRequest":
        if (self.texts is None) == (self.vectors is None):
            raise ValueError("give texts or vectors, and not both")
        return self

    @property
    def num_queries(self) -> int:
        """How many queries there are."""
        return len(self.texts or self.vectors or [])


class Hit(Contract):
    """A row of the dataset that is near a query."""

    index: int
    """The row's index in the dataset."""
    id: str
    task: str
    similarity: float
    """Cosine, exact up to a rounding to 2^-40."""


class SearchResponse(Contract):
    """The answer to a search."""

    results: list[list[Hit]]
    """For each query, in the request's order, its nearest rows: nearest first, of equally near rows the lower index."""
