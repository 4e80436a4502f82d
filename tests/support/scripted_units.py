"""Workers of an evaluation's units with a few lines of arithmetic in the place of models: all of the queue is real.

A unit reads its checkpoint's folder and its test rows, takes SCRIPT_ROW_S seconds for each row, and writes the file and
the result that the contract promises. The file `number` in a checkpoint's folder stands for its weights.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.evaluations import (
    UNIT_OF_KIND,
    GenerationUnit,
    LossRow,
    LossUnit,
    MetricName,
    MetricSummary,
    RewardRow,
    TextMetricsRow,
    Unit,
    UnitResult,
    checkpoint_of,
)
from nearfirst.contracts.generation import GeneratedRow
from nearfirst.contracts.problems import InvalidModel
from nearfirst.contracts.queues import Queue, TaskName
from nearfirst.contracts.runs import RunKind
from nearfirst.data.test_rows import TestRow, read_test_rows
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.queue.process import make_worker_app
from nearfirst.settings import get_settings

ROW_S = float(os.environ.get("SCRIPT_ROW_S", "0.01"))

Row = LossRow | GeneratedRow | TextMetricsRow | RewardRow
Measure = Callable[[TestRow, float, Unit], Row]


def number_of(unit: Unit) -> float:
    """What stands for the checkpoint's weights."""
    checkpoint = checkpoint_of(unit)
    folder = open_checkpoint(checkpoint.path)
    if folder.digest != checkpoint.digest:
        raise InvalidModel(f"checkpoint {folder.path} has the digest {folder.digest}, wanted {checkpoint.digest}")
    return float((folder.path / "number").read_text())


def loss_of(row: TestRow, number: float, _unit: Unit) -> LossRow:
    return LossRow(
        index=row.index, id=row.example.id, task=row.example.task, loss=number + row.index / 100, num_scored=3
    )


def answer_of(row: TestRow, number: float, unit: Unit) -> GeneratedRow:
    checkpoint = checkpoint_of(unit)
    return GeneratedRow(
        index=row.index,
        id=row.example.id,
        task=row.example.task,
        weight_version=f"step-{checkpoint.step}",
        weight_digest="sha256:" + "0" * 64,
        completion=f"{number} says row {row.index}",
        num_tokens=4,
        finish_reason="stop",
    )


def text_of(row: TestRow, number: float, _unit: Unit) -> TextMetricsRow:
    score = number * 10 + row.index
    return TextMetricsRow(
        index=row.index, id=row.example.id, task=row.example.task, rouge1=score, rougeL=score / 2, exact_match=0.0
    )


def reward_of(row: TestRow, number: float, _unit: Unit) -> RewardRow:
    return RewardRow(index=row.index, id=row.example.id, task=row.example.task, reward=-number, is_truncated=False)


def summary(metric: MetricName, rows: Sequence[Row]) -> MetricSummary:
    values = [(row.task, getattr(row, metric)) for row in rows]
    by_task = {task: [value for of, value in values if of == task] for task, _ in values}
    return MetricSummary(
        metric=metric,
        value=sum(value for _, value in values) / len(values),
        by_task={task: sum(of_task) / len(of_task) for task, of_task in by_task.items()},
        num_examples=len(values),
    )


def work_of(
    kind: RunKind, name: str, measure: Measure, metrics: Sequence[MetricName]
) -> Callable[[RunContext], RunResult]:
    def work(context: RunContext) -> RunResult:
        unit = UNIT_OF_KIND[kind].model_validate(context.spec)
        generation = unit if isinstance(unit, LossUnit | GenerationUnit) else unit.generation
        number = number_of(unit)
        store = context.worker.store
        test_rows = read_test_rows(store.local_path(generation.test.dataset_digest), generation.test)
        rows: list[Row] = []
        for done, row in enumerate(test_rows, start=1):
            time.sleep(ROW_S)
            rows.append(measure(row, number, unit))
            context.progress(done, len(test_rows), "examples")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
            artifact = store.put_artifact({name: path})
        result = UnitResult(metrics=[summary(metric, rows) for metric in metrics], details={"engine": "scripted"})
        return RunResult(result.model_dump(mode="json"), artifact)

    return work


app = make_worker_app(
    get_settings(),
    [Queue.LOSS, Queue.GENERATION, Queue.METRICS, Queue.SCORING],
    {
        TaskName.MEASURE_LOSS: work_of(RunKind.LOSS, "losses.jsonl", loss_of, [MetricName.LOSS]),
        TaskName.GENERATE: work_of(RunKind.GENERATION, "predictions.jsonl", answer_of, []),
        TaskName.MEASURE_TEXT: work_of(
            RunKind.TEXT_METRICS,
            "text_metrics.jsonl",
            text_of,
            [MetricName.ROUGE1, MetricName.ROUGEL, MetricName.EXACT_MATCH],
        ),
        TaskName.SCORE: work_of(RunKind.REWARD, "rewards.jsonl", reward_of, [MetricName.REWARD]),
    },
)
