"""What resuming needs, as tensors and JSON: model, optimizer, random generators, step, receipt."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nearfirst.contracts.problems import CorruptArtifact
from nearfirst.contracts.training import Checkpoint
from nearfirst_training.checkpoints import damaged_files

_TENSORS, _VALUES = "state.safetensors", "state.json"
_MODEL, _OPTIMIZER, _RNG = "model/", "optimizer/", "rng/"


@dataclass(frozen=True)
class Position:
    """Where in the run a state was taken."""

    step: int
    """Optimizer steps done; the schedule is a function of it."""
    receipt_head: str
    arrangement_digest: str
    spec_digest: str


def write_weights(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write what `AutoModelForCausalLM.from_pretrained(folder)` and vLLM load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_state(folder: Path, position: Position, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write everything that the steps after `position` depend on, but for the data and the settings."""
    from safetensors.torch import save_file

    tensors = {_MODEL + name: tensor for name, tensor in _model_tensors(model).items()}
    for name, entries in _optimizer_entries(model, optimizer).items():
        tensors |= {f"{_OPTIMIZER}{name}/{key}": tensor for key, tensor in entries.items()}
    tensors |= {_RNG + name: tensor for name, tensor in _rng_states().items()}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    (folder / _VALUES).write_text(json.dumps(asdict(position), indent=1) + "\n")


def read_state(checkpoint: Checkpoint, model: Any, optimizer: torch.optim.Optimizer) -> Position:
    """Put a state back into a model and an optimizer of the same making, and into torch's random generators.

    Raises:
        CorruptArtifact: a file's bytes differ from the manifest's sha256, or its tensors aren't this model's.
    """
    from safetensors.torch import load_file

    damaged = list(damaged_files(checkpoint))
    if damaged:
        raise CorruptArtifact(f"state checkpoint {checkpoint.path}: {', '.join(damaged)} differ from the manifest")
    folder = Path(checkpoint.path)
    tensors = load_file(folder / _TENSORS)
    _restore_model(model, {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)})
    _restore_optimizer(model, optimizer, tensors)
    torch.set_rng_state(tensors[_RNG + "cpu"])
    if torch.cuda.is_available() and _RNG + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[_RNG + "cuda"])
    return Position(**json.loads((folder / _VALUES).read_text()))


def _model_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Weights and persistent buffers by name; tied weights once."""
    persistent = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return dict(model.named_parameters()) | buffers


def _restore_model(model: Any, stored: dict[str, torch.Tensor]) -> None:
    current = _model_tensors(model)
    if current.keys() != stored.keys():
        odd = sorted(current.keys() ^ stored.keys())
        raise CorruptArtifact(f"the state's model has other tensors than this one: {odd[0]} and {len(odd) - 1} more")
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(stored[name])


def _optimizer_entries(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """AdamW's tensors (step, exp_avg, exp_avg_sq) by the weight's name; weights without an update so far are absent."""
    return {name: optimizer.state[weight] for name, weight in model.named_parameters() if optimizer.state.get(weight)}


def _restore_optimizer(model: Any, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    for name, weight in model.named_parameters():
        prefix = f"{_OPTIMIZER}{name}/"
        entries = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        if entries:
            optimizer.state[weight] = {key: tensor.to(weight.device) for key, tensor in entries.items()}


def _rng_states() -> dict[str, torch.Tensor]:
    """torch's generators; nothing in the loop draws from Python's or numpy's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
