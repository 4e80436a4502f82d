"""The generation worker's tasks: answers of a checkpoint, and the text metrics of these answers.

torch, transformers and ROUGE are imported by the first unit that needs them: an idle worker stays small.
"""

import tempfile
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nearfirst.contracts.base import Contract
from nearfirst.contracts.evaluations import GenerationUnit, TextMetricsUnit, UnitResult
from nearfirst.contracts.generation import GeneratedRow
from nearfirst.contracts.runs import RunKind
from nearfirst.data.test_rows import TestRow, read_test_rows
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.registry.dependencies import dependencies

if TYPE_CHECKING:
    from nearfirst_generation.generate import Generator
    from nearfirst_generation.metrics.measure import TextMeasurer

PREDICTIONS = "predictions.jsonl"
TEXT_METRICS = "text_metrics.jsonl"


def generate(context: RunContext) -> RunResult:
    """Write the answers of a checkpoint; the artifact has `predictions.jsonl`."""
    unit = GenerationUnit.model_validate(context.spec)
    test = _test_rows(context, unit)
    answers = resident_generator(context.worker.shutting_down).answer(unit, test, context.progress)
    result = UnitResult(details=answers.details)
    return RunResult(result.model_dump(mode="json"), _store(context, PREDICTIONS, answers.rows))


def measure_text(context: RunContext) -> RunResult:
    """Measure the answers that the run waited for; the artifact has `text_metrics.jsonl`."""
    unit = TextMetricsUnit.model_validate(context.spec)
    test = _test_rows(context, unit.generation)
    answers = _answers(context)
    measured = resident_measurer().measure(unit, test, answers, context.progress)
    result = UnitResult(metrics=measured.summaries, details=measured.details)
    return RunResult(result.model_dump(mode="json"), _store(context, TEXT_METRICS, measured.rows))


@lru_cache(maxsize=1)
def resident_generator(stopping: threading.Event) -> "Generator":
    """This process's engine, with whatever it has loaded last; `stopping`: this process's, set when it shall end."""
    from nearfirst_generation.engines import open_engine
    from nearfirst_generation.generate import Generator
    from nearfirst_generation.settings import get_generation_server_settings

    return Generator(open_engine(get_generation_server_settings(), stopping))


@lru_cache(maxsize=1)
def resident_measurer() -> "TextMeasurer":
    """This process's references, tokenized."""
    from nearfirst_generation.metrics.measure import TextMeasurer

    return TextMeasurer()


def _test_rows(context: RunContext, unit: GenerationUnit) -> list[TestRow]:
    return read_test_rows(context.worker.store.local_path(unit.test.dataset_digest), unit.test)


def _answers(context: RunContext) -> list[GeneratedRow]:
    """The rows of the generation unit that this run depends on."""
    (row,) = context.read(lambda session: dependencies(session, context.run_id, RunKind.GENERATION))
    assert row.artifact is not None, "a claimed run's dependencies have succeeded"
    path = context.worker.store.artifact_file(row.artifact, PREDICTIONS)
    with path.open(encoding="utf-8") as lines:
        return [GeneratedRow.model_validate_json(line) for line in lines]


def _store(context: RunContext, name: str, rows: Iterable[Contract]) -> str:
    """An artifact with one file, a row a line."""
    with tempfile.TemporaryDirectory(prefix="nearfirst-unit-") as folder:
        path = Path(folder) / name
        path.write_text("".join(f"{row.model_dump_json()}\n" for row in rows), encoding="utf-8")
        return context.worker.store.put_artifact({name: path})
