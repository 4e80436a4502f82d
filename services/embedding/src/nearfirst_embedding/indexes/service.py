"""Rules of indexes: which run embeds a dataset, whether an index fits the served encoder, exact search.

Legend: N rows of an index, M queries, D dimensions, K rows wanted for each query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.embeddings import EmbeddingSpec
from nearfirst.contracts.problems import BodyTooLarge, InvalidInput
from nearfirst.contracts.runs import RunState
from nearfirst.data.row_file import RowFile
from nearfirst.model_names import is_folder
from nearfirst.registry import records
from nearfirst.registry.content_runs import keep_requested
from nearfirst.registry.dependencies import unfinished_dependencies
from nearfirst.registry.embedding_runs import embedding_progress, embedding_run, resolve_representation
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import artifact_of
from nearfirst.settings import Settings
from nearfirst.similarity.candidates import candidate_block
from nearfirst.similarity.embeddings import normalise
from nearfirst.store.artifacts import Store
from nearfirst_embedding.artifacts import EmbeddedRows, EmbeddingFiles
from nearfirst_embedding.indexes.schemas import Hit, Index, IndexRequest, SearchRequest, SearchResponse
from nearfirst_embedding.representations import load_representation
from nearfirst_embedding.schemas import EmbeddingsRequest
from nearfirst_embedding.service import EmbeddingService
from nearfirst_embedding.settings import EmbeddingSettings


def create(
    session: Session, request: IndexRequest, served: EmbeddingSettings, store: Store, settings: Settings
) -> RunRow:
    """The run that embeds a dataset: the one that is there already, or a new one.

    Raises:
        NotFound: no such dataset.
        PathNotAllowed, InvalidModel, InvalidInput: the representation's folder or files.
    """
    dataset = records.get_dataset(session, request.dataset)
    if request.representation is None:
        representation = _representation_of(served)
    else:
        representation = resolve_representation(request.representation, settings)
    return keep_requested(session, embedding_run(session, dataset, representation, store, settings))


def _representation_of(served: EmbeddingSettings) -> Representation:
    """The served encoder as workers can find it. Its folder is the operator's choice, so it may lie anywhere."""
    representation = served.representation
    if not is_folder(representation.model):
        return representation
    return representation.model_copy(update={"model": str(Path(representation.model).expanduser().resolve())})


def show(session: Session, row: RunRow) -> Index:
    """A run row as GET /indexes/{id} answers."""
    spec = EmbeddingSpec.model_validate(row.spec)
    rows = EmbeddedRows.model_validate(row.result) if row.state == RunState.SUCCEEDED else None
    return Index(
        id=row.id,
        state=RunState(row.state),
        progress=embedding_progress(session, row),
        dataset=records.first_dataset_of(session, spec.dataset_digest),
        dataset_digest=spec.dataset_digest,
        representation=spec.representation,
        encoder=rows and rows.encoder,
        num_rows=rows and rows.num_rows,
        dimensions=rows and rows.dimensions,
        error=row.error,
        waits_for=unfinished_dependencies(session, row.id) if row.state == RunState.QUEUED else [],
    )


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """An index as it lies in the store, memory-mapped."""

    rows: EmbeddedRows
    vectors: npt.NDArray[np.float32]
    """(N, D) float32 unit rows."""
    dataset: RowFile


class IndexSearch:
    """Exact search in stored indexes, for requests from several threads; the last indexes used stay open."""

    def __init__(
        self,
        served: EmbeddingSettings,
        settings: Settings,
        embeddings: EmbeddingService,
    ) -> None:
        """`embeddings`: the served encoder, whose places for requests in progress are taken by searches too."""
        self._served = served
        self._settings = settings
        self._embeddings = embeddings
        self._open = lru_cache(maxsize=served.max_open_indexes)(_opened)

    def search(self, row: RunRow, request: SearchRequest, store: Store) -> SearchResponse:
        """The nearest rows of each query: every row is compared, none is left out.

        Raises:
            NotReady: the index isn't built.
            InvalidInput: an empty text; texts for an index of another encoder than the served one; vectors of another
                number of dimensions, without direction or not finite.
            BodyTooLarge: more than `max_inputs` queries, `max_batch_tokens` tokens, or `max_hits` rows wanted.
            Overloaded: too many requests are in progress.
        """
        index = self._open(artifact_of(row), store)
        self._refuse_too_much(request.num_queries, min(request.top_k, len(index.vectors)))
        queries_MD = self._queries(row, index, request)
        with self._embeddings.place():
            block = candidate_block(
                index.vectors,
                queries_MD,
                rows=None,
                length=min(request.top_k, len(index.vectors)),
                memory_budget_bytes=self._settings.memory_budget_bytes,
            )
        return SearchResponse(
            results=[
                _hits(index.dataset, rows_K, keys_K)
                for rows_K, keys_K in zip(block.rows_MK.tolist(), block.keys_MK.tolist(), strict=True)
            ]
        )

    def _refuse_too_much(self, num_queries: int, length: int) -> None:
        if num_queries > self._served.max_inputs:
            raise BodyTooLarge(
                f"the search has {num_queries} queries; at most {self._served.max_inputs} are taken at once"
            )
        if num_queries * length > self._served.max_hits:
            raise BodyTooLarge(
                f"{num_queries} queries for {length} rows each would give {num_queries * length} rows; "
                f"at most {self._served.max_hits} are given at once"
            )

    def _queries(self, row: RunRow, index: OpenIndex, request: SearchRequest) -> npt.NDArray[np.float32]:
        """(M, D) float32 unit rows."""
        if request.vectors is not None:
            return _query_vectors(request.vectors, index.rows.dimensions)
        assert request.texts is not None, "the contract asks for texts or vectors"
        asked = EmbeddingSpec.model_validate(row.spec).representation
        # Queries come as ready-made texts, so the index's text rule is no part of what must be equal.
        served = _representation_of(self._served).model_copy(update={"text": asked.text})
        if (key := load_representation(served).key) != index.rows.encoder:
            raise InvalidInput(
                f"texts: index {row.id} was built with {index.rows.encoder!r}, and {key!r} is served here; "
                "search it by vectors"
            )
        answer = self._embeddings.embeddings(EmbeddingsRequest(input=request.texts, model=self._served.model))
        return np.array([item.embedding for item in answer.data], dtype=np.float32)


def _opened(artifact: str, store: Store) -> OpenIndex:
    files = EmbeddingFiles.of_artifact(store, artifact)
    rows = files.described()
    vectors_ND = normalise(np.load(files.vectors, mmap_mode="r"))
    return OpenIndex(rows, vectors_ND, RowFile(store.local_path(rows.dataset_digest)))


def _query_vectors(vectors: Sequence[Sequence[float]], dimensions: int) -> npt.NDArray[np.float32]:
    for number, vector in enumerate(vectors):
        if len(vector) != dimensions:
            raise InvalidInput(f"vectors.{number}: got {len(vector)} numbers, wanted the index's {dimensions}")
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as that
        vectors_MD = np.array(vectors).astype(np.float32)
    return normalise(vectors_MD, name="vectors")


def _hits(dataset: RowFile, rows: list[int], similarities: list[float]) -> list[Hit]:
    found = zip(rows, map(dataset.__getitem__, rows), similarities, strict=True)
    return [Hit(index=row, id=example.id, task=example.task, similarity=s) for row, example, s in found]
