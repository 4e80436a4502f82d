"""The demo's tiny Llama, as small as a test wants it."""

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
