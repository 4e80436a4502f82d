"""What a training job would take, before it runs: the answer of POST /train-jobs?dry_run=true."""

from typing import Literal

from pydantic import Field

from nearfirst.contracts.base import Contract


class ParameterCount(Contract):
    """How large the model is."""

    total: int
    trainable: int
    """All of them, or with LoRA those of the adapters."""
    source: Literal["weights", "config"]
    """weights: the headers of the folder's safetensors; config: arithmetic on its config.json."""


class TokenEstimate(Contract):
    """Tokens of all steps together."""

    tokens: int
    """Real ones."""
    padded_tokens: int | None
    """With the padding inside forward passes; None when rows were drawn one by one, so that no pass is known."""
    is_exact: bool
    """Every row that the job consumes was tokenized."""
    num_rows_read: int
    """Rows that were tokenized."""
    standard_error: float | None
    """Of `tokens`, from the spread between the steps (or rows) that were drawn; None when exact or a single one was."""
    longest_row: int
    """Tokens of the longest row that was read."""
    largest_pass: int | None
    """Padded tokens of the largest forward pass among the steps that were read."""


class CheckpointEstimate(Contract):
    """Files of checkpoints, in bytes."""

    weights_bytes: int
    """One weights checkpoint."""
    state_bytes: int
    """One state checkpoint, all ranks' files together."""
    num_weights: int
    """Weights checkpoints that are kept."""
    num_states: int
    """State checkpoints that are kept."""
    kept_bytes: int
    """All that are kept at the end."""
    peak_bytes: int
    """The most that is there at a time: a new checkpoint is complete before the oldest goes."""


class MemoryEstimate(Contract):
    """Memory of one process, in bytes: of its GPU, or on the CPU of the process.

    CUDA's own context, NCCL's buffers and what the allocator can't use come on top.
    """

    strategy: Literal["single", "ddp", "fsdp"]
    num_processes: int
    pass_tokens: int
    """Padded tokens of the forward pass that activations are estimated for."""
    weights_bytes: int
    """fp32 weights, of fsdp this process's part."""
    gradient_bytes: int
    """fp32 gradients of what is trained."""
    optimizer_bytes: int
    """AdamW's two fp32 moments."""
    working_bytes: int
    """bf16 copies of weights; of fsdp the layers that are put together for their use, and their whole gradients."""
    activation_bytes: int
    """What the backward pass needs of the forward pass. An estimate: Korthikanti et al. 2022, counted for Llama."""
    logit_bytes: int
    """The output layer over the vocabulary, where tokens are scored: at most, as if all were. An estimate."""
    total_bytes: int
    host_bytes: int
    """In the CPU's memory with `offload_optimizer`: weights, gradients and moments."""

    @property
    def certain_bytes(self) -> int:
        """What no choice of micro-batches makes smaller."""
        return self.weights_bytes + self.gradient_bytes + self.optimizer_bytes


class TimeEstimate(Contract):
    """Time by a rate that was measured before."""

    seconds: float
    """Of training steps; reading, tokenizing, measuring and starting come on top."""
    tokens_per_s: float
    """Median over the measured steps of that run."""
    run: str
    """Id of the run that the rate comes from: of the same size, precision, tuning and devices."""
    num_steps: int
    """Steps of it that were measured."""


class Available(Contract):
    """What there is; None where it isn't known."""

    gpu_memory_bytes: int | None = None
    """Of the largest GPU that a worker announced."""
    disk_bytes: int | None = None
    """Free where checkpoints are written."""


class EstimateDetails(Contract):
    """The parts of an estimate; None where a part can't be known, and a remark says why."""

    parameters: ParameterCount | None = None
    tokens: TokenEstimate | None = None
    checkpoints: CheckpointEstimate | None = None
    memory: MemoryEstimate | None = None
    time: TimeEstimate | None = None
    available: Available = Field(default_factory=Available)


class TrainEstimate(Contract):
    """What a training job would take."""

    steps: int
    rows: int
    """Rows consumed over all steps."""
    tokens: int | None = None
    """Real tokens of all steps; `estimates.tokens` says how they were counted."""
    checkpoint_bytes: int | None = None
    """Checkpoints that are kept at the end."""
    gpu_memory_bytes: int | None = None
    """Per GPU; None on the CPU, or unknown."""
    estimates: EstimateDetails = Field(default_factory=EstimateDetails)
    remarks: list[str] = Field(default_factory=list)
    """What isn't known and why, and what may go wrong."""
