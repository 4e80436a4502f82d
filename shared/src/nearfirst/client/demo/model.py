"""A tiny Llama for the demo: a configuration and a tokenizer trained on the data; training draws the weights."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a Llama; the defaults give about 1.3 M parameters."""

    vocab_size: int = 2048
    """Most tokens of the tokenizer; a text with fewer pairs to merge gives fewer."""
    hidden_size: int = 128
    intermediate_size: int = 344
    layers: int = 4
    heads: int = 4
    max_length: int = 1024
    """Longest sequence, in tokens."""

    def num_parameters(self, vocab_size: int) -> int:
        """Parameters with separate input and output embeddings of `vocab_size` tokens."""
        attention = 4 * self.hidden_size**2
        mlp = 3 * self.hidden_size * self.intermediate_size
        norms = 2 * self.hidden_size
        return 2 * vocab_size * self.hidden_size + self.layers * (attention + mlp + norms) + self.hidden_size


@dataclass(frozen=True)
class BuiltModel:
    """A model folder and what is in it."""

    folder: Path
    """Absolute."""
    config: dict[str, Any]
    """The content of config.json."""
    num_parameters: int
    tokenizer_digest: str
    """`sha256:<hex>` of tokenizer.json."""

    def describe(self) -> dict[str, Any]:
        """The report's account of the model."""
        return {
            "num_parameters": self.num_parameters,
            "init": "random",
            "tokenizer_digest": self.tokenizer_digest,
            "config": self.config,
        }

    def title(self) -> str:
        """The model in a few words of the figure."""
        return f"a Llama of {self.num_parameters / 1e6:.1f} M parameters from random weights"


def build_model(root: Path, texts: Iterable[str], shape: ModelShape) -> BuiltModel:
    """Write config.json, tokenizer.json and tokenizer_config.json, as transformers reads them, and no weights.

    The tokenizer is a byte-level BPE without a prefix space, so every text round-trips.

    Args:
        root: the folder of models; the model's own folder in it is named by the tokenizer and the sizes.
        texts: what the tokenizer is trained on; the same texts in the same order give the same files.
        shape: the sizes of the model.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    config = _llama_config(shape, tokenizer.get_vocab())
    tokenizer_json = tokenizer.to_str(pretty=True)
    name = hashlib.sha256((tokenizer_json + json.dumps(config)).encode()).hexdigest()[:12]
    folder = root.resolve() / f"tiny-llama-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(shape))
    _write_json(folder / "config.json", config)
    digest = hashlib.sha256(tokenizer_json.encode()).hexdigest()
    return BuiltModel(folder, config, shape.num_parameters(tokenizer.get_vocab_size()), f"sha256:{digest}")


def _tokenizer_config(shape: ModelShape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": shape.max_length,
        "clean_up_tokenization_spaces": False,
    }


def _llama_config(shape: ModelShape, token_ids: dict[str, int]) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(token_ids),
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.hidden_size // shape.heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.max_length,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": token_ids[BOS],
        "eos_token_id": token_ids[EOS],
        "pad_token_id": token_ids[PAD],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
