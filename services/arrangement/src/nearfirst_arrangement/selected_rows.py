"""The rows of a dataset that take part in an arrangement, and their embeddings."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Selection
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.runs import RunKind
from nearfirst.data.dataset import read_canonical
from nearfirst.data.example import Example
from nearfirst.data.row_file import RowFile
from nearfirst.queue.context import RunContext
from nearfirst.registry import records
from nearfirst.registry.dependencies import dependencies
from nearfirst_arrangement.task_filter import rows_of_tasks


@dataclass(frozen=True, slots=True)
class SelectedVectors:
    """The embeddings of the rows of a dataset that take part."""

    artifact: str
    """Names the dataset's embeddings in the store."""
    index: npt.NDArray[np.int64]
    """(n,) rows of the dataset that take part, ascending."""
    embeddings: npt.NDArray[np.float32]
    """(n, D) float32; memory-mapped when all rows take part."""
    truncated: npt.NDArray[np.bool_]
    """(n,) True where the encoder cut the row's text."""


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """A dataset and the rows of it that take part."""

    dataset: Dataset
    examples: list[Example]
    """All of the dataset's, by index."""
    index: npt.NDArray[np.int64]
    """(n,) rows that take part, ascending."""
    vectors: SelectedVectors | None
    """None when the run waited for no embeddings of the dataset."""

    @property
    def embeddings(self) -> npt.NDArray[np.float32] | None:
        """(n, D) float32; None without embeddings."""
        return None if self.vectors is None else self.vectors.embeddings

    @property
    def truncated(self) -> npt.NDArray[np.bool_] | None:
        """(n,) True where the encoder cut the row's text; None without embeddings."""
        return None if self.vectors is None else self.vectors.truncated


def selected_rows(context: RunContext, selection: Selection) -> SelectedRows:
    """Rows of a registered dataset, with the embeddings that the run waited for.

    Raises:
        NotFound: no such dataset.
        InvalidInput: a task that the dataset doesn't have.
    """
    dataset = context.read(lambda session: records.get_dataset(session, selection.dataset))
    examples = read_canonical(context.worker.store.local_path(dataset.digest))
    index = rows_of_tasks([example.task for example in examples], selection.tasks)
    artifact = _embeddings_artifact(context, dataset)
    vectors = None if artifact is None else _vectors(context, artifact, index)
    return SelectedRows(dataset, examples, index, vectors)


def selected_vectors(context: RunContext, selection: Selection) -> SelectedVectors:
    """The embeddings alone: a dataset without a task filter isn't read.

    Raises:
        NotFound: no such dataset.
        InvalidInput: a task that the dataset doesn't have.
        NearfirstError: the run waited for no embeddings of it.
    """
    dataset = context.read(lambda session: records.get_dataset(session, selection.dataset))
    artifact = _embeddings_artifact(context, dataset)
    if artifact is None:
        raise NearfirstError(f"{context.run_id} waited for no embeddings of {dataset.id}")
    index = np.arange(dataset.num_examples, dtype=np.int64)
    if selection.tasks is not None:
        rows = RowFile(context.worker.store.local_path(dataset.digest))
        index = rows_of_tasks(list(rows.tasks()), selection.tasks)
    return _vectors(context, artifact, index)


def _embeddings_artifact(context: RunContext, dataset: Dataset) -> str | None:
    """The artifact of the run that embedded these rows, of those that this one waited for."""
    embeddings = context.read(lambda session: dependencies(session, context.run_id, RunKind.EMBEDDING))
    return next((row.artifact for row in embeddings if row.spec["dataset_digest"] == dataset.digest), None)


def _vectors(context: RunContext, artifact: str, index: npt.NDArray[np.int64]) -> SelectedVectors:
    store = context.worker.store
    all_rows = np.load(store.artifact_file(artifact, "embeddings.npy"), mmap_mode="r")
    truncated = np.load(store.artifact_file(artifact, "truncated.npy"))
    is_whole = len(index) == len(all_rows)
    return SelectedVectors(artifact, index, all_rows if is_whole else all_rows[index], truncated[index])
