"""A store that names bytes by their sha256, so that nothing is written twice and nothing changes unseen.

Layout below the root: `objects/ab/abcdef...` (the hex of the content's sha256). An *artifact* is a set of named files;
its manifest, itself an object, lists their digests and is stored after them, so that a manifest that can be read
always names files that are complete.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import fsspec

from nearfirst.contracts.problems import CorruptArtifact, NotFound

_CHUNK_BYTES = 2**20
_MAX_MANIFEST_BYTES = 2**20
_ASIDE = ".pruned-"
_OBJECT_NAME = re.compile(r"[0-9a-f]{64}")
_NEW = timedelta(hours=1)
"""A remote object that was stored longer ago is stored again, to be as new."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of an artifact."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Bytes of the store."""

    digest: str
    size_bytes: int
    stored_at: datetime
    """When they were last stored."""


def sha256_file(path: Path) -> str:
    """The digest of a file's bytes: `sha256:<hex>`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class Store:
    """Artifacts below one fsspec URL; a plain path is a local folder.

    Remote objects are copied once to `cache`, by digest; local ones are read in place. What is read is verified
    against its digest. Damaged bytes are remembered: their artifact counts as lost until they are stored again.
    """

    def __init__(self, url: str, cache: Path) -> None:
        """`url`: a path or `s3://bucket/prefix`; `cache`: local folder for copies of remote objects."""
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._is_local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else [self._fs.protocol])
        self._cache = cache

    def put_file(self, path: Path) -> StoredFile:
        """Store a file's bytes; a no-op when they are there already. A local copy that was damaged is replaced."""
        digest = sha256_file(path)
        stored = StoredFile(digest, path.stat().st_size)
        target = self._object(digest)
        if self._is_local:
            if not _renew(Path(target), digest):
                _copy_atomically(path, Path(target))
            _damage_note(Path(target)).unlink(missing_ok=True)
        elif not self._fs.exists(target) or _stored_at(self._fs.info(target)) < datetime.now(UTC) - _NEW:
            self._fs.put_file(str(path), target)  # object stores show an object only when it is complete
        return stored

    def put_bytes(self, content: bytes) -> StoredFile:
        """Store bytes."""
        with tempfile.TemporaryDirectory(prefix="nearfirst-") as folder:
            path = Path(folder) / "content"
            path.write_bytes(content)
            return self.put_file(path)

    def put_artifact(self, files: Mapping[str, Path]) -> str:
        """Store named files, then their manifest; returns the manifest's digest, which names the artifact."""
        stored = {name: self.put_file(path) for name, path in files.items()}
        manifest = {"files": {name: {"digest": f.digest, "size_bytes": f.size_bytes} for name, f in stored.items()}}
        return self.put_bytes(json.dumps(manifest, sort_keys=True).encode()).digest

    def files(self, artifact: str) -> dict[str, StoredFile]:
        """The files of an artifact, by name."""
        manifest = json.loads(self.local_path(artifact).read_bytes())
        return {name: StoredFile(**entry) for name, entry in manifest["files"].items()}

    def members(self, root: str) -> list[str]:
        """Digests of the files of an artifact; none of an object that is no artifact's manifest, or can't be read."""
        try:
            if self._fs.size(self._object(root)) > _MAX_MANIFEST_BYTES:
                return []
            manifest = json.loads(self.local_path(root).read_bytes())
            return [str(entry["digest"]) for entry in manifest["files"].values()]
        except (FileNotFoundError, NotFound, CorruptArtifact, ValueError, TypeError, KeyError, AttributeError):
            return []

    def objects(self) -> Iterator[StoredObject]:
        """Every object of the store, in no order."""
        root = f"{self._root}/objects"
        if not self._fs.exists(root):
            return
        for path, info in self._fs.find(root, detail=True).items():
            name = Path(path).name
            if _OBJECT_NAME.fullmatch(name):
                yield StoredObject(f"sha256:{name}", int(info["size"]), _stored_at(info))

    def set_aside(self, digest: str, stored_before: datetime) -> bool:
        """Take an object out of the store, to be deleted or put back: nobody finds it from now on.

        Whoever stores it again at the same time either has made it new before, and it stays, or finds none and stores
        it anew. An object store can't rename: there it stays until `delete_aside`.

        Returns:
            False when it is gone, or was stored at `stored_before` or later.
        """
        target = self._object(digest)
        if not self._is_local:
            return bool(self._fs.exists(target)) and _stored_at(self._fs.info(target)) < stored_before
        aside = aside_of(Path(target))
        try:
            Path(target).rename(aside)
        except FileNotFoundError:
            return False
        if datetime.fromtimestamp(aside.stat().st_mtime, UTC) < stored_before:
            return True
        self.put_back(digest)
        return False

    def put_back(self, digest: str) -> None:
        """Undo `set_aside`."""
        target = Path(self._object(digest))
        if self._is_local and aside_of(target).exists():
            aside_of(target).rename(target)  # over the same bytes, where they were stored again

    def put_all_back(self) -> None:
        """Undo every `set_aside` that was neither undone nor completed: whoever did it was killed."""
        if self._is_local:
            for aside in Path(self._root).glob(f"objects/*/{aside_of(Path('*')).name}"):
                aside.rename(original_of(aside))

    def delete_aside(self, digest: str, stored_before: datetime) -> None:
        """Delete an object that was set aside.

        Of an object store, unless it was stored again meanwhile; one that is stored between this question and the
        deletion, which are two requests, is lost.
        """
        target = self._object(digest)
        if self._is_local:
            aside_of(Path(target)).unlink(missing_ok=True)
        elif self.set_aside(digest, stored_before):
            self._fs.rm_file(target)

    def has_artifact(self, artifact: str) -> bool:
        """Whether the manifest and every file of an artifact are there, and no reader has found a file damaged.

        The files' bytes are not looked at: they may be large.
        """
        try:
            files = self.files(artifact)
        except (NotFound, CorruptArtifact):
            return False
        return all(self._has_object(file.digest) for file in files.values())

    def artifact_file(self, artifact: str, name: str, *, verify: bool = True) -> Path:
        """A local path with one file of an artifact. Don't write to it.

        Args:
            artifact: its digest.
            name: which file.
            verify: False leaves checking the bytes to the reader (an order carries a digest in each row, and so can
                say where it was changed).

        Raises:
            NotFound: the artifact has no such file.
            CorruptArtifact: its bytes differ from its digest.
        """
        files = self.files(artifact)
        if name not in files:
            raise NotFound(f"artifact {artifact} has no file {name!r}; it has {sorted(files)}")
        return self.local_path(files[name].digest, verify=verify)

    def local_path(self, digest: str, *, verify: bool = True) -> Path:
        """A local path with the bytes of this digest, checked unless `verify` is False. Don't write to it.

        Raises:
            NotFound: the store has no such object.
            CorruptArtifact: the bytes differ from the digest.
        """
        source = self._object(digest)
        if not self._fs.exists(source):
            raise NotFound(f"the store has no object {digest}")
        path = Path(source) if self._is_local else self._cached(digest, source)
        if verify and (found := sha256_file(path)) != digest:
            self._remember_damage(path)
            raise CorruptArtifact(f"the stored object {digest} has the digest {found}: its bytes were changed")
        return path

    def _remember_damage(self, path: Path) -> None:
        """Note that a local object is damaged; remove a damaged copy of a remote one, to be fetched again."""
        try:
            if self._is_local:
                _damage_note(path).touch()
            else:
                path.unlink(missing_ok=True)
        except OSError as error:  # a folder that can't be written: the reader hears of the damage all the same
            log.warning("can't note that %s is damaged: %s", path, error)

    def _has_object(self, digest: str) -> bool:
        target = self._object(digest)
        return bool(self._fs.exists(target)) and not (self._is_local and _damage_note(Path(target)).exists())

    def _cached(self, digest: str, source: str) -> Path:
        path = self._cache / digest.removeprefix("sha256:")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as copy:
                self._fs.get_file(source, copy.name)
            Path(copy.name).replace(path)
        return path

    def _object(self, digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return f"{self._root}/objects/{name[:2]}/{name}"


def _stored_at(info: Mapping[str, Any]) -> datetime:
    """When a file was written, as its file system says: local ones in seconds, object stores as a time."""
    written = info.get("LastModified", info.get("mtime"))
    if isinstance(written, datetime):
        return written if written.tzinfo else written.replace(tzinfo=UTC)
    return datetime.fromtimestamp(written, UTC) if written is not None else datetime.now(UTC)


def _renew(target: Path, digest: str) -> bool:
    """Say that a local object was stored now; False when it isn't there, is damaged, or vanishes meanwhile."""
    try:
        if sha256_file(target) != digest:
            return False
        os.utime(target)  # `objects` says when it was last stored: what is wanted again is new
    except FileNotFoundError:
        return False
    return target.exists()


def aside_of(path: Path) -> Path:
    """Where a file or folder that is to be deleted waits, beside its place."""
    return path.with_name(f"{_ASIDE}{path.name}")


def original_of(aside: Path) -> Path:
    """The place of what waits at `aside`."""
    return aside.with_name(aside.name.removeprefix(_ASIDE))


def _damage_note(target: Path) -> Path:
    """An empty file beside an object whose bytes were found to be changed."""
    return target.with_name(f"{target.name}.damaged")


def _copy_atomically(source: Path, target: Path) -> None:
    """Copy to a temporary name, sync, rename: a reader sees all of the file or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".incoming-", delete=False) as copy:
        try:
            with source.open("rb") as original:
                _copy_synced(original, copy)
        except BaseException:
            Path(copy.name).unlink()
            raise
    Path(copy.name).chmod(0o644)
    Path(copy.name).replace(target)


def _copy_synced(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, _CHUNK_BYTES)
    target.flush()
    os.fsync(target.fileno())
