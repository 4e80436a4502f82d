"""The demo's tiny Llama, as small as a test wants it; with weights, and as a reward model."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from nearfirst.client.demo.model import ModelShape, build_model


def make_tiny_llama(
    folder: Path,
    texts: Iterable[str],
    *,
    vocab_size: int = 2048,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    max_length: int = 1024,
) -> Path:
    """A model folder for `init: random`, with tied embeddings; returns `folder`."""
    shape = ModelShape(vocab_size, hidden_size, 8 * hidden_size // 3, layers, heads, max_length)
    with tempfile.TemporaryDirectory() as root:
        built = build_model(Path(root), texts, shape)
        config = {**built.config, "tie_word_embeddings": True}
        (built.folder / "config.json").write_text(json.dumps(config))
        shutil.copytree(built.folder, folder, dirs_exist_ok=True)
    return folder


def write_weights(folder: Path, seed: int) -> Path:
    """Give a model folder random weights, far enough from each other that its answers aren't all the same token."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = json.loads((folder / "config.json").read_text()) | {"initializer_range": 0.4}
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(LlamaConfig(**config)).save_pretrained(folder)
    return folder


def write_reward_weights(folder: Path, seed: int) -> Path:
    """Make a model folder one of a reward model, with UltraRM's own names of tensors."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaModel

    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaRewardModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    trunk = LlamaModel(LlamaConfig(**config))
    tensors = {f"model.{name}": tensor for name, tensor in trunk.state_dict().items()}
    tensors["regression_head.weight"] = torch.randn(1, config["hidden_size"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
