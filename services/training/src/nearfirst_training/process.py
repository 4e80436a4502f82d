"""A training process as its worker sees it: messages, and an end that leaves nothing behind."""

import json
import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)

_LAST_WORDS_BYTES = 2000
_SHOWN_BYTES = 200


class TrainingProcess:
    """A process group of its own; leaving the `with` block ends what is left of it."""

    def __init__(self, command: Sequence[str], stderr_path: Path, *, grace_s: float = 20.0) -> None:
        """Start it.

        Args:
            command: program and arguments.
            stderr_path: where its standard error goes.
            grace_s: how long `interrupt` waits for the state to be saved.
        """
        self._stderr_path = stderr_path
        self._grace_s = grace_s
        empty = stderr_path.parent / "cwd"
        empty.mkdir(exist_ok=True)
        self.result: dict[str, Any] | None = None
        """What it said in its `result` message."""
        self.error: dict[str, Any] | None = None
        """What it said in its `error` message."""
        with stderr_path.open("ab") as stderr:
            # An empty working directory: a model's hub id can't be taken for a folder that happens to be there.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                cwd=empty,
            )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="training output", daemon=True)
        self._reader.start()
        self._has_ended = False

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative: by that signal; None while it runs."""
        return self._process.poll()

    def messages(self, *, wait_s: float) -> list[dict[str, Any]] | None:
        """What it said since the last call, waiting at most `wait_s` for the first; None once it has ended."""
        if self._has_ended:
            return None
        found: list[dict[str, Any]] = []
        try:
            message = self._messages.get(timeout=wait_s)
            while True:
                if message is None:
                    self._has_ended = True
                    self._process.wait()
                    break
                found.append(message)
                message = self._messages.get_nowait()
        except queue.Empty:
            pass
        return found

    def interrupt(self) -> None:
        """Ask it to save its state and end; kill it when it doesn't in time."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the whole process group at once."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """The end of its standard error."""
        return self._stderr_path.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace").strip()

    def __enter__(self) -> "TrainingProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal(signal.SIGKILL)  # the group may outlive its leader
        self._process.wait()
        self._reader.join()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as lines:
                for line in lines:
                    self._take(line)
        finally:
            self._messages.put(None)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # a process that is killed ends in the middle of a line
            log.warning("not a message: %r", line[:_SHOWN_BYTES])
            return
        if message["type"] == "result":
            self.result = message["result"]
        elif message["type"] == "error":
            self.error = message
        self._messages.put(message)
