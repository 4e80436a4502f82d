"""A small, seeded sample of a dataset: training rows, and rows of tasks that training does not see."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from nearfirst.contracts.problems import InvalidInput
from nearfirst.data.example import Example

HOLD_OUT = 0.2
"""Share of the tasks (or rows, of a dataset with one task) held out of a dataset that names no splits."""
MIN_TEST_ROWS = 100
"""Test rows to aim for when the test tasks are few."""


@dataclass(frozen=True)
class Sampling:
    """How much of a dataset is taken, and how it is drawn."""

    train_tasks: int
    """Most training tasks."""
    rows_per_task: int
    """Most rows of a training task; more when there are fewer than `train_tasks` tasks, to the same number in total."""
    test_rows_per_task: int
    """Most rows of a test task; more when that gives fewer than `MIN_TEST_ROWS` in total."""
    max_chars: int
    """Longest example, in characters over all its turns: a tiny model's context would cut the answer off."""
    seed: int


@dataclass(frozen=True)
class Sample:
    """Rows for training and for testing, each in the dataset's order."""

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    split_by: Literal["field", "tasks", "rows"]
    """Where train and test part: the rows' own `split` field, held-out tasks, or held-out rows of a single task."""


def draw_sample(examples: Sequence[Example], sampling: Sampling) -> Sample:
    """A sample whose every choice depends on the seed and the task's name or row's id alone.

    Tasks and rows are ranked by sha256(seed, name), so a larger sample contains a smaller one.

    Raises:
        InvalidInput: nothing is left for training or for testing.
    """
    short = [example for example in examples if _num_chars(example) <= sampling.max_chars]
    train, test, split_by = _split(short, sampling.seed)
    for name, rows in (("train", train), ("test", test)):
        if not rows:
            raise InvalidInput(
                f"data: no {name} rows among {len(examples)} examples, of which {len(short)} have at most "
                f"{sampling.max_chars} characters; wanted a `split` field with train and test, or none"
            )
    chosen_tasks = _draw({example.task for example in train}, sampling.train_tasks, sampling.seed)
    train = [example for example in train if example.task in chosen_tasks]
    train_rows = max(sampling.rows_per_task, ceil(sampling.train_tasks * sampling.rows_per_task / len(chosen_tasks)))
    test_tasks = {example.task for example in test}
    test_rows = max(sampling.test_rows_per_task, ceil(MIN_TEST_ROWS / len(test_tasks)))
    return Sample(
        train=_rows_of_each_task(train, train_rows, sampling.seed),
        test=_rows_of_each_task(test, test_rows, sampling.seed),
        split_by=split_by,
    )


def _split(
    examples: Iterable[Example], seed: int
) -> tuple[list[Example], list[Example], Literal["field", "tasks", "rows"]]:
    examples = list(examples)
    if any("split" in example.meta for example in examples):
        train = [example for example in examples if example.meta.get("split") == "train"]
        return train, [example for example in examples if example.meta.get("split") == "test"], "field"
    tasks = {example.task for example in examples}
    if len(tasks) > 1:
        held_out = _draw(tasks, ceil(HOLD_OUT * len(tasks)), seed)
        return (
            [example for example in examples if example.task not in held_out],
            [example for example in examples if example.task in held_out],
            "tasks",
        )
    held_out = _draw({example.id for example in examples}, ceil(HOLD_OUT * len(examples)), seed)
    return (
        [example for example in examples if example.id not in held_out],
        [example for example in examples if example.id in held_out],
        "rows",
    )


def _rows_of_each_task(examples: Iterable[Example], num_rows: int, seed: int) -> tuple[Example, ...]:
    """At most `num_rows` of each task, drawn, in dataset order."""
    examples = list(examples)
    ids_of: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        ids_of[example.task].add(example.id)
    chosen = {task: _draw(ids, num_rows, seed) for task, ids in ids_of.items()}
    return tuple(example for example in examples if example.id in chosen[example.task])


def _draw(names: Iterable[str], count: int, seed: int) -> frozenset[str]:
    """The `count` names that come first by sha256 of the seed and the name."""
    return frozenset(sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())[:count])


def _num_chars(example: Example) -> int:
    return sum(len(turn.content) for turn in example.turns)
