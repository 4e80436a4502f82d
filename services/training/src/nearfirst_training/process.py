"""A training process as its worker sees it: messages, signs of life, and an end that leaves nothing behind."""

import json
import logging
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nearfirst.contracts.problems import NearfirstError
from nearfirst_training.ending import Exit, exit_of
from nearfirst_training.family import ProcessFamily

log = logging.getLogger(__name__)

_LAST_WORDS_BYTES = 2000
_REPORT_BYTES = 2**16
_SHOWN_BYTES = 200
_POLL_S = 0.05


class TrainingProcess:
    """A process with all that it starts; leaving the `with` block ends what is left of them.

    With several ranks every one writes to the same standard output, so what they say decides, not exit statuses: under
    torchrun these aren't the ranks' own.
    """

    def __init__(
        self, command: Sequence[str], stderr_path: Path, *, environment: Mapping[str, str], grace_s: float = 20.0
    ) -> None:
        """Start it.

        Args:
            command: program and arguments.
            stderr_path: where its standard error goes, after what is there.
            environment: its environment variables.
            grace_s: how long `interrupt` waits for the state to be saved.
        """
        self._stderr_path = stderr_path
        self._grace_s = grace_s
        empty = stderr_path.parent / "cwd"
        empty.mkdir(exist_ok=True)
        self.result: dict[str, Any] | None = None
        """What it said in its `result` message."""
        self.error: dict[str, Any] | None = None
        """Its `error` message; of several the first that has a reason of its own, else the first."""
        self.was_interrupted = False
        """Whether it said `interrupted`."""
        self.has_finished_step = False
        self._advanced_s = time.monotonic()
        self._last_progress: dict[str, Any] = {}
        self._family = ProcessFamily()
        with stderr_path.open("ab") as stderr:
            self._stderr_start = stderr.tell()
            # An empty working directory: a model's hub id can't be taken for a folder that happens to be there.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                cwd=empty,
                env={**environment, **self._family.mark()},
            )
        self._family.leader = self._process.pid
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="training output", daemon=True)
        self._reader.start()
        self._has_ended = False

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative: by that signal; None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    @property
    def idle_s(self) -> float:
        """Seconds since its progress last moved, or since it was started."""
        return time.monotonic() - self._advanced_s

    def how_it_ended(self) -> Exit:
        """The rank that failed first, or the process itself. Once it has ended."""
        code = self._process.wait()
        return exit_of(code, self._stderr_tail(_REPORT_BYTES))

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
            if self._process.poll() is not None:
                self._family.end()  # a child that lives on would keep the output open
        return found

    def interrupt(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Ask it to save its state and end; kill it when it doesn't in time, or when `give_up` says so."""
        self._family.signal_group(signal.SIGTERM)  # torchrun passes it on to the ranks, once
        deadline_s = time.monotonic() + self._grace_s
        while self._process.poll() is None:
            if give_up() or time.monotonic() > deadline_s:
                self.kill()
                return
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it and all that it started, at once; returns when they are gone."""
        self._family.end()
        self._process.wait()

    def last_words(self) -> str:
        """The end of what this process wrote to its standard error."""
        return self._stderr_tail(_LAST_WORDS_BYTES).strip()

    def __enter__(self) -> "TrainingProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()  # others may outlive the process itself
        self._reader.join()

    def _stderr_tail(self, num_bytes: int) -> str:
        return self._stderr_path.read_bytes()[self._stderr_start :][-num_bytes:].decode(errors="replace")

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
        match message["type"]:
            case "result":
                self.result = message["result"]
            case "error":
                self.error = _more_telling(self.error, message)
            case "interrupted":
                self.was_interrupted = True
            case "progress":
                self._note_progress(message)
        self._messages.put(message)

    def _note_progress(self, message: dict[str, Any]) -> None:
        last, self._last_progress = self._last_progress, message
        if (message["unit"], message["done"]) == (last.get("unit"), last.get("done")):
            return
        self._advanced_s = time.monotonic()
        # The first number of steps is where the job starts from.
        self.has_finished_step |= message["unit"] == last.get("unit") == "steps"


def _more_telling(known: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Of two ranks' errors the one with a reason of its own: when a rank fails, the others only miss it."""
    if known is None or (known["code"] == NearfirstError.code != new["code"]):
        return new
    return known
