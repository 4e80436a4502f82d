"""The runs that bench_training.py compares: each in a process of its own, which prints what it measured as JSON.

python tests/bench/training_runs.py '{"kind": "ours", ...}'        (torchrun for several processes)
"""

import json
import os
import resource
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nearfirst.contracts.training import CheckpointSpec, ModelSpec, OptimizerSpec, ScheduleSpec, TrainSettings
from nearfirst.data.dataset import load_dataset
from nearfirst.data.steps import cut_in_order
from nearfirst_training import setup
from nearfirst_training.batches import OrderLoader, Row, StepBatch
from nearfirst_training.checkpointing import Checkpointer
from nearfirst_training.data import UNSCORED, tokenize_rows
from nearfirst_training.job import TrainingJob
from nearfirst_training.loop import train
from nearfirst_training.model import load_model

MAX_LENGTH, CHECKPOINT_EVERY = 1024, 10
SEED, RATE, MAX_NORM = 7, 3e-4, 1.0
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """One run."""

    kind: Literal["trainer", "ours", "padded", "full tuning"]
    data: str
    """JSONL, in the order to train on."""
    model: str
    """Folder with a configuration and a tokenizer."""
    out: str
    """A folder that isn't there yet."""
    batch: int
    """Rows in a step."""
    micro_batch: int
    """Most rows in a forward pass."""
    steps: int
    """The run is stopped at the end of this one; it has one more, for its last checkpoint must not be in the way."""
    has_checkpoints: bool = False
    processes: int = 1
    gpus: int = 0
    config: dict[str, Any] | None = None
    """Fields in place of those of the model's configuration."""

    @property
    def model_spec(self) -> ModelSpec:
        """The model, its weights to be drawn at random."""
        return ModelSpec(name_or_path=self.model, init="random", config=self.config)


class Measured(Exception):
    """The last step that counts was made."""


class PaddedLoader(OrderLoader):
    """Every row as long as the longest there may be, in passes of consecutive rows: what the paper's code does."""

    def batch(self, step: int) -> StepBatch:
        batch = super().batch(step)
        groups = cut_in_order(len(batch.rows), self._settings.micro_batch_size)
        rows = [_padded(row) for row in batch.rows]
        return replace(batch, rows=rows, groups=groups, num_passes=len(groups), num_groups=len(groups))


def _padded(row: Row) -> Row:
    missing = (0, MAX_LENGTH - len(row[0]))
    return np.pad(row[0], missing), np.pad(row[1], missing, constant_values=UNSCORED)


class WatchedCheckpointer(Checkpointer):
    """Can be found by who watches the run."""

    current: Checkpointer

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        WatchedCheckpointer.current = self


@dataclass
class Watch:
    """What a run was seen to do."""

    ended_s: list[float]
    """Clock at the end of each step, from step 0 on: the start."""
    cpu_s: list[float]
    """Processor time of all threads by then."""
    blocked_s: list[float]
    """How long checkpoints had made the loop wait by then."""
    metrics: dict[str, list[float]]
    """Every metric, step by step."""


def watch(case: Case, settings: TrainSettings) -> Watch:
    """Run our loop until the end of step `case.steps`."""
    setup.Checkpointer = WatchedCheckpointer
    seen = Watch([], [], [], {})

    def progress(done: int, total: int | None, unit: str) -> None:
        if unit == "steps":
            seen.ended_s.append(time.perf_counter())
            seen.cpu_s.append(time.process_time())
            seen.blocked_s.append(WatchedCheckpointer.current.blocked_s)
            if done == case.steps:
                raise Measured

    with suppress(Measured):
        train(TrainingJob(settings=settings, train_examples=case.data, out=case.out), progress=progress)
    for line in (Path(case.out) / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        seen.metrics.setdefault(row["name"], []).append(row["value"])
    return seen


def run_ours(case: Case) -> dict[str, Any]:
    """Our loop, as it is or padding every row."""
    if case.kind == "padded":
        setup.OrderLoader = PaddedLoader
    every = CHECKPOINT_EVERY if case.has_checkpoints else None
    settings = TrainSettings(
        model=case.model_spec,
        global_batch_size=case.batch,
        micro_batch_size=case.micro_batch,
        max_length=MAX_LENGTH,
        max_steps=case.steps + 1,
        optimizer=OptimizerSpec(lr=RATE, max_grad_norm=MAX_NORM),
        schedule=ScheduleSpec(kind="constant"),
        processes=case.processes,
        checkpoint=CheckpointSpec(weights_every=every, state_every=every),
        seed=SEED,
    )
    seen = watch(case, settings)
    clocks = {"ended_s": seen.ended_s, "cpu_s": seen.cpu_s, "blocked_s": seen.blocked_s}
    return {**clocks, "losses": seen.metrics["train_loss"]}


def run_trainer(case: Case) -> dict[str, Any]:
    """transformers' Trainer with a sequential sampler; each micro-batch is padded to its longest row."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    ended_s: list[float] = []
    cpu_s: list[float] = []
    losses: list[float] = []

    def note_time() -> None:
        ended_s.append(time.perf_counter())
        cpu_s.append(time.process_time())

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            note_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            note_time()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    model, tokenizer = load_model(case.model_spec, seed=SEED, max_length=MAX_LENGTH, device=torch.device("cpu"))
    rows = tokenize_rows(load_dataset(Path(case.data)).examples, tokenizer, MAX_LENGTH)
    spec = OptimizerSpec()
    arguments = TrainingArguments(
        output_dir=case.out,
        per_device_train_batch_size=case.micro_batch,
        gradient_accumulation_steps=case.batch // case.micro_batch,
        max_steps=case.steps,
        train_sampling_strategy="sequential",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        adam_beta1=spec.betas[0],
        adam_beta2=spec.betas[1],
        adam_epsilon=spec.eps,
        weight_decay=spec.weight_decay,
        max_grad_norm=MAX_NORM,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=True,
        seed=SEED,
    )
    trainer = Trainer(
        model,
        arguments,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=[
            {"input_ids": tokens.tolist(), "labels": labels.tolist()}
            for tokens, labels in map(rows.row, range(len(rows)))
        ],
        callbacks=[Clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return {"ended_s": ended_s, "cpu_s": cpu_s, "losses": losses}


def run_full_tuning(case: Case) -> dict[str, Any]:
    """Full tuning as one would run it on GPUs, at full length: median tokens a second, and the share of the peak."""
    settings = TrainSettings(
        model=case.model_spec,
        global_batch_size=case.batch,
        micro_batch_size=case.micro_batch,
        max_length=MAX_LENGTH,
        max_steps=case.steps + 1,
        precision="bf16",
        activation_checkpointing=True,
        gpus=case.gpus,
        seed=SEED,
    )
    seen = watch(case, settings)
    counted = {name: values[case.steps // 2 :] for name, values in seen.metrics.items()}
    return {
        "tokens_per_s": statistics.median(counted["tokens_per_s"]),
        "mfu": statistics.median(counted["mfu"]) if "mfu" in counted else None,
        "memory_gib": max(counted["memory_gib"]),
        "losses": seen.metrics["train_loss"],
    }


def main() -> None:
    """Do the run, and print what was measured on the real standard output; libraries print to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    case = Case(**json.loads(sys.argv[1]))
    runs = {"trainer": run_trainer, "ours": run_ours, "padded": run_ours, "full tuning": run_full_tuning}
    found = runs[case.kind](case)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    if os.environ.get("RANK", "0") == "0":
        answers.write(json.dumps({"peak_gib": round(peak_gib, 3), **found}))
        answers.close()


if __name__ == "__main__":
    main()
