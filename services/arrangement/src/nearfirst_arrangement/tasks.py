"""The arrangement worker's task: datasets and their embeddings to an order."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from nearfirst.contracts.arrangements import ArrangementRules, ArrangementSpec, Selection
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.problems import InvalidInput, NearfirstError
from nearfirst.contracts.runs import RunKind
from nearfirst.data.dataset import read_canonical
from nearfirst.data.example import Example
from nearfirst.data.order import OrderTable, order_table, write_order
from nearfirst.queue.execution import RunContext, RunResult
from nearfirst.registry import records
from nearfirst.registry.models import DependencyRow, RunRow
from nearfirst_arrangement.arrangements.service import NEEDS_EMBEDDINGS
from nearfirst_arrangement.methods import arrange


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """A dataset and the rows of it that take part."""

    dataset: Dataset
    examples: list[Example]
    """All of the dataset's, by index."""
    index: npt.NDArray[np.int64]
    """(n,) rows that take part, ascending."""
    embeddings: npt.NDArray[np.float32] | None
    """(n, D) float32; None for methods that need none."""


def arrange_datasets(context: RunContext) -> RunResult:
    """Arrange as the run's spec says; the artifact has `order.jsonl` and `order.parquet`."""
    spec = ArrangementSpec.model_validate(context.spec)
    train = _selected_rows(context, spec, spec.train)
    test = _selected_rows(context, spec, spec.test)
    rules = ArrangementRules(**{field: getattr(spec, field) for field in ArrangementRules.model_fields})
    arranged = arrange(
        rules,
        train.embeddings,
        test.embeddings,
        len(train.index),
        memory_budget_bytes=context.worker.settings.memory_budget_bytes,
        progress=context.progress,
    )
    table = order_table(
        train.dataset.digest,
        train.index[arranged.index],
        ids=[example.id for example in train.examples],
        tasks=[example.task for example in train.examples],
        round=arranged.round,
        score=arranged.score,
        nearest_test=None if arranged.nearest_test is None else test.index[arranged.nearest_test],
        test_ids=[example.id for example in test.examples],
        nearest_similarity=arranged.nearest_similarity,
    )
    result = {
        "digest": table.digest,
        "num_rows": len(table),
        "num_rounds": arranged.num_rounds,
        "report": {"num_train": len(train.index), "num_test": len(test.index), **arranged.report},
    }
    return RunResult(result, _store(context, table))


def _store(context: RunContext, table: OrderTable) -> str:
    with tempfile.TemporaryDirectory(prefix="nearfirst-order-") as folder:
        files = {name: Path(folder) / name for name in ("order.jsonl", "order.parquet")}
        for path in files.values():
            write_order(path, table)
        return context.worker.store.put_artifact(files)


def _selected_rows(context: RunContext, spec: ArrangementSpec, selection: Selection) -> SelectedRows:
    dataset = context.read(lambda session: records.get_dataset(session, selection.dataset))
    examples = read_canonical(context.worker.store.local_path(dataset.digest))
    index = _rows_of_tasks(examples, selection.tasks)
    embeddings = None
    if spec.method in NEEDS_EMBEDDINGS:
        all_rows = np.load(_embeddings_file(context, dataset), mmap_mode="r")
        embeddings = all_rows if len(index) == len(examples) else all_rows[index]
    return SelectedRows(dataset, examples, index, embeddings)


def _rows_of_tasks(examples: list[Example], tasks: list[str] | None) -> npt.NDArray[np.int64]:
    """Rows of the named tasks, ascending; all rows without names.

    Raises:
        InvalidInput: a task that the dataset doesn't have.
    """
    if tasks is None:
        return np.arange(len(examples), dtype=np.int64)
    known = {example.task for example in examples}
    unknown = sorted(set(tasks) - known)
    if unknown:
        raise InvalidInput(
            f"tasks: the dataset has no task {unknown[0]!r}; it has {len(known)}, such as {min(known)!r}"
        )
    wanted = set(tasks)
    return np.array([i for i, example in enumerate(examples) if example.task in wanted], dtype=np.int64)


def _embeddings_file(context: RunContext, dataset: Dataset) -> Path:
    """The stored embeddings of a dataset, from the runs that this one waited for."""
    query = (
        select(RunRow)
        .join(DependencyRow, DependencyRow.depends_on == RunRow.id)
        .where(DependencyRow.run_id == context.run_id, RunRow.kind == RunKind.EMBEDDING)
    )
    for row in context.read(lambda session: session.execute(query).scalars().all()):
        if row.artifact is not None and row.spec["dataset_digest"] == dataset.digest:
            return context.worker.store.artifact_file(row.artifact, "embeddings.npy")
    raise NearfirstError(f"{context.run_id} waited for no embeddings of {dataset.id}")
