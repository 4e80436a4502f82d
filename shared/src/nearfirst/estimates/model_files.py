"""What a model folder says of the model's size, read without torch: config.json and the headers of safetensors."""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from nearfirst.contracts.training import ModelSpec
from nearfirst.estimates.model_shape import ModelShape, UnknownShape, shape_of_config
from nearfirst.estimates.published import PUBLISHED_CONFIGS
from nearfirst.estimates.sizes import Shape

_WEIGHTS, _WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000
"""safetensors' own limit."""
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
)


class ModelFolder(NamedTuple):
    """What a folder says."""

    shape: ModelShape | None
    """None: the configuration is of a family that isn't known, or can't be read."""
    stored: dict[str, Shape] | None
    """The weights in the folder's safetensors; None when training starts from random weights."""
    companion_bytes: int
    """Files that go with the weights into each checkpoint: tokenizer and config.json."""
    remark: str | None
    """Why something isn't known."""

    @property
    def tensors(self) -> dict[str, Shape] | None:
        """Every weight of the model."""
        if self.stored is not None:
            return self.stored
        return None if self.shape is None else dict(self.shape.tensors)


def read_model_folder(spec: ModelSpec) -> ModelFolder:
    """What the files of a model's folder say; of a model that is named by a hub or package, its published sizes or
    nothing, and a remark."""
    folder = Path(spec.name_or_path)
    if not (folder.is_absolute() and folder.is_dir()):
        return _not_here(spec)
    remarks = []
    shape = stored = None
    try:
        shape = shape_of_config(_read_json(folder / "config.json") | (spec.config or {}))
    except (UnknownShape, OSError, ValueError) as error:
        remarks.append(str(error))
    if spec.init == "pretrained":
        try:
            stored = _stored_tensors(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            remarks.append(f"the headers of {folder.name}'s safetensors can't be read: {error}")
    names = ("config.json", *_TOKENIZER_FILES)
    companions = sum((folder / name).stat().st_size for name in names if (folder / name).is_file())
    return ModelFolder(shape, stored, companions, "; ".join(remarks) or None)


def _not_here(spec: ModelSpec) -> ModelFolder:
    missing = f"model {spec.name_or_path!r} isn't a folder here"
    published = PUBLISHED_CONFIGS.get(spec.name_or_path)
    if published is None:
        return ModelFolder(None, None, 0, f"{missing}: its size is known once it is one")
    shape = shape_of_config(dict(published) | (spec.config or {}))
    return ModelFolder(shape, None, 0, f"{missing}: its sizes are those of its published configuration")


def _read_json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: wanted an object, got {type(found).__name__}")
    return found


def _stored_tensors(folder: Path) -> dict[str, Shape]:
    files = [_WEIGHTS]
    if not (folder / _WEIGHTS).is_file():
        index = _read_json(folder / _WEIGHTS_INDEX)["weight_map"]
        files = sorted({Path(str(name)).name for name in index.values()})
    tensors: dict[str, Shape] = {}
    for name in files:
        tensors |= _header(folder / name)
    return tensors


def _header(path: Path) -> dict[str, Shape]:
    """Names and shapes in a safetensors file: 8 bytes with the header's length, then the header as JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} has a header of {length} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} has a header that is no object")
    return {name: tuple(map(int, entry["shape"])) for name, entry in header.items() if name != "__metadata__"}
