"""The training worker's task: write the job file, run the training process, pass on what it says.

Training is a process of its own (CUDA doesn't survive a fork, and a cancelled job must free its GPU). It writes one
JSON object a line on its standard output; nothing else connects the two.
"""

import sys
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.progress import Cancelled, Fenced, Interrupted
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow, TrainSettings, TrainSpec
from nearfirst.queue.execution import RunContext, RunResult
from nearfirst.registry import records, runs
from nearfirst_training.job import TrainingJob
from nearfirst_training.process import TrainingProcess

_POLL_S = 0.2
_INTERRUPTED_EXIT = 75
PROCESS_DIED = "training_process_died"


class TrainingFailed(NearfirstError):
    """The training process ended with an error, whose code and detail this carries."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]  # the process's own code, not one of this class
        self.title = "Training failed"  # type: ignore[misc]
        self.status = 500 if code in (NearfirstError.code, PROCESS_DIED) else 422  # type: ignore[misc]


def train(context: RunContext) -> RunResult:
    """Train as the run's spec says; the artifact has `receipt.json`, `consumed.jsonl` and `order.jsonl`."""
    out = context.worker.settings.runs_dir / context.run_id
    out.mkdir(parents=True, exist_ok=True)
    job = _job(context, out)
    job_file = out / "launch.json"
    job_file.write_text(job.model_dump_json(indent=2))
    with TrainingProcess(
        [sys.executable, "-m", "nearfirst_training.launch", str(job_file)], out / "stderr.log"
    ) as process:
        result = _follow(context, process, job.settings)
    names = ("receipt.json", "consumed.jsonl", "order.jsonl")
    artifact = context.worker.store.put_artifact({name: out / name for name in names})
    return RunResult(result, artifact)


def _job(context: RunContext, out: Path) -> TrainingJob:
    """The job file: files of the store in place of ids."""
    spec = TrainSpec.model_validate(context.spec)
    store = context.worker.store
    train_id, order, digest = context.read(lambda session: _source(session, spec, context))
    dataset = context.read(lambda session: records.get_dataset(session, train_id))
    test: dict[str, Any] = {}
    if spec.evaluate is not None:
        selection = spec.evaluate.test
        test_set = context.read(lambda session: records.get_dataset(session, selection.dataset))
        test = {
            "test_examples": str(store.local_path(test_set.digest)),
            "test_format": "examples",
            "test_tasks": selection.tasks,
            "evaluate_every": spec.evaluate.every,
        }
    settings = {field: getattr(spec, field) for field in TrainSettings.model_fields}
    return TrainingJob(
        settings=TrainSettings(**settings),
        train_examples=str(store.local_path(dataset.digest)),
        train_format="examples",
        dataset_digest=dataset.digest,
        order=order,
        arrangement_digest=digest,
        out=str(out),
        resume=True,
        **test,
    )


def _source(session: Session, spec: TrainSpec, context: RunContext) -> tuple[str, str | None, str | None]:
    """Dataset id, order file and order digest of what the spec trains on."""
    if spec.arrangement is None:
        assert spec.dataset is not None
        return spec.dataset, None, None
    row = runs.get(session, spec.arrangement, RunKind.ARRANGEMENT)
    assert row.artifact is not None
    assert row.result is not None
    # Not verified by the store: the training process checks every row, and so can name the step that was changed.
    order = context.worker.store.artifact_file(row.artifact, "order.jsonl", verify=False)
    return row.spec["train"]["dataset"], str(order), row.result["digest"]


def _follow(context: RunContext, process: TrainingProcess, settings: TrainSettings) -> dict[str, Any]:
    """Pass on what the process says until it ends; returns its result.

    Raises:
        Stopped: cancelled, fenced or interrupted; the process has ended.
        TrainingFailed: it ended with an error.
    """
    try:
        while (messages := process.messages(wait_s=_POLL_S)) is not None:
            context.check()
            _pass_on(context, messages, settings)
    except Interrupted:
        process.interrupt()  # it saves its state, so that the next attempt goes on from there
        raise  # what it said last is in its folder, and the next attempt says it again
    except (Cancelled, Fenced):
        process.kill()
        raise
    if process.result is not None:
        return process.result
    if process.exit_code == _INTERRUPTED_EXIT:
        raise Interrupted("the training process was told to end")
    error = process.error or {
        "code": PROCESS_DIED,
        "detail": f"the training process ended with code {process.exit_code}; its last words: {process.last_words()}",
    }
    raise TrainingFailed(error["code"], error["detail"])


def _pass_on(context: RunContext, messages: list[dict[str, Any]], settings: TrainSettings) -> None:
    for message in messages:
        if message["type"] == "kept":
            context.forget_after(message["step"])
    metrics = [MetricRow(step=m["step"], name=m["name"], value=m["value"]) for m in messages if m["type"] == "metric"]
    context.metrics(metrics)
    context.log([m["message"] for m in messages if m["type"] == "log"])
    for message in messages:
        if message["type"] == "checkpoint":
            checkpoint = Checkpoint.model_validate(message["checkpoint"])
            context.checkpoint(checkpoint, _gone(context, checkpoint, settings))
    for message in [m for m in messages if m["type"] == "progress"][-1:]:
        context.progress(message["done"], message["total"], message["unit"])


def _gone(context: RunContext, new: Checkpoint, settings: TrainSettings) -> list[int]:
    """Steps whose state checkpoints the process has deleted, now that `new` is there."""
    if new.tier is not CheckpointTier.STATE:
        return []
    known = context.read(lambda session: records.list_checkpoints(session, context.run_id))
    steps = sorted({c.step for c in known if c.tier is CheckpointTier.STATE} | {new.step})
    return steps[: -settings.checkpoint.keep_state]
