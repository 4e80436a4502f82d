"""Model names and files in requests: hub ids, packaged weights, and paths under an allowed root."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from nearfirst.contracts.problems import InvalidInput, InvalidModel
from nearfirst.data.paths import resolve_under_root
from nearfirst.settings import Settings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_PACKAGE = re.compile(r"package:[\w.-]+")


def is_folder(name: str) -> bool:
    """Whether a model name is a path; `owner/name` is a hub id, `package:name` is a Python package's."""
    return name.startswith((".", "/", "~"))


def resolve_model(name: str, settings: Settings) -> str:
    """A hub id or package as it is; a folder as its absolute path.

    Raises:
        PathNotAllowed: the folder is outside the allowed roots.
        InvalidModel: there is no such folder, it has no config.json, or the name is neither a path nor an id.
    """
    if not is_folder(name):
        # Libraries take an id for a folder where one of that name exists, so an id may not be able to climb anywhere.
        if ".." in name or not (_HUB_ID.fullmatch(name) or _PACKAGE.fullmatch(name)):
            raise InvalidModel(f"model {name!r}: wanted owner/name, package:NAME, or an absolute path to a folder")
        return name
    folder = resolve_under_root(name, settings.allowed_roots)
    if not folder.is_dir():
        raise InvalidModel(f"no model folder {name!r}")
    if not (folder / "config.json").is_file():
        raise InvalidModel(f"model folder {name!r} has no config.json")
    return str(folder)


def resolve_file(name: str, settings: Settings) -> Path:
    """The absolute path of a file of vectors.

    Raises:
        PathNotAllowed: it is outside the allowed roots.
        InvalidInput: there is no such file.
    """
    path = resolve_under_root(name, settings.allowed_roots)
    if not path.is_file():
        raise InvalidInput(f"vectors: got {name!r}, wanted a file in one of the allowed folders")
    return path


def folder_fingerprint(name: str) -> str | None:
    """A digest of a model folder's file names, sizes and times; None for what is named by a hub or package."""
    if not is_folder(name):
        return None
    folder = Path(name)
    return _fingerprint((str(path.relative_to(folder)), path) for path in folder.rglob("*") if path.is_file())


def file_fingerprint(name: str) -> str:
    """A digest of a file's name, size and time."""
    return _fingerprint([(Path(name).name, Path(name))])


def _fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    lines = sorted(f"{name} {path.stat().st_size} {path.stat().st_mtime_ns}" for name, path in files)
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
