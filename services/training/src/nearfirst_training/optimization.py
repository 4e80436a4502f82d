"""AdamW and the learning rate over steps."""

import math
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from nearfirst.contracts.training import OptimizerSpec, ScheduleSpec


def make_optimizer(model: Any, spec: OptimizerSpec) -> torch.optim.AdamW:
    """AdamW over every weight; weight decay acts on matrices only, not on norms and biases (as nanoGPT has it)."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=spec.lr, betas=spec.betas, eps=spec.eps, fused=True
    )


def learning_rate(step: int, num_steps: int, spec: ScheduleSpec, peak: float) -> float:
    """Learning rate of a step.

    Rises linearly over `warmup_steps` (step w has the peak), then stays (constant) or falls to exactly
    `final_ratio * peak` at the last step, along a half cosine or a line. A last step that is also the first one after
    the warmup has the peak.

    Args:
        step: from 1.
        num_steps: steps of the whole run.
        spec: the schedule.
        peak: highest learning rate.

    >>> spec = ScheduleSpec(kind="linear", final_ratio=0.5)
    >>> [learning_rate(step, 3, spec, 1.0) for step in (1, 2, 3)]
    [1.0, 0.75, 0.5]
    """
    if step < spec.warmup_steps:
        return peak * step / spec.warmup_steps
    if spec.kind == "constant":
        return peak
    first = max(spec.warmup_steps, 1)
    done = (step - first) / (num_steps - first) if num_steps > first else 0.0
    falling = (1 + math.cos(math.pi * done)) / 2 if spec.kind == "cosine" else 1 - done
    return peak * (spec.final_ratio + (1 - spec.final_ratio) * falling)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every weight this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value


def clip_gradients(model: Any, max_norm: float | None) -> torch.Tensor:
    """Scale the gradients down to `max_norm`; None leaves them.

    Returns:
        Their norm before, a scalar; not finite when any gradient isn't.
    """
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm
