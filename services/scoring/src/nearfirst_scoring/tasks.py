"""The scoring worker's task: the rewards of a checkpoint's answers.

torch and transformers are imported by the first unit that loads a model: an idle worker stays small.
"""

import tempfile
from functools import lru_cache
from pathlib import Path

from nearfirst.contracts.evaluations import RewardRow, RewardUnit, UnitResult
from nearfirst.contracts.generation import GeneratedRow
from nearfirst.contracts.runs import RunKind
from nearfirst.data.test_rows import read_test_rows
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.registry.dependencies import dependencies
from nearfirst_scoring.answers import judge_answers
from nearfirst_scoring.resident import ResidentModel
from nearfirst_scoring.settings import get_scoring_settings

_PREDICTIONS, _REWARDS = "predictions.jsonl", "rewards.jsonl"


@lru_cache(maxsize=1)
def resident_model() -> ResidentModel:
    """This process's reward model, loaded by the first unit."""
    return ResidentModel(get_scoring_settings())


def score(context: RunContext) -> RunResult:
    """Judge the answers that the run waited for; the artifact has `rewards.jsonl`."""
    unit = RewardUnit.model_validate(context.spec)
    rows = unit.generation.test
    test = read_test_rows(context.worker.store.local_path(rows.dataset_digest), rows)
    answers = _answers(context)
    scorer = resident_model().scorer(unit)
    judged = judge_answers(test, answers, scorer, progress=context.progress)
    details = scorer.info().model_dump(mode="json") | {"num_truncated": judged.num_truncated}
    result = UnitResult(metrics=[judged.summary], details=details)
    return RunResult(result.model_dump(mode="json"), _store(context, judged.rows))


def _answers(context: RunContext) -> list[GeneratedRow]:
    """The rows of the generation unit that this run depends on."""
    (row,) = context.read(lambda session: dependencies(session, context.run_id, RunKind.GENERATION))
    assert row.artifact is not None, "a claimed run's dependencies have succeeded"
    path = context.worker.store.artifact_file(row.artifact, _PREDICTIONS)
    with path.open(encoding="utf-8") as lines:
        return [GeneratedRow.model_validate_json(line) for line in lines]


def _store(context: RunContext, rows: list[RewardRow]) -> str:
    """An artifact with one file, a row a line."""
    with tempfile.TemporaryDirectory(prefix="nearfirst-rewards-") as folder:
        path = Path(folder) / _REWARDS
        path.write_text("".join(f"{row.model_dump_json()}\n" for row in rows), encoding="utf-8")
        return context.worker.store.put_artifact({_REWARDS: path})
