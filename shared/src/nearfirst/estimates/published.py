"""Configurations of hub models that presets name, so that what they take is known before they are downloaded."""

from collections.abc import Mapping
from typing import Any

PUBLISHED_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # Touvron et al. 2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models"; the fields of its config.json on the
    # hub that sizes depend on.
    "meta-llama/Llama-2-7b-hf": {
        "model_type": "llama",
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "tie_word_embeddings": False,
    },
}
"""By hub id."""
