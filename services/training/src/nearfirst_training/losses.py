"""Token losses: the one forward pass that training and evaluation share."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from nearfirst_training.batches import MicroBatch


def precision_context(precision: Literal["fp32", "bf16"], device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context of a precision: bf16 matrix products over fp32 weights, or nothing at all."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def unwrapped(model: Any) -> Any:
    """The transformers model, whatever shares its gradients."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def token_losses(model: Any, batch: MicroBatch) -> torch.Tensor:
    """Negative log-likelihood of each scored token, in nats.

    Args:
        model: a transformers causal language model, or one that shares its gradients with other ranks.
        batch: a padded micro-batch on the model's device.

    Returns:
        (S,) fp32, in the order of `batch.targets`; the softmax is taken in fp32 whatever the autocast.

    Notes:
        Logits are computed where a scored token is predicted from and nowhere else: S x V of them instead of b x T x V.
    """

    def select(_head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden_bTD = inputs[0]
        return (hidden_bTD.flatten(0, 1).index_select(0, batch.predictors)[None],)

    hook = unwrapped(model).get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits_1SV = model(input_ids=batch.input_ids, use_cache=False).logits
    finally:
        hook.remove()
    return cross_entropy(logits_1SV[0].float(), batch.targets, reduction="none")
