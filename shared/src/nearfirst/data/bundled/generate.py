"""Makes the bundled data: `python -m nearfirst.data.bundled.generate`.

It uses the standard library only, reads nothing, and makes the same bytes always. Rows are P3-like: `id`, `task`,
`inputs_pretokenized`, `targets_pretokenized`, `split`, and `references` where a prompt has more than one right answer.
"""

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

from nearfirst.data.bundled import bundled_path
from nearfirst.data.bundled.domains import TASKS
from nearfirst.data.bundled.task import Draw, Row, Task

ROWS_PER_TASK = {"train": 40, "test": 24}
REPEATS_PER_TASK = 2
"""The last rows of some training tasks are exact copies of their first ones under other ids, so that ties are real."""
REPEAT_EVERY = 3
"""Every third task of the list repeats rows, where it is a training task."""

_SEED = "nearfirst-bundled-1"
_MAX_DRAWS_PER_ROW = 1000


def _distinct_rows(task: Task, count: int) -> list[Row]:
    draw = Draw(f"{_SEED}/{task.name}")
    rows: dict[str, Row] = {}
    for _ in range(_MAX_DRAWS_PER_ROW * count):
        row = task.write(draw)
        rows.setdefault(row.prompt, row)
        if len(rows) == count:
            return list(rows.values())
    raise ValueError(f"task {task.name} has only {len(rows)} different prompts; wanted {count}")


def _task_rows(task: Task, *, has_repeats: bool) -> list[Row]:
    num_repeats = REPEATS_PER_TASK if has_repeats else 0
    rows = _distinct_rows(task, ROWS_PER_TASK[task.split] - num_repeats)
    return rows + rows[:num_repeats]


def generate() -> Iterator[dict[str, Any]]:
    """All rows, task after task."""
    for number, task in enumerate(TASKS):
        has_repeats = task.split == "train" and number % REPEAT_EVERY == 0
        for index, row in enumerate(_task_rows(task, has_repeats=has_repeats)):
            fields: dict[str, Any] = {
                "id": f"{task.name}/{index}",
                "task": task.name,
                "inputs_pretokenized": row.prompt,
                "targets_pretokenized": row.answers[0],
                "split": task.split,
            }
            if len(row.answers) > 1:
                fields["references"] = list(row.answers)
            yield fields


def generate_jsonl() -> bytes:
    """The file's content before compression."""
    return "".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in generate()).encode()


def main() -> None:
    """Write the file; gzip carries no time, so the same content gives the same bytes with the same zlib."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(generate_jsonl())
    bundled_path().write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
