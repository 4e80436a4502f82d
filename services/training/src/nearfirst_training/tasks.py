"""The training worker's task: write the job file, run the training process, pass on what it says.

Training is a process of its own (CUDA doesn't survive a fork, and a cancelled job must free its GPUs). It writes one
JSON object a line on its standard output; nothing else connects the two.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nearfirst.contracts.nodes import gpus_of_node
from nearfirst.contracts.problems import Crashed
from nearfirst.contracts.progress import Interrupted
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.telemetry.counters import STEP_SECONDS, TOKENS_PER_SECOND
from nearfirst_training.job_of_run import JOB_FILE, environment_of, job_of_run, launch_command, write_job
from nearfirst_training.leader import followed, split
from nearfirst_training.outcome import outcome_of
from nearfirst_training.process import TrainingProcess
from nearfirst_training.trackers.tracking import tracking

_POLL_S = 0.2

OnMetrics = Callable[[Sequence[MetricRow]], None]


class TrainingHung(Crashed):
    """The training process made no progress for too long and was killed."""

    code = "training_hung"
    title = "Training hung"


def train(context: RunContext) -> RunResult:
    """Train as the run's spec says; the artifact has `receipt.json`, `consumed.jsonl` and `order.jsonl`."""
    out = context.worker.settings.runs_dir / context.run_id
    out.mkdir(parents=True, exist_ok=True)
    job, parts = split(job_of_run(context.spec, context.read, context.worker.store, out), context)
    job_file = write_job(job, out / JOB_FILE)
    with (
        tracking(context.worker.settings.trackers, context.run_id, context.spec, out) as tracked,
        followed(context, parts, job_file) as check_followers,
    ):
        command = launch_command(job_file)
        result = run_process(context, command, out, on_metrics=tracked.metrics, check_others=check_followers)
    names = ("receipt.json", "consumed.jsonl", "order.jsonl")
    artifact = context.worker.store.put_artifact({name: out / name for name in names})
    return RunResult(result, artifact)


def run_process(
    context: RunContext,
    command: Sequence[str],
    out: Path,
    *,
    on_metrics: OnMetrics | None = None,
    check_others: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run a program that speaks the protocol of `launch`, on the run's own GPUs; returns its result.

    Whatever comes of it, every process that it started is gone on return. `on_metrics` is told of measurements too;
    `check_others` is called often and may raise, which ends the program.

    Raises:
        Stopped: cancelled, fenced or interrupted.
        TrainingFailed: it ended with an error of its own.
        Crashed: it hung, or ended without a word.
    """
    settings, gpus = context.worker.settings, context.gpus
    if settings.nodes > 1:
        gpus = gpus_of_node(gpus, settings.node_index)
    environment, grace_s = environment_of(settings, gpus), settings.save_grace_s
    with TrainingProcess(command, out / "stderr.log", environment=environment, grace_s=grace_s) as process:
        _follow(context, process, on_metrics, check_others)
    return outcome_of(process)


def _follow(
    context: RunContext, process: TrainingProcess, on_metrics: OnMetrics | None, check_others: Callable[[], None]
) -> None:
    """Pass on what the process says until it ends.

    Raises:
        Stopped: cancelled, fenced or interrupted.
        TrainingHung: it made no progress for too long.
        NearfirstError: what `check_others` raised.
    """
    listener = Listener(context, on_metrics)
    try:
        while (messages := process.messages(wait_s=_POLL_S)) is not None:
            context.check()
            check_others()
            listener.pass_on(messages)
            _check_progress(context, process)
    except Interrupted:
        process.interrupt(context.is_over)  # it saves its state, so that the next attempt goes on from there
        context.check()  # raises what is more than this
        raise  # what it said last is in its folder, and the next attempt says it again


def _check_progress(context: RunContext, process: TrainingProcess) -> None:
    settings = context.worker.settings
    limit_s = settings.step_timeout_s if process.has_finished_step else settings.start_timeout_s
    if process.idle_s < limit_s or process.exit_code is not None:
        return
    when = "after a step" if process.has_finished_step else "before its first step had ended"
    detail = f"training hung: no progress for {limit_s:g} s {when}"
    context.log([f"{detail}; its processes are killed"])
    raise TrainingHung(detail)


def _count(metrics: Sequence[MetricRow]) -> None:
    for row in metrics:
        if row.name == "step_s":
            STEP_SECONDS.labels(RunKind.TRAIN_JOB).observe(row.value)
        elif row.name == "tokens_per_s":
            TOKENS_PER_SECOND.labels(RunKind.TRAIN_JOB).set(row.value)


class Listener:
    """Passes on what a training process says."""

    def __init__(self, context: RunContext, on_metrics: OnMetrics | None = None) -> None:
        self._context = context
        self._on_metrics = on_metrics
        self._kept_step = -1

    def pass_on(self, messages: list[dict[str, Any]]) -> None:
        """Write messages to the registry, those of a kind at once."""
        context = self._context
        for message in messages:
            if message["type"] == "kept":
                self._kept_step = message["step"]
                context.forget_after(self._kept_step)
        told = [message for message in messages if message["type"] == "metric"]
        metrics = [MetricRow(step=m["step"], name=m["name"], value=m["value"]) for m in told]
        context.metrics(metrics)
        _count(metrics)
        if self._on_metrics is not None:
            self._on_metrics(metrics)
        context.log([message["message"] for message in messages if message["type"] == "log"])
        for message in messages:
            if message["type"] == "checkpoint":
                self._checkpoint(Checkpoint.model_validate(message["checkpoint"]))
            elif message["type"] == "checkpoint_gone":
                context.checkpoint_gone(message["step"], CheckpointTier(message["tier"]))
        for message in [message for message in messages if message["type"] == "progress"][-1:]:
            context.progress(message["done"], message["total"], message["unit"])

    def _checkpoint(self, checkpoint: Checkpoint) -> None:
        is_new_state = checkpoint.tier is CheckpointTier.STATE and checkpoint.step > self._kept_step
        self._context.checkpoint(checkpoint, is_progress=is_new_state)
