"""What checkpoints are made of, as tensors in the CPU's memory: taken at once, written later.

A world of one, and DDP, whose ranks have the same weights, keep everything in one file. FSDP's ranks keep their parts
of weights and optimizer in a file each; such a state fits the same number of ranks only, and another number would
change the rounding anyway. Every rank keeps its own random generators.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.distributed.tensor import DTensor

from nearfirst.contracts.problems import CorruptArtifact, StateConflict
from nearfirst.contracts.training import Checkpoint
from nearfirst_training.checkpoints import damaged_files
from nearfirst_training.strategies import is_sharded
from nearfirst_training.world import World

_VALUES = "state.json"
_MODEL, _OPTIMIZER, _RNG = "model/", "optimizer/", "rng/"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Position:
    """Where in the run a state was taken."""

    step: int
    """Optimizer steps done; the schedule is a function of it."""
    receipt_head: str
    arrangement_digest: str
    spec_digest: str


@dataclass(frozen=True)
class WeightsSnapshot:
    """The whole model's weights, on the main rank; nothing on the others."""

    tensors: Tensors
    model: Any
    """Knows how to write them; its own weights aren't read any more."""
    tokenizer: Any

    def write(self, folder: Path) -> None:
        """Write what `AutoModelForCausalLM.from_pretrained(folder)` and vLLM load; of LoRA the adapter."""
        if self.tensors:
            self.model.save_pretrained(folder, state_dict=self.tensors)
            self.tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class StateSnapshot:
    """What one rank adds to a state."""

    tensors: Tensors
    file: str
    position: Position | None
    """On the main rank."""
    world_size: int

    def write(self, folder: Path) -> None:
        """Write this rank's file, and the position."""
        from safetensors.torch import save_file

        save_file(self.tensors, folder / self.file)
        if self.position is not None:
            values = asdict(self.position) | {"world_size": self.world_size}
            (folder / _VALUES).write_text(json.dumps(values, indent=1) + "\n")


def take_weights(model: Any, tokenizer: Any, dtype: Literal["fp32", "bf16", "fp16"], world: World) -> WeightsSnapshot:
    """Copy the weights that a checkpoint has: all of them, or LoRA's adapters. For all ranks to call together.

    Args:
        model: a transformers or PEFT model, which FSDP may have sharded.
        tokenizer: goes with them.
        dtype: what floating-point weights are rounded to.
        world: all ranks; sharded weights are put together one by one.
    """
    tensors = {}
    for name, tensor in _model_tensors(model):
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if world.is_main:
            kind = _DTYPES[dtype] if whole.is_floating_point() else whole.dtype
            tensors[name] = _copied(whole.to(kind) if kind != whole.dtype else whole)
    return WeightsSnapshot(tensors, model, tokenizer)


def take_state(model: Any, optimizer: torch.optim.Optimizer, position: Position, world: World) -> StateSnapshot:
    """Copy what this rank keeps of everything that the steps after `position` depend on, but data and settings."""
    tensors = {_RNG + name: tensor for name, tensor in _rng_states().items()}
    if world.is_main or is_sharded(model):
        tensors |= {_MODEL + name: _copied(_local(tensor)) for name, tensor in _model_tensors(model)}
        for name, weight in model.named_parameters():
            for key, value in optimizer.state.get(weight, {}).items():
                tensors[f"{_OPTIMIZER}{name}/{key}"] = _copied(_local(value))
    return StateSnapshot(tensors, _file_of(world.rank, world), position if world.is_main else None, world.size)


def read_state(checkpoint: Checkpoint, model: Any, optimizer: torch.optim.Optimizer, world: World) -> Position:
    """Put a state back into a model and an optimizer of the same making, and into torch's random generators.

    Raises:
        StateConflict: it was taken by another number of processes.
        CorruptArtifact: a file's bytes differ from the manifest's sha256, or its tensors aren't this model's.
    """
    from safetensors.torch import load_file

    folder = Path(checkpoint.path)
    values = json.loads((folder / _VALUES).read_text())
    world_size = values.pop("world_size")
    if world_size != world.size:
        raise StateConflict(f"state checkpoint {folder} was taken by {world_size} processes, these are {world.size}")
    damaged = list(damaged_files(checkpoint))
    if damaged:
        raise CorruptArtifact(f"state checkpoint {folder}: {', '.join(damaged)} differ from the manifest")
    own = load_file(folder / _file_of(world.rank, world))
    tensors = own if is_sharded(model) else load_file(folder / _file_of(0, world))
    _restore_model(model, {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)})
    _restore_optimizer(model, optimizer, tensors)
    torch.set_rng_state(own[_RNG + "cpu"])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(own[_RNG + "cuda"], world.device)
    return Position(**values)


def _file_of(rank: int, world: World) -> str:
    return "state.safetensors" if world.size == 1 else f"state-{rank:05d}-of-{world.size:05d}.safetensors"


def _model_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """What training changes: weights that aren't frozen, tied ones once, and persistent buffers."""
    persistent = model.state_dict().keys()
    yield from ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in persistent)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the CPU's memory that nothing else changes."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _restore_model(model: Any, stored: Tensors) -> None:
    current = dict(_model_tensors(model))
    if current.keys() != stored.keys():
        odd = sorted(current.keys() ^ stored.keys())
        raise CorruptArtifact(f"the state's model has other tensors than this one: {odd[0]} and {len(odd) - 1} more")
    with torch.no_grad():
        for name, tensor in current.items():
            _local(tensor).copy_(stored[name])


def _restore_optimizer(model: Any, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """AdamW's tensors (step, exp_avg, exp_avg_sq) by the weight's name; weights without an update so far have none."""
    for name, weight in model.named_parameters():
        prefix = f"{_OPTIMIZER}{name}/"
        entries = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        if entries:
            optimizer.state[weight] = {key: _as_entry(weight, tensor) for key, tensor in entries.items()}


def _as_entry(weight: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """A stored moment, sharded as its weight is; the number of updates is a scalar."""
    if not isinstance(weight, DTensor):
        return stored.to(weight.device)
    local = stored.to(weight.to_local().device)
    if stored.dim() == 0:
        return local
    return DTensor.from_local(
        local, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride(), run_check=False
    )


def _rng_states() -> Tensors:
    """torch's generators; nothing in the loop draws from Python's or numpy's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
