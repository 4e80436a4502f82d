"""Bytes of checkpoints: safetensors files, whose tensors lie end to end behind a header of JSON."""

import math
from collections.abc import Mapping

from nearfirst.contracts.estimates import CheckpointEstimate
from nearfirst.contracts.training import CheckpointSpec, TrainSettings
from nearfirst.estimates.sizes import Shape, num_elements

_ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_FP32_BYTES = 4
_MOMENTS = 2
"""AdamW keeps exp_avg and exp_avg_sq of each weight."""
_RNG_BYTES = 5056
"""torch's generator on the CPU, which every rank keeps."""
_ENTRY_BYTES = 72
"""A tensor's entry in the header beside its name: dtype, shape, offsets, punctuation."""
_MANIFEST_BYTES = 1500


def checkpoint_estimate(
    tensors: Mapping[str, Shape], settings: TrainSettings, *, num_steps: int, companion_bytes: int
) -> CheckpointEstimate:
    """What a job's checkpoints take.

    Args:
        tensors: what is trained, and so written: all weights, or LoRA's adapters.
        settings: how often checkpoints are written, how many are kept, and as what.
        num_steps: of the whole job.
        companion_bytes: tokenizer and configuration, which go with each weights checkpoint.
    """
    spec = settings.checkpoint
    weights = _weights_bytes(tensors, _ELEMENT_BYTES[spec.weights_dtype]) + companion_bytes + _MANIFEST_BYTES
    state = _state_bytes(tensors, settings) + _MANIFEST_BYTES
    num_weights, peak_weights = _kept_weights(num_steps, spec)
    num_states, peak_states = _num_kept(_num_written(num_steps, spec.state_every), spec.keep_state)
    return CheckpointEstimate(
        weights_bytes=weights,
        state_bytes=state,
        num_weights=num_weights,
        num_states=num_states,
        kept_bytes=num_weights * weights + num_states * state,
        peak_bytes=peak_weights * weights + peak_states * state,
    )


def num_kept_weights(num_steps: int, spec: CheckpointSpec) -> int:
    """Weights checkpoints that are there when a job has ended."""
    return _kept_weights(num_steps, spec)[0]


def _kept_weights(num_steps: int, spec: CheckpointSpec) -> tuple[int, int]:
    return _num_kept(_num_written(num_steps, spec.weights_every) + int(spec.initial_weights), spec.keep_weights)


def _num_written(num_steps: int, every: int | None) -> int:
    """Checkpoints of a tier that are taken after a step; the last step has one in any case."""
    return 1 if every is None else math.ceil(num_steps / every)


def _num_kept(written: int, keep: int | None) -> tuple[int, int]:
    """Checkpoints of a tier at the end, and the most that are there at a time."""
    return (written, written) if keep is None else (min(written, keep), min(written, keep + 1))


def _weights_bytes(tensors: Mapping[str, Shape], element_bytes: int) -> int:
    return num_elements(tensors) * element_bytes + sum(len(name) + _ENTRY_BYTES for name in tensors)


def _state_bytes(tensors: Mapping[str, Shape], settings: TrainSettings) -> int:
    """Weights, both moments and the number of updates of each weight, in fp32; of fsdp in a file of each rank."""
    num_files = settings.num_processes
    num_headers = num_files if settings.resolved_strategy == "fsdp" else 1
    names = sum(4 * (len(name) + _ENTRY_BYTES) + 50 for name in tensors)  # "model/", "optimizer/", "/exp_avg_sq", ...
    elements = (1 + _MOMENTS) * num_elements(tensors)
    return elements * _FP32_BYTES + num_headers * (names + _FP32_BYTES * len(tensors)) + num_files * _RNG_BYTES
