"""Files to read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WriteRows = Callable[..., Path]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write rows as JSONL and return the file."""

    def write(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def p3_rows() -> list[dict[str, str]]:
    """Four P3 rows of two tasks and two splits."""
    return [
        {
            "id": f"{task}/{index}",
            "task": task,
            "inputs_pretokenized": f"Question {index} of {task}?",
            "targets_pretokenized": f"Answer {index}: zoë",
            "split": split,
        }
        for index, (task, split) in enumerate([("a", "train"), ("a", "train"), ("b", "train"), ("c", "test")])
    ]
