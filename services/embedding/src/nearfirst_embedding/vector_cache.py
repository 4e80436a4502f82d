"""Vectors of texts, kept in a file between runs.

One SQLite database for all encoders and processes of a machine. A row is `key -> payload`: the key is a hash of the
encoder's key and the text (`text_key`), the payload the vector's bytes with the text's token count, its truncation flag
and a checksum. What doesn't match its checksum is logged and computed anew; a database that SQLite can't read is logged
and replaced; one that can't be written (read-only, full, locked too long) is logged and done without. Nothing here ever
fails a run or returns a wrong vector.

Each call opens and closes its own connection, so that no connection crosses a fork or a thread.
"""

import fcntl
import hashlib
import logging
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nearfirst_embedding.settings import get_embedding_settings

log = logging.getLogger(__name__)

FILE_NAME = "vectors.sqlite"
_KEYS_A_STATEMENT = 4096  # SQLite takes 32,766 parameters
_LOCKED_TIMEOUT_S = 30.0
_HEADER = struct.Struct("<I?")
_CHECKSUM_BYTES = 16
_UNREADABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CachedVector:
    """What the cache knows of a text."""

    vector: npt.NDArray[np.float32]
    """(D,) float32, bit for bit as it was computed."""
    num_tokens: int
    truncated: bool


def text_key(namespace: str, text: str) -> bytes:
    """The name of a text's vector: 32 bytes, sha256 of the namespace and the text.

    Args:
        namespace: everything but the text that decides the vector: encoder key and kind of processor.
        text: without lone surrogates.
    """
    digest = hashlib.sha256(hashlib.sha256(namespace.encode()).digest())
    digest.update(text.encode())
    return digest.digest()


class VectorCache:
    """A cache in one folder, for any number of processes at once."""

    def __init__(self, folder: Path) -> None:
        """Nothing is opened or made before the first call.

        Args:
            folder: made when it doesn't exist; holds `vectors.sqlite` and SQLite's own files beside it.
        """
        self.path = folder / FILE_NAME

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, CachedVector]:
        """The vectors of those keys that are stored and whole. Time: about a second for 100,000 keys."""
        distinct = list(dict.fromkeys(keys))

        def read(connection: sqlite3.Connection) -> dict[bytes, CachedVector]:
            found: dict[bytes, CachedVector] = {}
            for start in range(0, len(distinct), _KEYS_A_STATEMENT):
                part = distinct[start : start + _KEYS_A_STATEMENT]
                places = ",".join("?" * len(part))
                for key, payload in connection.execute(
                    f"SELECT key, payload FROM vectors WHERE key IN ({places})",
                    part,
                ):
                    entry = _unpack(key, payload)
                    if entry is not None:
                        found[key] = entry
            return found

        return self._with_database(read) or {}

    def store(self, entries: Mapping[bytes, CachedVector]) -> None:
        """Keep entries, in one transaction; what was stored under their keys is replaced."""

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO vectors (key, payload) VALUES (?, ?)",
                    ((key, _pack(key, entry)) for key, entry in entries.items()),
                )

        self._with_database(write)

    def num_vectors(self) -> int:
        """How many vectors are stored, of all encoders."""

        def count(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])

        return self._with_database(count) or 0

    def size_bytes(self) -> int:
        """Bytes on disk, SQLite's journal included."""
        return sum(path.stat().st_size for path in _database_files(self.path) if path.exists())

    def _with_database(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """What `work` returns on a connection; None when the database can't be used, which is logged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            inode = _inode(self.path)
            try:
                return self._once(work)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", None) not in _UNREADABLE:
                    raise
                log.warning("embedding cache %s is corrupt, starting a new one: %s", self.path, error)
                self._remove(inode)
                return self._once(work)
        except (sqlite3.Error, OSError) as error:
            log.warning("embedding cache %s can't be used, going on without: %s", self.path, error)
            return None

    def _once(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with closing(sqlite3.connect(self.path, timeout=_LOCKED_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last rows, never the file
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, payload BLOB NOT NULL)")
            return work(connection)

    def _remove(self, inode: int | None) -> None:
        """Remove the database, unless another process has put a new one in the place of `inode` by now."""
        with _exclusive(self.path.with_name(f"{FILE_NAME}.lock")):
            if _inode(self.path) == inode:
                for path in _database_files(self.path):
                    path.unlink(missing_ok=True)


def open_vector_cache() -> VectorCache | None:
    """The cache that this process's settings name; None when they turn it off."""
    folder = get_embedding_settings().cache_folder
    return None if folder is None else VectorCache(folder)


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _database_files(path: Path) -> list[Path]:
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that other processes respect."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pack(key: bytes, entry: CachedVector) -> bytes:
    content = _HEADER.pack(entry.num_tokens, entry.truncated) + entry.vector.astype("<f4").tobytes()
    return content + _checksum(key, content)


def _unpack(key: bytes, payload: object) -> CachedVector | None:
    """A payload's entry; None, and a line in the log, when it isn't what was stored under this key."""
    smallest = _HEADER.size + 4 + _CHECKSUM_BYTES
    if isinstance(payload, bytes) and len(payload) >= smallest:
        content, checksum = payload[:-_CHECKSUM_BYTES], payload[-_CHECKSUM_BYTES:]
        if checksum == _checksum(key, content):
            num_tokens, truncated = _HEADER.unpack_from(content)
            vector = np.frombuffer(content, dtype="<f4", offset=_HEADER.size).astype(np.float32, copy=False)
            return CachedVector(vector, num_tokens, truncated)
    log.warning("embedding cache: the entry %s is corrupt and will be computed anew", key.hex())
    return None


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES, key=key).digest()
