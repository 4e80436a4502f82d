"""All parts of an estimate put together, and what to say of them."""

from collections.abc import Mapping
from typing import NamedTuple

from nearfirst.contracts.estimates import (
    Available,
    EstimateDetails,
    MemoryEstimate,
    ParameterCount,
    TimeEstimate,
    TokenEstimate,
    TrainEstimate,
)
from nearfirst.contracts.problems import DoesNotFit
from nearfirst.contracts.training import LoraSpec, TrainSettings
from nearfirst.data.steps import rows_to_consume
from nearfirst.estimates.checkpoints import checkpoint_estimate
from nearfirst.estimates.memory import memory_estimate
from nearfirst.estimates.model_files import ModelFolder
from nearfirst.estimates.sizes import Shape, in_gigabytes, num_elements

_TIGHT = 0.9
"""Share of a GPU's memory above which an estimate is worth a warning."""


class MeasuredRate(NamedTuple):
    """Tokens a second of an earlier run of the same size on the same devices."""

    run: str
    tokens_per_s: float
    """Median over its steps."""
    num_steps: int


def estimate_training(
    settings: TrainSettings,
    num_order_rows: int,
    model: ModelFolder,
    *,
    tokens: TokenEstimate | None,
    rate: MeasuredRate | None,
    available: Available,
    remarks: list[str],
) -> TrainEstimate:
    """What a job would take.

    Args:
        settings: of the job.
        num_order_rows: rows of the order that it trains on, at least 1.
        model: what the model's folder says.
        tokens: what was counted; None: unknown.
        rate: what was measured before; None: nothing.
        available: memory and disk.
        remarks: on how the arguments were found.
    """
    rows = rows_to_consume(num_order_rows, settings)
    steps = -(-rows // settings.global_batch_size)
    remarks = remarks if model.remark is None else [*remarks, model.remark]
    parameters, trained = _parameters(settings, model)
    checkpoints = memory = None
    if trained is not None and parameters is not None:
        checkpoints = checkpoint_estimate(trained, settings, num_steps=steps, companion_bytes=model.companion_bytes)
        memory = _memory(settings, model, parameters, tokens)
    time = None if tokens is None or rate is None else _time(tokens, rate)
    details = EstimateDetails(
        parameters=parameters, tokens=tokens, checkpoints=checkpoints, memory=memory, time=time, available=available
    )
    return TrainEstimate(
        steps=steps,
        rows=rows,
        tokens=None if tokens is None else tokens.tokens,
        checkpoint_bytes=None if checkpoints is None else checkpoints.kept_bytes,
        gpu_memory_bytes=memory.total_bytes if memory is not None and settings.gpus else None,
        estimates=details,
        remarks=[*remarks, *_remarks(settings, details)],
    )


def refuse_what_does_not_fit(settings: TrainSettings, estimates: EstimateDetails) -> None:
    """Refuse a job that can't fit, whatever its micro-batches.

    Raises:
        DoesNotFit: weights, gradients and moments alone are more than a GPU has, or checkpoints more than the disk
            has free; the detail has the numbers and what would need less.
    """
    memory, available = estimates.memory, estimates.available
    room = available.gpu_memory_bytes
    if settings.gpus and memory is not None and room is not None and memory.certain_bytes > room:
        raise DoesNotFit(
            f"gpus {settings.gpus}: weights, gradients and optimizer take {in_gigabytes(memory.certain_bytes)} GB of "
            f"each GPU ({memory.strategy}), before any activation; the largest GPU that a worker has announced has "
            f"{in_gigabytes(room)} GB. More gpus (strategy fsdp), offload_optimizer or tuning lora need less"
        )
    checkpoints = estimates.checkpoints
    if checkpoints is not None and available.disk_bytes is not None and checkpoints.peak_bytes > available.disk_bytes:
        raise DoesNotFit(
            f"checkpoint: {checkpoints.num_weights} weights of {in_gigabytes(checkpoints.weights_bytes)} GB and "
            f"{checkpoints.num_states} states of {in_gigabytes(checkpoints.state_bytes)} GB take up to "
            f"{in_gigabytes(checkpoints.peak_bytes)} GB; {in_gigabytes(available.disk_bytes)} GB are free where they "
            "are written. A larger weights_every, a smaller keep_weights or keep_state, or tuning lora need less"
        )


def _parameters(
    settings: TrainSettings, model: ModelFolder
) -> tuple[ParameterCount | None, Mapping[str, Shape] | None]:
    """How many there are, and the weights that are trained."""
    tensors = model.tensors
    if tensors is None:
        return None, None
    source = "config" if model.stored is None else "weights"
    if settings.tuning == "full":
        total = num_elements(tensors)
        return ParameterCount(total=total, trainable=total, source=source), tensors
    if model.shape is None:
        return None, None
    adapters = model.shape.adapters(settings.lora or LoraSpec())
    trainable = num_elements(adapters)
    return ParameterCount(total=num_elements(tensors) + trainable, trainable=trainable, source=source), adapters


def _memory(
    settings: TrainSettings, model: ModelFolder, parameters: ParameterCount, tokens: TokenEstimate | None
) -> MemoryEstimate | None:
    if model.shape is None:
        return None
    row = settings.max_length if tokens is None else tokens.longest_row
    largest_pass = None if tokens is None else tokens.largest_pass
    return memory_estimate(
        model.shape,
        settings,
        num_parameters=parameters.total,
        num_trainable=parameters.trainable,
        pass_tokens=largest_pass or _longest_pass(settings, row),
        row=row,
    )


def _longest_pass(settings: TrainSettings, row: int) -> int:
    """The largest pass that the settings allow when every row has this length."""
    rows = -(-settings.global_batch_size // settings.num_processes)
    if settings.micro_batch_size is not None:
        rows = min(rows, settings.micro_batch_size)
    if settings.micro_batch_tokens is not None:
        rows = min(rows, max(1, settings.micro_batch_tokens // row))
    return rows * row


def _time(tokens: TokenEstimate, rate: MeasuredRate) -> TimeEstimate:
    return TimeEstimate(
        seconds=tokens.tokens / rate.tokens_per_s,
        tokens_per_s=rate.tokens_per_s,
        run=rate.run,
        num_steps=rate.num_steps,
    )


def _remarks(settings: TrainSettings, details: EstimateDetails) -> list[str]:
    found = []
    room, memory = details.available.gpu_memory_bytes, details.memory
    if settings.gpus and room is None:
        found.append("no worker has announced a GPU's memory: whether the job fits isn't known")
    if settings.gpus and room is not None and memory is not None and memory.total_bytes > _TIGHT * room:
        found.append(
            f"memory is tight: an estimated {in_gigabytes(memory.total_bytes)} GB of {in_gigabytes(room)} GB, and "
            "CUDA's own context comes on top; a smaller micro_batch_tokens or activation_checkpointing needs less"
        )
    if details.tokens is not None and details.time is None:
        found.append("no run of this size on such devices has been measured: the time isn't known")
    return found
