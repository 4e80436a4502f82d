"""The folder that a training job writes, and the logs in it.

spec.json         what the weights depend on; a resumed run must have the same
job.json          the job as it was asked for
dataset.json      digest and size of the training dataset
order.jsonl       the order that was trained on
consumed.jsonl    one line a step: {"step": t, "ids": [...], "head": hex}
metrics.jsonl     one line a measurement: {"step": t, "name": ..., "value": ...}
receipt.json      contracts.receipts.Receipt; written last
lock              held by the one process that works in the folder
checkpoints/      see checkpoints.py
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nearfirst.contracts.problems import CorruptArtifact, InvalidInput, NotReady, NotWritten, StateConflict
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.training import MetricRow

LOCK = "lock"
_LOCK_POLL_S = 0.1
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_MADE_BEFORE_START = {"job.json", LOCK}
"""Files that whoever starts a job may put into its folder."""


class FolderBusy(StateConflict):
    """Another process works in the run's folder; it can be tried again."""


class RunFolder:
    """Paths and files of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = path / "spec.json"
        self.job = path / "job.json"
        self.dataset = path / "dataset.json"
        self.order = path / "order.jsonl"
        self.consumed = path / "consumed.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.receipt = path / "receipt.json"
        self.checkpoints = path / "checkpoints"

    @contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Keep every other process out of the folder, waiting for one that is still in it.

        Raises:
            FolderBusy: another process was in it all the time.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("w") as lock:
            give_up_s = time.monotonic() + wait_s
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up_s:
                        raise FolderBusy(f"another training process is working in {self.path}") from None
                    time.sleep(_LOCK_POLL_S)
            yield

    def refuse_when_used(self) -> None:
        """Refuse to start a new run over an old one.

        Raises:
            InvalidInput: the folder has something in it, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInput(f"out: {self.path} is a file; a folder is wanted")
        if self.path.is_dir() and {entry.name for entry in self.path.iterdir()} - _MADE_BEFORE_START:
            raise InvalidInput(
                f"out: folder {self.path} isn't empty; give another one, or resume the run that is in it"
            )

    def read_receipt(self) -> Receipt:
        """The finished run's receipt.

        Raises:
            NotReady: there is none: the run hasn't finished.
        """
        if not self.receipt.is_file():
            raise NotReady(f"{self.path} has no receipt.json: no training run has finished there")
        return Receipt.model_validate_json(self.receipt.read_bytes())


@contextmanager
def explained_disk_errors(folder: RunFolder) -> Iterator[None]:
    """Say what it means when a file of the run can't be written.

    Raises:
        NotWritten: in place of the system's error, when the disk is full, say.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise NotWritten(f"{error.filename or folder.path} can't be written: {error.strerror}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class JsonLog:
    """A file of JSON lines that grows by whole lines, each of a step, in step order."""

    def __init__(self, path: Path, *, keep_through: int | None) -> None:
        """Open the log; keep its lines up to step `keep_through`, None: start an empty one."""
        kept = [] if keep_through is None else [line for line in read_log(path) if line["step"] <= keep_through]
        partial = path.with_name(path.name + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(_line(entry) for entry in kept)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        # No buffer: on a full disk its rest would fail once more when the file is closed, over the first reason.
        self._file = path.open("ab", buffering=0)

    def append(self, *entries: dict[str, Any]) -> None:
        """Add lines and hand them to the system, so that a killed process loses none."""
        rest = "".join(map(_line, entries)).encode()
        while rest:
            rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Force the lines to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def consumed_line(step: int, ids: Sequence[str], head: bytes) -> dict[str, Any]:
    """One step's line of consumed.jsonl."""
    return {"step": step, "ids": list(ids), "head": head.hex()}


def metric_line(row: MetricRow) -> dict[str, Any]:
    """One measurement's line of metrics.jsonl."""
    return row.model_dump()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; a last line without its end (the process was killed while writing it) is dropped.

    Raises:
        CorruptArtifact: a whole line isn't JSON; the detail names it.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise CorruptArtifact(f"{path} line {number} isn't JSON: {error}") from error
