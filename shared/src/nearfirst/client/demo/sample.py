"""A small, seeded sample of a dataset: training rows, and rows of tasks that training does not see."""

import hashlib
from bisect import bisect_left
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
    """Most rows of a training task; more when small or few tasks give fewer than `train_tasks` times this in total."""
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
    num_train = sampling.train_tasks * sampling.rows_per_task
    return Sample(
        train=_rows_of_each_task(train, sampling.rows_per_task, num_train, sampling.seed),
        test=_rows_of_each_task(test, sampling.test_rows_per_task, MIN_TEST_ROWS, sampling.seed),
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


def _rows_of_each_task(examples: Iterable[Example], num_rows: int, total: int, seed: int) -> tuple[Example, ...]:
    """At most `num_rows` of each task, drawn, in dataset order; more where that gives fewer than `total`."""
    examples = list(examples)
    ids_of: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        ids_of[example.task].add(example.id)
    quota = _quota([len(ids) for ids in ids_of.values()], num_rows, total)
    chosen = {task: _draw(ids, quota, seed) for task, ids in ids_of.items()}
    return tuple(example for example in examples if example.id in chosen[example.task])


def _quota(sizes: Sequence[int], at_least: int, total: int) -> int:
    """The smallest quota from `at_least` up with which tasks of these sizes give `total` rows, or all they have.

    >>> _quota([2, 50, 50], at_least=10, total=62)
    30
    """
    quotas = range(at_least, max(at_least, *sizes) + 1)
    reached = bisect_left(quotas, total, key=lambda quota: sum(min(size, quota) for size in sizes))
    return quotas[min(reached, len(quotas) - 1)]


def _draw(names: Iterable[str], count: int, seed: int) -> frozenset[str]:
    """The `count` names that come first by sha256 of the seed and the name."""
    return frozenset(sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())[:count])


def _num_chars(example: Example) -> int:
    return sum(len(turn.content) for turn in example.turns)
