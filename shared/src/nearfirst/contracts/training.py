"""What to train, on which order, and how (DESIGN section 6)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nearfirst.contracts.arrangements import Fidelity, SelectionField
from nearfirst.contracts.base import Contract
from nearfirst.contracts.runs import Progress, RunState


class ModelSpec(Contract):
    """Which model to start from. Weights are safetensors only; no remote code is run."""

    name_or_path: str
    """A hub id, or a folder with config.json and a tokenizer (and weights when `init` is pretrained)."""
    revision: str | None = None
    init: Literal["pretrained", "random"] = "pretrained"
    """random: weights drawn from the job's seed; the folder needs no weights."""
    config: dict[str, Any] | None = None
    """With `init: random`: fields that replace those of the folder's config.json."""

    @model_validator(mode="after")
    def _config_is_for_random(self) -> "ModelSpec":
        if self.config is not None and self.init != "random":
            raise ValueError("config goes with init: random; a pretrained model keeps its own")
        return self


_Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSpec(Contract):
    """AdamW."""

    lr: float = Field(default=1e-6, gt=0)
    betas: tuple[_Beta, _Beta] = (0.9, 0.95)
    eps: float = Field(default=1e-5, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm; None leaves them."""


class ScheduleSpec(Contract):
    """The learning rate over steps."""

    kind: Literal["constant", "cosine", "linear"] = "cosine"
    final_ratio: float = Field(default=0.1, ge=0, le=1)
    """Learning rate of the last step over the highest (cosine, linear)."""
    warmup_steps: int = Field(default=0, ge=0)


class CheckpointSpec(Contract):
    """What is written when, in steps. None: only after the last step."""

    weights_every: int | None = Field(default=None, ge=1)
    """safetensors that transformers and vLLM load."""
    state_every: int | None = Field(default=None, ge=1)
    """Optimizer, schedule, RNG, step and receipt head: what resuming needs."""
    keep_state: int = Field(default=2, ge=1)
    """State checkpoints kept; older ones are deleted. Weights are all kept."""


class TrainSettings(Contract):
    """The part of a job that names no dataset: shared by POST /train-jobs and `nearfirst train`."""

    model: ModelSpec
    tuning: Literal["full"] = "full"
    template: Literal["paper"] = "paper"
    """Chat template: `<s>User: {u}\\nAssistant: {a}</s>...`, scored on the assistant's text and its eos."""
    global_batch_size: int = Field(default=16, ge=1, le=2**20)
    """Rows an optimizer step consumes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows in one forward pass; None: the whole step at once. Changes memory and speed, never the loss."""
    max_length: int = Field(default=1024, ge=8, le=2**20)
    """Tokens after which an example is cut, at its tail."""
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, lt=2**31)
    """Both None: one epoch."""
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec)
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast over fp32 weights."""
    gpus: int = Field(default=0, ge=0, le=1)
    """0 trains on the CPU."""
    strategy: Literal["auto", "single"] = "auto"
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec)
    seed: int = Field(default=0, ge=0, lt=2**32)
    fidelity: Fidelity = Fidelity.CORRECTED

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "TrainSettings":
        if self.micro_batch_size is not None and self.micro_batch_size > self.global_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} is above global_batch_size {self.global_batch_size}"
            )
        return self


class EvaluateSpec(Contract):
    """In-loop evaluation: test loss, before the first step, every `every` steps and after the last."""

    test: SelectionField
    metrics: list[Literal["loss"]] = Field(default=["loss"], min_length=1)
    every: int = Field(default=10, ge=1)


class TrainSpec(TrainSettings):
    """The body of POST /train-jobs."""

    arrangement: str | None = None
    """Train on this arrangement's order."""
    dataset: str | None = None
    """Train on this dataset in its own order."""
    evaluate: EvaluateSpec | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "TrainSpec":
        if (self.arrangement is None) == (self.dataset is None):
            raise ValueError("give arrangement or dataset, and not both")
        return self


class LocalData(Contract):
    """Files in place of registered datasets. Paths are relative to the spec file."""

    train: str
    train_split: str | None = None
    order: str | None = None
    """order.jsonl of `nearfirst arrange`; None: the file's own order."""
    test: str | None = None
    test_split: str | None = None
    evaluate_every: int = Field(default=10, ge=1)


class LocalTrainSpec(TrainSettings):
    """SPEC.yaml of `nearfirst train`."""

    data: LocalData


class CheckpointTier(StrEnum):
    """The two kinds of checkpoint."""

    WEIGHTS = "weights"
    STATE = "state"


class Checkpoint(Contract):
    """A complete checkpoint: its manifest was written last."""

    step: int
    tier: CheckpointTier
    path: str
    size_bytes: int
    digest: str
    """sha256 of the manifest, which has the sha256 of every file."""
    receipt_head: str


class MetricRow(Contract):
    """One measurement of a run."""

    step: int
    name: str
    """`train_loss`, `test_loss`, `test_loss/TASK`, `grad_norm`, `lr`, `tokens_per_s`."""
    value: float


class LogLine(Contract):
    """A line that training printed."""

    line: str
    created_at: datetime


class TrainJob(Contract):
    """GET /train-jobs/{id}."""

    id: str
    state: RunState
    progress: Progress | None = None
    spec: TrainSpec
    receipt_head: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    attempt: int = 0
    waits_for: list[str] = Field(default_factory=list)
    """Runs that must succeed first: the arrangement."""
    waits_because: str | None = None
