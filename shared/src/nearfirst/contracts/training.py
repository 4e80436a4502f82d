"""What to train, on which order, and how (DESIGN section 6)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nearfirst.contracts.arrangements import Fidelity, SelectionField
from nearfirst.contracts.base import Contract, JsonObject
from nearfirst.contracts.runs import Progress, RunState


class ModelSpec(Contract):
    """Which model to start from. Weights are safetensors only; no remote code is run."""

    name_or_path: str
    """A hub id, or a folder with config.json and a tokenizer (and weights when `init` is pretrained)."""
    revision: str | None = None
    init: Literal["pretrained", "random"] = "pretrained"
    """random: weights drawn from the job's seed; the folder needs no weights."""
    config: JsonObject | None = None
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
    initial_weights: bool = False
    """Write the weights of step 0 too, so that whatever is measured of checkpoints begins at the untrained model."""
    state_every: int | None = Field(default=None, ge=1)
    """Optimizer, schedule, RNG, step and receipt head: what resuming needs."""
    keep_state: int = Field(default=2, ge=1)
    """State checkpoints kept; older ones are deleted."""
    keep_weights: int | None = Field(default=None, ge=1)
    """Weights kept; None: all."""
    weights_dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What weights are rounded to when they are written. States are never rounded."""


class LoraSpec(Contract):
    """Low-rank adapters beside frozen weights (Hu et al. 2021), through PEFT. Weights checkpoints are the adapters."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] | None = Field(default=None, min_length=1)
    """Names of linear layers (`q_proj`); None: all but the output layer."""


TemplateName = Literal["paper", "chat", "alpaca"]
"""How a conversation becomes text, and what of it is scored: data/template.py."""

PresetName = Literal["paper"]
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "tuning": "full",
        "template": "paper",
        "global_batch_size": 16,
        "max_length": 1024,
        "optimizer": {"lr": 1e-6, "betas": (0.9, 0.95), "eps": 1e-5, "weight_decay": 0.0},
        "schedule": {"kind": "cosine", "final_ratio": 0.1, "warmup_steps": 0},
        "precision": "bf16",
        "gpus": 2,
        "activation_checkpointing": True,
        "checkpoint": {"weights_every": 10, "state_every": 100, "weights_dtype": "bf16"},
    }
}
"""Settings by name. `paper`: section 3 and appendix of He et al. 2025, whose fp16 with a loss scale is bf16 here, and
whose epoch is one unless `epochs` or `max_steps` says otherwise."""


def _filled_in(fields: dict[str, Any], preset: dict[str, Any]) -> dict[str, Any]:
    """Fields over those of a preset; inner objects are merged field by field."""
    merged = preset | fields
    for name, inner in preset.items():
        if isinstance(inner, dict) and isinstance(fields.get(name), dict):
            merged[name] = inner | fields[name]
    return merged


class TrainSettings(Contract):
    """The part of a job that names no dataset: shared by POST /train-jobs and `nearfirst train`."""

    model: ModelSpec
    tuning: Literal["full", "lora"] = "full"
    lora: LoraSpec | None = None
    """With `tuning: lora`; None: its defaults."""
    template: TemplateName = "paper"
    """paper: `<s>User: {u}\\nAssistant: {a}</s>...`; chat: the tokenizer's own chat template; alpaca: Stanford Alpaca's
    prompt. Scored on the assistant's text and its end token in each."""
    global_batch_size: int = Field(default=16, ge=1, le=2**20)
    """Rows an optimizer step consumes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Most rows in one forward pass of one process. Rows of a step that are about as long go together, so that little
    is padding. Changes memory and speed, and the loss by rounding only."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Most tokens, padding included, in one forward pass; a row that is longer goes alone."""
    max_length: int = Field(default=1024, ge=8, le=2**20)
    """Tokens after which an example is cut, at its tail."""
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, lt=2**31)
    """Both None: one epoch."""
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec)
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: bfloat16 products over fp32 weights."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    compile: bool = False
    """Compile the model with `torch.compile`."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    gpus: int = Field(default=0, ge=0, le=512)
    """One process for each; 0 trains on the CPU."""
    processes: int = Field(default=1, ge=1, le=64)
    """Processes on the CPU, when `gpus` is 0."""
    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """How several processes share the work: ddp gives each a whole model, fsdp a part of it. auto: single for one
    process, fsdp on several GPUs, ddp on several CPU processes."""
    offload_optimizer: bool = False
    """With fsdp: weights, gradients and optimizer stay in the CPU's memory between their uses."""
    log_every: int = Field(default=1, ge=1)
    """Steps between two looks at the loss. On a GPU each look waits for the device; every step is recorded anyway."""
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec)
    seed: int = Field(default=0, ge=0, lt=2**32)
    fidelity: Fidelity = Fidelity.CORRECTED

    preset: PresetName | None = None
    """Fills in what isn't given: `PRESETS`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, fields: Any) -> Any:
        preset = PRESETS.get(str(fields.get("preset"))) if isinstance(fields, dict) else None
        return fields if preset is None else _filled_in(fields, preset)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "TrainSettings":
        if self.micro_batch_size is not None and self.micro_batch_size > self.global_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} is above global_batch_size {self.global_batch_size}"
            )
        if self.lora is not None and self.tuning != "lora":
            raise ValueError("lora goes with tuning: lora")
        if self.gpus > 0 and self.processes > 1:
            raise ValueError(
                f"processes {self.processes} goes with gpus: 0; each of {self.gpus} GPUs has its own process"
            )
        if self.num_processes > 1 and self.strategy == "single":
            raise ValueError(f"strategy single is for one process, not for {self.num_processes}")
        if self.num_processes > self.global_batch_size:
            raise ValueError(
                f"{self.num_processes} processes can't share a step of {self.global_batch_size} rows "
                "(global_batch_size): some would have none"
            )
        if self.offload_optimizer and self.resolved_strategy != "fsdp":
            raise ValueError(f"offload_optimizer goes with strategy fsdp, not {self.resolved_strategy}")
        return self

    @property
    def num_processes(self) -> int:
        """Ranks: one a GPU, or `processes` on the CPU."""
        return self.gpus or self.processes

    @property
    def needs_torchrun(self) -> bool:
        """Whether its processes form a group; one process that FSDP serves is a group of one."""
        return self.num_processes > 1 or self.resolved_strategy == "fsdp"

    @property
    def resolved_strategy(self) -> Literal["single", "ddp", "fsdp"]:
        """What `strategy: auto` means."""
        if self.strategy != "auto":
            return self.strategy
        if self.num_processes == 1:
            return "single"
        return "fsdp" if self.gpus else "ddp"


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
    priority: int = Field(default=0, ge=-10, le=10)
    """Of jobs that wait for the same workers, the higher goes first; of equal ones the older."""
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
    """`train_loss`, `test_loss`, `test_loss/TASK`, `grad_norm`, `lr`, `tokens_per_s`, `step_s`, `memory_gib`;
    on GPUs `mfu`."""
    value: float


class KnownModel(Contract):
    """A model on the server, that a job may name."""

    name_or_path: str
    """What `model.name_or_path` takes."""
    has_weights: bool
    """False: it is trained with `init: random`."""
    num_parameters: int | None
    """None where neither weights nor configuration tell."""


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
    created_at: datetime | None = None
    started_at: datetime | None = None
    """When its first attempt began."""
    finished_at: datetime | None = None
