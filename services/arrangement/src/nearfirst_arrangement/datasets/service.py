"""Rules of datasets: read a file whole or refuse it whole, keep its canonical rows in the store."""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlparse

from nearfirst.contracts.datasets import Dataset, DatasetFormat, DatasetSource
from nearfirst.contracts.problems import InvalidDataset, InvalidInput
from nearfirst.data.dataset import LoadedDataset, load_dataset, write_canonical
from nearfirst.data.paths import resolve_under_root
from nearfirst.registry import records
from nearfirst.registry.database import Database
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.datasets.remote import REMOTE_SCHEMES, download

_CHUNK_BYTES = 2**20
_MAX_TASKS_KEPT = 10_000


def register_upload(
    content: IO[bytes],
    filename: str,
    *,
    format: DatasetFormat | None,
    split: str | None,
    name: str | None,
    settings: Settings,
    database: Database,
    store: Store,
) -> tuple[Dataset, bool]:
    """Register an uploaded file; says whether it is new (same rows under the same name are not)."""
    with tempfile.TemporaryDirectory(prefix="nearfirst-upload-") as folder:
        path = Path(folder) / f"upload{_suffixes(filename)}"
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, _CHUNK_BYTES)
        return _register(path, filename, format, split, name, settings, database, store)


def register_source(
    source: DatasetSource, *, settings: Settings, database: Database, store: Store
) -> tuple[Dataset, bool]:
    """Register what a source names: a file or NIV2 folder under an allowed root, or a remote file."""
    shown = source.source.rstrip("/").rsplit("/", 1)[-1]
    with _local_copy(source.source, settings) as path:
        return _register(path, shown, source.format, source.split, source.name, settings, database, store)


def register_file(
    path: Path, *, split: str | None, name: str, settings: Settings, database: Database, store: Store
) -> Dataset:
    """Register a file of the server's own, once."""
    return _register(path, path.name, None, split, name, settings, database, store)[0]


def _register(
    path: Path,
    shown: str,
    format: DatasetFormat | None,
    split: str | None,
    name: str | None,
    settings: Settings,
    database: Database,
    store: Store,
) -> tuple[Dataset, bool]:
    loaded = load_dataset(path, format=format, split=split, name=shown, limits=settings.read_limits)
    with tempfile.NamedTemporaryFile(prefix="nearfirst-canonical-") as canonical:
        digest = write_canonical(loaded.examples, canonical)
        canonical.flush()
        store.put_file(Path(canonical.name))
    with database.write() as session:
        return records.register_dataset(
            session,
            name=name or shown,
            digest=digest,
            format=loaded.format,
            split=split,
            num_examples=len(loaded.examples),
            num_tasks=loaded.num_tasks,
            task_sizes=_task_sizes(loaded),
        )


def _task_sizes(loaded: LoadedDataset) -> dict[str, int] | None:
    """Task -> its rows; None where a registry row would grow too large with them."""
    return dict(Counter(example.task for example in loaded.examples)) if loaded.num_tasks <= _MAX_TASKS_KEPT else None


def _suffixes(filename: str) -> str:
    """What tells a file's layout: at most its last two suffixes, nothing that could be a path."""
    return "".join(suffix for suffix in Path(filename).suffixes[-2:] if re.fullmatch(r"\.\w{1,10}", suffix))


@contextmanager
def _local_copy(source: str, settings: Settings) -> Iterator[Path]:
    try:
        scheme = urlparse(source).scheme
    except ValueError as error:
        raise InvalidInput(f"source: {source!r} is neither a path nor an address: {error}") from error
    if scheme in REMOTE_SCHEMES:
        with tempfile.TemporaryDirectory(prefix="nearfirst-source-") as folder:
            path = Path(folder) / f"source{_suffixes(source)}"
            download(source, path, settings)
            yield path
        return
    if scheme:
        raise InvalidInput(f"source: got the scheme {scheme!r}, wanted one of {', '.join(REMOTE_SCHEMES)}, or a path")
    path = resolve_under_root(source, settings.allowed_roots)
    if not path.exists():
        raise InvalidDataset(f"source: no file {source!r} under the allowed root")
    yield path
