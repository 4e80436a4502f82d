"""Checkpoints that are either whole or not there.

    checkpoints/step-000010/weights/   model.safetensors, config.json, tokenizer files, manifest.json
    checkpoints/step-000010/state/     state.safetensors (model, optimizer, RNG), state.json, manifest.json

A checkpoint is written into a `.partial` folder, synced, its manifest last, and renamed. The manifest has the size and
sha256 of every file. Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfirst.contracts.training import Checkpoint, CheckpointTier
from nearfirst_training.provenance import git_revision, package_versions

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20


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
) -> Checkpoint:
    """Write one checkpoint, atomically.

    Args:
        root: the run's `checkpoints` folder.
        tier: weights or state.
        step: optimizer steps that are in it.
        receipt_head: h_step, hex.
        identity: the run's digests.
        fill: writes the files into the folder that it is given.

    Returns:
        The complete checkpoint. One of the same bytes that is there already is left as it is; a different one is
        replaced.
    """
    final = root / f"step-{step:06d}" / tier
    partial = final.with_name(f"{tier}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    files = {}
    for path in sorted(partial.iterdir()):
        files[path.name] = {"size_bytes": path.stat().st_size, "sha256": _sha256_of(path)}
        _sync(path)
    manifest = {
        "step": step,
        "tier": tier.value,
        "receipt_head": receipt_head,
        "spec_digest": identity.spec_digest,
        "arrangement_digest": identity.arrangement_digest,
        "dataset_digest": identity.dataset_digest,
        "packages": package_versions(),
        "git_revision": git_revision(),
        "files": files,
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    _sync(partial / MANIFEST)
    _sync(partial)
    _put_in_place(partial, final)
    checkpoint = read_checkpoint(final)
    assert checkpoint is not None
    return checkpoint


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


def retain_states(root: Path, keep: int) -> None:
    """Delete all state checkpoints but the newest `keep`."""
    for checkpoint in list_checkpoints(root, CheckpointTier.STATE)[:-keep]:
        folder = Path(checkpoint.path)
        delete_checkpoint(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


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
