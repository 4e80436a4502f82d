"""Checkpoints that are either whole or not there.

    checkpoints/step-000010/weights/   model.safetensors, config.json, tokenizer files, manifest.json
    checkpoints/step-000010/state/     state.safetensors (model, optimizer, RNG; one of each FSDP rank), state.json,
                                       manifest.json

A checkpoint is written into a `.partial` folder by all ranks, synced, its manifest last, and renamed. The manifest has
the size and sha256 of every file. Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError

from nearfirst.contracts.problems import CheckpointNotWritten
from nearfirst.contracts.training import Checkpoint, CheckpointTier
from nearfirst_training.provenance import git_revision, package_versions

T = TypeVar("T")

MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_CHUNK_BYTES = 1 << 20


class Peers(Protocol):
    """The ranks that write a checkpoint together (`world.World`)."""

    @property
    def rank(self) -> int:
        """This one."""

    @property
    def is_main(self) -> bool:
        """Whether this one writes the manifest."""

    def gather_in_background(self, value: T) -> list[T]:
        """Every rank's value, by rank."""


class _Alone:
    rank = 0
    is_main = True

    def gather_in_background(self, value: T) -> list[T]:
        return [value]


@dataclass(frozen=True)
class RunIdentity:
    """The digests that every checkpoint of a run carries."""

    spec_digest: str
    arrangement_digest: str
    dataset_digest: str


def write_checkpoint(
    root: Path,
    tier: CheckpointTier,
    step: int,
    *,
    receipt_head: str,
    identity: RunIdentity,
    fill: Callable[[Path], None],
    peers: "Peers | None" = None,
) -> Checkpoint:
    """Write one checkpoint, atomically. For all ranks to call together, in their writing threads.

    Args:
        root: the run's `checkpoints` folder, which all ranks share.
        tier: weights or state.
        step: optimizer steps that are in it.
        receipt_head: h_step, hex.
        identity: the run's digests.
        fill: writes this rank's files into the folder that it is given; no two ranks write one of the same name.
        peers: all ranks; None: there is one.

    Returns:
        The complete checkpoint. One of the same bytes that is there already is left as it is; a different one is
        replaced.

    Raises:
        CheckpointNotWritten: on every rank, when a rank couldn't write; what was there before is as it was.
    """
    peers = peers or _Alone()
    what = f"{tier} checkpoint of step {step}"
    final = root / f"step-{step:06d}" / tier
    partial = final.with_name(tier + _PARTIAL)
    with _removed_on_failure(partial, peers):
        _together(peers, what, lambda: _make_empty(partial) if peers.is_main else None)
        parts = _together(peers, what, lambda: _filled(partial, peers.rank, fill))
        manifest = {
            "step": step,
            "tier": tier.value,
            "receipt_head": receipt_head,
            "spec_digest": identity.spec_digest,
            "arrangement_digest": identity.arrangement_digest,
            "dataset_digest": identity.dataset_digest,
            "packages": package_versions(),
            "git_revision": git_revision(),
            "files": {name: entry for part in parts for name, entry in sorted(part.items())},
        }

        def finish() -> None:
            if peers.is_main:
                _write_manifest(partial, manifest)
                _put_in_place(partial, final)

        _together(peers, what, finish)
    checkpoint = read_checkpoint(final)
    assert checkpoint is not None
    return checkpoint


@contextmanager
def _removed_on_failure(partial: Path, peers: Peers) -> Iterator[None]:
    """Give back the space of what was half written: the run's logs may need it to end in order."""
    try:
        yield
    except CheckpointNotWritten:
        if peers.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _together(peers: "Peers", what: str, work: Callable[[], T]) -> list[T]:
    """What every rank's work returns; when it fails on one, it has failed on all."""
    failure, found = None, None
    try:
        found = work()
    except (OSError, SafetensorError) as error:
        failure = str(error)
    answers = peers.gather_in_background((failure, found))
    failures = [f"{reason} (on rank {rank})" for rank, (reason, _) in enumerate(answers) if reason is not None]
    if failures:
        raise CheckpointNotWritten(f"{what}: {'; '.join(failures)}")
    return [each for _, each in answers]  # type: ignore[misc]  # nobody failed


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _filled(folder: Path, rank: int, fill: Callable[[Path], None]) -> dict[str, dict[str, Any]]:
    """Size and digest of each file that this rank writes into the folder."""
    own = folder / f"rank-{rank}"
    own.mkdir()
    fill(own)
    files = {}
    for path in sorted(own.iterdir()):
        files[path.name] = {"size_bytes": path.stat().st_size, "sha256": _sha256_of(path)}
        _sync(path)
        path.rename(folder / path.name)
    own.rmdir()
    return files


def _write_manifest(partial: Path, manifest: dict[str, Any]) -> None:
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    _sync(partial / MANIFEST)
    _sync(partial)


def _put_in_place(partial: Path, final: Path) -> None:
    """Rename, unless the same checkpoint is there."""
    if read_checkpoint(final) is not None and (final / MANIFEST).read_bytes() == (partial / MANIFEST).read_bytes():
        shutil.rmtree(partial)
        return
    delete_checkpoint(final)
    partial.rename(final)
    _sync(final.parent)
    _sync(final.parent.parent)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder; None when there is none, or not a whole one (no manifest, a file of another size)."""
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        sizes = {name: entry["size_bytes"] for name, entry in manifest["files"].items()}
        if any((folder / name).stat().st_size != size for name, size in sizes.items()):
            return None
        return Checkpoint(
            step=manifest["step"],
            tier=manifest["tier"],
            path=str(folder),
            size_bytes=sum(sizes.values()) + len(raw),
            digest=f"sha256:{hashlib.sha256(raw).hexdigest()}",
            receipt_head=manifest["receipt_head"],
        )
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError):
        return None


def list_checkpoints(root: Path, tier: CheckpointTier | None = None) -> list[Checkpoint]:
    """Complete checkpoints under a run's `checkpoints` folder, by step; None: both tiers, weights first."""
    tiers = [tier] if tier is not None else [CheckpointTier.WEIGHTS, CheckpointTier.STATE]
    found = (read_checkpoint(folder / each) for folder in sorted(root.glob("step-*")) for each in tiers)
    return sorted((each for each in found if each is not None), key=lambda each: each.step)


def delete_checkpoint(folder: Path) -> None:
    """Delete a checkpoint, its manifest first, so that no moment shows a broken one as whole."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_broken(root: Path) -> None:
    """Delete what killed processes have left half written or half deleted under a run's `checkpoints` folder."""
    for folder in root.glob("step-*/*"):
        if folder.suffix == _PARTIAL or read_checkpoint(folder) is None:
            delete_checkpoint(folder)


def retain(root: Path, tier: CheckpointTier, keep: int | None) -> list[int]:
    """Delete all checkpoints of a tier but the newest `keep` (None: none is deleted); returns the steps of those."""
    old = [] if keep is None else list_checkpoints(root, tier)[:-keep]
    for checkpoint in old:
        folder = Path(checkpoint.path)
        delete_checkpoint(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    return [checkpoint.step for checkpoint in old]


def damaged_files(checkpoint: Checkpoint) -> Iterator[str]:
    """Names of the checkpoint's files whose bytes aren't those of its manifest."""
    folder = Path(checkpoint.path)
    files: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["files"]
    for name, entry in files.items():
        if _sha256_of(folder / name) != entry["sha256"]:
            yield name


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Force a file's or folder's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
