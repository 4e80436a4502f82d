"""Reading registered datasets: a page of rows, rows by number or id, the sizes of tasks."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import IO

from sqlalchemy.orm import Session

from nearfirst.contracts.datasets import Dataset, ExampleRow, TaskSize
from nearfirst.contracts.problems import CorruptArtifact
from nearfirst.data.example import Example
from nearfirst.data.row_file import RowFile
from nearfirst.registry import records
from nearfirst.store.artifacts import Store


def examples_page(
    dataset: Dataset, store: Store, after: int, limit: int, task: str | None = None
) -> tuple[list[ExampleRow], int | None]:
    """Rows of a dataset from row `after` on, and where the next page starts.

    Args:
        dataset: registered.
        store: has its canonical rows.
        after: first row that may be on the page.
        limit: most rows.
        task: only rows of this task; None: of all.
    """
    with store.local_path(dataset.digest, verify=False).open("rb") as lines:
        rows = list(itertools.islice(_rows_from(lines, after, task), limit + 1))
    return rows[:limit], rows[limit].index if len(rows) > limit else None


def _rows_from(lines: IO[bytes], first: int, task: str | None) -> Iterator[ExampleRow]:
    # Rows are canonical JSON: a line without these bytes is of another task, and needn't be parsed.
    mark = b"" if task is None else f'"task":{json.dumps(task, ensure_ascii=False)}'.encode()
    for index, line in enumerate(itertools.islice(lines, first, None), start=first):
        if mark in line:
            fields = json.loads(line)
            if task is None or fields["task"] == task:
                yield ExampleRow(index=index, **fields)


def task_sizes(session: Session, dataset: Dataset, store: Store) -> list[TaskSize]:
    """The tasks of a dataset with their rows: the largest first, then by name."""
    known = records.task_sizes(session, dataset.id)
    sizes = _counted(store.local_path(dataset.digest, verify=False)) if known is None else known
    return [
        TaskSize(task=task, num_rows=num) for task, num in sorted(sizes.items(), key=lambda each: (-each[1], each[0]))
    ]


@lru_cache(maxsize=4)
def _counted(path: Path) -> Mapping[str, int]:
    """Of a dataset with so many tasks that the registry doesn't keep their sizes."""
    return Counter(open_rows(path).tasks())


@lru_cache(maxsize=8)
def open_rows(path: Path) -> RowFile:
    """The canonical rows of a dataset, kept open: one page after the other asks for them."""
    return RowFile(path)


@lru_cache(maxsize=8)
def _index_of_ids(path: Path) -> Mapping[str, int]:
    return {example_id: index for index, example_id in enumerate(open_rows(path).ids())}


def example_at(path: Path, index: int) -> ExampleRow:
    """A row by its number, from 0."""
    return _shown(open_rows(path)[index], index)


def example_of(path: Path, example_id: str) -> ExampleRow:
    """A row by its id.

    Raises:
        CorruptArtifact: the file has no such row, though an order names it.
    """
    index = _index_of_ids(path).get(example_id)
    if index is None:
        raise CorruptArtifact(f"the order names the test row {example_id!r}, which its dataset doesn't have")
    return example_at(path, index)


def _shown(example: Example, index: int) -> ExampleRow:
    return ExampleRow.model_validate({"index": index, **asdict(example)})
