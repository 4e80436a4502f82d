"""The models on this server that jobs may name, for those who choose one."""

from collections.abc import Iterator
from pathlib import Path

from nearfirst.contracts.training import KnownModel, ModelSpec
from nearfirst.estimates.model_files import read_model_folder
from nearfirst.estimates.sizes import num_elements
from nearfirst.settings import Settings

MOST_MODELS = 100
_DEPTH = 2  # a folder, or OWNER/NAME
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def list_models(settings: Settings) -> list[KnownModel]:
    """Model folders below the allowed roots, by path: the first `MOST_MODELS`."""
    found = (folder for root in settings.allowed_roots for folder in _model_folders(root, _DEPTH))
    return [_described(folder) for folder, _ in zip(found, range(MOST_MODELS), strict=False)]


def _model_folders(folder: Path, depth: int) -> Iterator[Path]:
    try:
        inner = sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:  # a root that isn't there, or that this process may not list
        return
    for each in inner:
        if (each / "config.json").is_file():
            yield each
        elif depth > 1:
            yield from _model_folders(each, depth - 1)


def _described(folder: Path) -> KnownModel:
    has_weights = any((folder / name).is_file() for name in _WEIGHTS)
    spec = ModelSpec(name_or_path=str(folder), init="pretrained" if has_weights else "random")
    tensors = read_model_folder(spec).tensors
    return KnownModel(
        name_or_path=str(folder),
        has_weights=has_weights,
        num_parameters=None if tensors is None else num_elements(tensors),
    )
