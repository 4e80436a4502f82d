"""Memory of one training process.

Weights, gradients and AdamW's moments are exact: 4 bytes each of fp32, the moments twice; fsdp gives each process its
part. What a forward pass leaves for the backward pass is an estimate: the accounting of Korthikanti et al. 2022
("Reducing Activation Recomputation in Large Transformer Models", section 4.1), done again for a Llama layer as
transformers computes it: two RMS norms that keep their fp32 input and its normalized form, no dropout, no stored
attention scores (SDPA and flash attention), a gated MLP.

Legend: b rows, T tokens of a row, D hidden size, I intermediate size, E key-value size, H heads, V vocabulary.

    bytes per token and layer    fp32: 32 D + 8 E + 16 I      bf16 over fp32 weights: 30 D + 4 E + 8 I
    eager attention adds         fp32: 4 H T                  bf16: 6 H T

With activation checkpointing a layer keeps its input (4 D) and one layer at a time has the rest.
"""

from nearfirst.contracts.estimates import MemoryEstimate
from nearfirst.contracts.training import TrainSettings
from nearfirst.estimates.model_shape import ModelShape

_FP32, _BF16 = 4, 2
_LOGIT_BYTES = 14
"""Per logit: of the products' output, its fp32 copy, the logarithm of the softmax, and the gradient."""
_FP32_LOGIT_BYTES = 12
"""The same where the products' output is fp32 itself."""
_GATHERED_LAYERS = 2
"""fsdp puts a layer together while it computes with the one before."""


def memory_estimate(
    shape: ModelShape, settings: TrainSettings, *, num_parameters: int, num_trainable: int, pass_tokens: int, row: int
) -> MemoryEstimate:
    """What one process needs.

    Args:
        shape: sizes of the model.
        settings: strategy, precision, attention, offload and activation checkpointing.
        num_parameters: all that the process computes with, adapters included.
        num_trainable: those that gradients are taken of.
        pass_tokens: padded tokens of the largest forward pass, b * T.
        row: tokens of its longest row, T.
    """
    is_sharded = settings.resolved_strategy == "fsdp"
    parts = settings.num_processes if is_sharded else 1
    weights, gradients = -(-_FP32 * num_parameters // parts), -(-_FP32 * num_trainable // parts)
    states = weights + gradients + 2 * gradients
    on_host = settings.offload_optimizer
    working = _sharded_working_bytes(shape, settings) if is_sharded else _working_bytes(shape, settings)
    activations = _activation_bytes(shape, settings, pass_tokens, row)
    per_logit = _LOGIT_BYTES if settings.precision == "bf16" else _FP32_LOGIT_BYTES
    logits = per_logit * shape.vocab_size * pass_tokens
    return MemoryEstimate(
        strategy=settings.resolved_strategy,
        num_processes=settings.num_processes,
        pass_tokens=pass_tokens,
        weights_bytes=0 if on_host else weights,
        gradient_bytes=0 if on_host else gradients,
        optimizer_bytes=0 if on_host else 2 * gradients,
        working_bytes=working,
        activation_bytes=activations,
        logit_bytes=logits,
        total_bytes=(0 if on_host else states) + working + activations + logits,
        host_bytes=states if on_host else 0,
    )


def _working_bytes(shape: ModelShape, settings: TrainSettings) -> int:
    """bf16 copies of every matrix: autocast makes each once and keeps it until the backward pass is over."""
    return _BF16 * shape.matrix_parameters if settings.precision == "bf16" else 0


def _sharded_working_bytes(shape: ModelShape, settings: TrainSettings) -> int:
    """The layers that are whole at a time, with what is in no layer; and the largest of their gradients, in fp32."""
    element = _BF16 if settings.precision == "bf16" else _FP32
    gathered = shape.root_parameters + _GATHERED_LAYERS * shape.layer_parameters
    return element * gathered + _FP32 * max(shape.root_parameters, shape.layer_parameters)


def _activation_bytes(shape: ModelShape, settings: TrainSettings, pass_tokens: int, row: int) -> int:
    hidden, inner, key_value = shape.hidden_size, shape.intermediate_size, shape.key_value_size
    if settings.precision == "bf16":
        layer = 30 * hidden + 4 * key_value + 8 * inner
        scores = (_FP32 + _BF16) * shape.num_heads * row
    else:
        layer = 32 * hidden + 8 * key_value + 16 * inner
        scores = _FP32 * shape.num_heads * row
    if settings.attention == "eager":
        layer += scores
    if settings.activation_checkpointing:
        per_token = shape.num_layers * _FP32 * hidden + layer
    else:
        per_token = shape.num_layers * layer
    last_norm = 3 * _FP32 * hidden
    return pass_tokens * (per_token + last_norm)
