"""What rules ask of the rows that they are for: refused at POST /arrangements as far as the registry knows the rows.

The worker and `nearfirst arrange` check the same, by the same functions, on the rows themselves.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nearfirst.contracts.arrangements import (
    ArrangementRules,
    ArrangementSpec,
    Fidelity,
    Granularity,
    Method,
    SelectHow,
    Selection,
    SelectPerTask,
)
from nearfirst.contracts.problems import InvalidInput

MAX_PAIRS = 2**26
"""Of optimal transport, train rows times test rows: 50,177 x 1,000 of P3 fit. About half a minute, and minutes on a
slow processor."""

BYTES_PER_PAIR = 42
"""Measured with POT 0.9.7: the cost matrix and the solver's arcs, flows and plan (41 bytes)."""


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What is known of rows without reading them."""

    num_rows: int | None
    """None: unknown."""
    task_sizes: Mapping[str, int] | None
    """Task -> its rows, `""` for rows without one; None: unknown."""

    def of(self, selection: Selection) -> "KnownRows":
        """The rows of the selected tasks.

        Raises:
            InvalidInput: a task that no row has.
        """
        if selection.tasks is None:
            return self
        if self.task_sizes is None:
            return KnownRows(None, None)
        check_tasks_are_known(selection.tasks, self.task_sizes)
        sizes = {task: self.task_sizes[task] for task in selection.tasks}
        return KnownRows(sum(sizes.values()), sizes)

    def per_task(self, kept: SelectPerTask | None, fidelity: Fidelity) -> int | None:
        """How many rows are left when each task keeps so many; None when nobody knows."""
        if kept is None:
            return self.num_rows
        if self.task_sizes is None:
            return None
        return sum(num_kept(size, kept, fidelity) for size in self.task_sizes.values())

    @property
    def name_no_task(self) -> bool:
        """Whether it is known that no row has a task."""
        return self.task_sizes is not None and not any(self.task_sizes)


def goes_by_task(spec: ArrangementSpec) -> bool:
    """Whether anything depends on the rows' tasks; else `check_feasible` needs no `task_sizes`."""
    named = (spec.train.tasks, spec.test.tasks, spec.test_per_task, _what_asks_for_tasks(spec))
    return any(asking is not None for asking in named)


def check_feasible(spec: ArrangementSpec, train: KnownRows, test: KnownRows) -> None:
    """Refuse an arrangement that its worker would refuse for the number of rows or their tasks.

    Args:
        spec: what is asked for; with a representation where it has embeddings.
        train: the training dataset, all of it.
        test: the test dataset.

    Raises:
        InvalidInput: as the worker's run would fail with. What isn't known is left to the worker.
    """
    train, test = train.of(spec.train), test.of(spec.test)
    if train.name_no_task:
        refuse_missing_train_tasks(spec)
    if test.name_no_task and spec.representation is not None:
        refuse_missing_test_tasks(spec)
    num_pool = train.per_task(spec.select, spec.fidelity)
    first = None if spec.test_per_task is None else SelectPerTask(per_task=spec.test_per_task, how=SelectHow.FIRST)
    num_test = test.per_task(first, spec.fidelity)
    if num_pool is not None:
        check_limit(spec.limit, num_pool)
    if spec.method is Method.OT and num_pool is not None and num_test is not None:
        check_transport_size(num_pool, num_test)


def num_kept(size: int, select: SelectPerTask, fidelity: Fidelity) -> int:
    """How many rows of a task of `size` rows `select` keeps: `per_task` at most, but for the paper's `uniform`."""
    if size <= select.per_task:
        return size
    if select.how is SelectHow.UNIFORM and fidelity is Fidelity.PAPER:
        return len(range(0, size, size // select.per_task))
    return select.per_task


def check_limit(limit: int | None, num_pool: int) -> None:
    """Refuse a limit above the number of rows.

    Raises:
        InvalidInput: with both numbers.
    """
    if limit is not None and limit > num_pool:
        raise InvalidInput(f"limit: got {limit}, wanted at most {num_pool}, the rows in the pool")


def check_transport_size(num_train: int, num_test: int) -> None:
    """Refuse more pairs than an exact plan can be made for.

    Raises:
        InvalidInput: with both numbers and the memory that they would take.
    """
    num_pairs = num_train * num_test
    if num_pairs > MAX_PAIRS:
        raise InvalidInput(
            f"method ot: got {num_train} train x {num_test} test rows, {num_pairs} pairs, which would take "
            f"{num_pairs * BYTES_PER_PAIR} bytes of memory; wanted at most {MAX_PAIRS} pairs "
            f"({MAX_PAIRS * BYTES_PER_PAIR} bytes): arrange fewer rows, by select and test_per_task or by a task filter"
        )


def check_tasks_are_known(tasks: Collection[str], known: Collection[str], *, name: str = "tasks") -> None:
    """Refuse a task that a dataset doesn't have.

    Raises:
        InvalidInput: naming the parameter `name` and the task.
    """
    unknown = sorted(set(tasks) - set(known))
    if unknown:
        raise InvalidInput(
            f"{name}: the dataset has no task {unknown[0]!r}; it has {len(known)}, such as {min(known)!r}"
        )


def refuse_missing_train_tasks(rules: ArrangementRules) -> None:
    """Refuse rules that go by the tasks of train rows which name none.

    Raises:
        InvalidInput: naming the rule.
    """
    if (asking := _what_asks_for_tasks(rules)) is not None:
        raise InvalidInput(f"train_tasks: got none; {asking} wants the task of each train row, and the rows name none")


def refuse_missing_test_tasks(rules: ArrangementRules) -> None:
    """Refuse rules that go by the tasks of test rows which name none.

    Raises:
        InvalidInput: naming the rule.
    """
    if rules.test_per_task is not None:
        raise InvalidInput(
            f"test_tasks: got none; test_per_task {rules.test_per_task} wants the task of each test row, and the rows "
            "name none"
        )


def _what_asks_for_tasks(rules: ArrangementRules) -> str | None:
    """The rule that goes by the tasks of train rows."""
    if rules.select is not None:
        return f"select {rules.select.per_task} {rules.select.how} per task"
    if rules.granularity is Granularity.COARSE:
        return "granularity coarse"
    if rules.method in (Method.ROUND_ROBIN, Method.CLUSTER):
        return f"method {rules.method}"
    return None
