"""The weights of a model by name and shape, from its configuration alone: Llama, Mistral, Qwen2 and Gemma.

Legend: V vocabulary, D hidden size, I intermediate size, H heads, K key-value heads, d head dimension, L layers.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nearfirst.contracts.training import LoraSpec
from nearfirst.estimates.sizes import Shape, num_elements

_OUTPUT = "lm_head.weight"
_EMBEDDINGS = "model.embed_tokens.weight"


@dataclass(frozen=True)
class _Family:
    """Where the families differ, and what transformers takes for a field that a config.json leaves out."""

    ties_embeddings: bool
    has_qkv_bias: bool | None
    """None: what the field `attention_bias` says."""
    has_output_bias: bool | None
    """Of o_proj; None: as the others."""
    has_mlp_bias: bool | None
    """None: what the field `mlp_bias` says."""
    num_key_value_heads: int | None
    """None: as many as heads."""
    head_dim: int | None
    """None: hidden size / heads."""


_FAMILIES = {
    "llama": _Family(False, None, None, None, None, None),
    "mistral": _Family(False, False, False, False, 8, None),
    "qwen2": _Family(False, True, False, False, 32, None),
    "gemma": _Family(True, None, None, False, 16, 256),
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only model, and every weight of it; tied weights once."""

    tensors: Mapping[str, Shape]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    key_value_size: int
    """K * d."""

    @property
    def num_parameters(self) -> int:
        """Elements of all weights."""
        return num_elements(self.tensors)

    @property
    def layer_parameters(self) -> int:
        """Elements of one layer's weights."""
        return sum(math.prod(shape) for name, shape in self.tensors.items() if name.startswith("model.layers.0."))

    @property
    def root_parameters(self) -> int:
        """Elements of what is in no layer: embeddings, last norm, output layer."""
        return self.num_parameters - self.num_layers * self.layer_parameters

    @property
    def matrix_parameters(self) -> int:
        """Elements of the weights of matrix products; the output layer's too when they are the embeddings'."""
        products = sum(
            math.prod(shape) for name, shape in self.tensors.items() if len(shape) == 2 and name != _EMBEDDINGS
        )
        return products if _OUTPUT in self.tensors else products + self.vocab_size * self.hidden_size

    def adapters(self, spec: LoraSpec) -> dict[str, Shape]:
        """The weights that PEFT adds: (rank, inputs) and (outputs, rank) for each linear layer that is adapted."""
        found: dict[str, Shape] = {}
        for name, shape in self._linear_layers():
            if spec.target_modules is None or name.rsplit(".", 1)[-1] in spec.target_modules:
                found[f"base_model.model.{name}.lora_A.weight"] = (spec.rank, shape[1])
                found[f"base_model.model.{name}.lora_B.weight"] = (shape[0], spec.rank)
        return found

    def _linear_layers(self) -> Iterator[tuple[str, Shape]]:
        for name, shape in self.tensors.items():
            if len(shape) == 2 and name not in (_OUTPUT, _EMBEDDINGS):
                yield name.removesuffix(".weight"), shape


class UnknownShape(Exception):
    """A model whose size this module can't tell; the message says why."""


def shape_of_config(config: Mapping[str, Any]) -> ModelShape:
    """The weights that transformers makes for a config.json.

    Raises:
        UnknownShape: another family, or a field that is missing or no number.
    """
    family_name = config.get("model_type")
    family = _FAMILIES.get(family_name) if isinstance(family_name, str) else None
    if family is None:
        raise UnknownShape(f"model_type {family_name!r}: sizes are known for {', '.join(_FAMILIES)}")
    vocab, hidden, inner, layers, heads = (
        _number(config, name)
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    )
    key_value_heads = _number(config, "num_key_value_heads", family.num_key_value_heads or heads)
    head_dim = _number(config, "head_dim", family.head_dim or hidden // heads)
    tensors: dict[str, Shape] = {_EMBEDDINGS: (vocab, hidden)}
    for layer in range(layers):
        linear = _layer(config, family, hidden, inner, heads * head_dim, key_value_heads * head_dim)
        tensors |= {f"model.layers.{layer}.{name}": shape for name, shape in linear.items()}
    tensors["model.norm.weight"] = (hidden,)
    if not bool(config.get("tie_word_embeddings", family.ties_embeddings)):
        tensors[_OUTPUT] = (vocab, hidden)
    return ModelShape(tensors, vocab, hidden, inner, layers, heads, key_value_heads * head_dim)


def _layer(
    config: Mapping[str, Any], family: _Family, hidden: int, inner: int, query_size: int, key_value_size: int
) -> dict[str, Shape]:
    """Weights of one layer, by their names in it."""
    has_attention_bias, has_mlp_bias = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
    has_qkv_bias = has_attention_bias if family.has_qkv_bias is None else family.has_qkv_bias
    has_output_bias = has_qkv_bias if family.has_output_bias is None else family.has_output_bias
    has_mlp_bias = has_mlp_bias if family.has_mlp_bias is None else family.has_mlp_bias
    linear = {
        "self_attn.q_proj": (query_size, hidden, has_qkv_bias),
        "self_attn.k_proj": (key_value_size, hidden, has_qkv_bias),
        "self_attn.v_proj": (key_value_size, hidden, has_qkv_bias),
        "self_attn.o_proj": (hidden, query_size, has_output_bias),
        "mlp.gate_proj": (inner, hidden, has_mlp_bias),
        "mlp.up_proj": (inner, hidden, has_mlp_bias),
        "mlp.down_proj": (hidden, inner, has_mlp_bias),
    }
    weights: dict[str, Shape] = {}
    for name, (outputs, inputs, has_bias) in linear.items():
        weights[f"{name}.weight"] = (outputs, inputs)
        if has_bias:
            weights[f"{name}.bias"] = (outputs,)
    norms: dict[str, Shape] = {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    return weights | norms


def _number(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise UnknownShape(f"config.json: {name} is {value!r}, wanted a positive number")
    return value
