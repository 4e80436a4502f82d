"""Model FLOPs utilisation: what share of a GPU's peak a training step's own arithmetic is."""

from dataclasses import dataclass
from typing import Any

import torch

from nearfirst_training.losses import unwrapped

_DENSE_BF16_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
}
"""Peak of dense bfloat16 products, from the vendor's data sheets; the first name that the device's has in it."""

_FLOPS_PER_WEIGHT_AND_TOKEN = 6
"""Multiply and add, once forward and twice backward; what activation checkpointing computes again doesn't count
(Chowdhery et al. 2022, appendix B). Attention's own products are left out, about a tenth at 1,024 tokens of a 7B
model: the figure is on the low side."""


@dataclass(frozen=True)
class ModelCost:
    """What a token costs, and what the device could do."""

    flops_per_token: float
    peak_flops: float | None
    """None: not a device whose peak is known."""

    @classmethod
    def of(cls, model: Any, device: torch.device) -> "ModelCost":
        """Of a model whose embeddings look tokens up and multiply nothing."""
        bare = unwrapped(model)
        num_weights = sum(weight.numel() for weight in bare.parameters())
        looked_up = bare.get_input_embeddings().weight
        is_tied = bare.get_output_embeddings().weight is looked_up
        num_multiplied = num_weights if is_tied else num_weights - looked_up.numel()
        return cls(_FLOPS_PER_WEIGHT_AND_TOKEN * num_multiplied, _peak_flops(device))

    def utilisation(self, tokens_per_s: float) -> float | None:
        """The share of one device's peak at so many tokens a second on it; None where the peak isn't known."""
        return None if self.peak_flops is None else tokens_per_s * self.flops_per_token / self.peak_flops


def _peak_flops(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for known, flops in _DENSE_BF16_FLOPS.items() if known in name), None)
