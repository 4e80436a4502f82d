"""`python -m nearfirst_training.launch JOB.json`: one training job as a process of its own, or as several.

A job whose processes form a group becomes torchrun, which starts this module once for each (`--rank`). Of a job on
several machines each machine runs its own torchrun, and the job file says which one this is.

stdout has one JSON object a line, and nothing else (what libraries print goes to stderr):

    {"type": "progress", "done": 3, "total": 60, "unit": "steps"}
    {"type": "kept", "step": 2}                                     of an earlier attempt; -1: nothing
    {"type": "metric", "step": 3, "name": "train_loss", "value": 7.1}
    {"type": "checkpoint", "checkpoint": {contracts.training.Checkpoint}}
    {"type": "checkpoint_gone", "step": 2, "tier": "state"}         deleted: newer ones have taken its place
    {"type": "log", "message": "..."}
    {"type": "result", "result": {job.TrainResult}}                 exit 0
    {"type": "error", "code": "invalid_model", "detail": "..."}     exit 2: the user's; 1: `internal_error`
    {"type": "interrupted", "step": 3}                              exit 75: SIGTERM; a state checkpoint is saved (or an
                                                                    earlier attempt's process is still in the folder)

Of several ranks the main one speaks, which is on the first machine, but every rank tells of its error. torchrun's exit
status is its own, so that the messages decide.

On Linux a process is killed when the thread that started it ends, so that it never outlives its worker.
"""

import json
import os
import signal
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, NoReturn

from nearfirst.contracts.problems import InvalidInput, NearfirstError
from nearfirst.contracts.progress import Interrupted
from nearfirst.processes import die_with_parent
from nearfirst_training.events import CheckpointEvent, CheckpointGoneEvent, Event, KeptEvent, LogEvent, MetricEvent
from nearfirst_training.folder import FolderBusy, RunFolder
from nearfirst_training.interrupt import StopRequest
from nearfirst_training.job import TrainingJob, read_job
from nearfirst_training.settings import RankSettings
from nearfirst_training.torchrun import torchrun_command

EXIT_INTERNAL_ERROR = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: try again."""

_RANK_FLAG = "--rank"
_EARLIER_ATTEMPT_S = 60.0
"""How long to wait for a process of an earlier attempt, whose worker lost its lease, to leave the folder."""


class Reporter:
    """Writes the protocol's lines."""

    def __init__(self, stream: IO[str], stop_request: StopRequest) -> None:
        self.stream = stream
        self._stop_request = stop_request
        self._step = 0

    def write(self, kind: str, **fields: Any) -> None:
        """Write one line."""
        self.stream.write(json.dumps({"type": kind, **fields}, ensure_ascii=False) + "\n")
        self.stream.flush()

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Report progress.

        Raises:
            Interrupted: SIGTERM came.
        """
        if unit == "steps":
            self._step = done
        self.write("progress", done=done, total=total, unit=unit)
        self._stop_request.check()

    def emit(self, event: Event) -> None:
        """Report an event."""
        match event:
            case MetricEvent(row):
                self.write("metric", **row.model_dump())
            case CheckpointEvent(checkpoint):
                self.write("checkpoint", checkpoint=checkpoint.model_dump(mode="json"))
            case CheckpointGoneEvent(step, tier):
                self.write("checkpoint_gone", step=step, tier=tier)
            case KeptEvent(step):
                self.write("kept", step=step)
            case LogEvent(message):
                self.write("log", message=message)

    def interrupted(self) -> None:
        """Report that the job ended early, after which step."""
        self.write("interrupted", step=self._step)


class SilentReporter(Reporter):
    """Of every rank but the main one: tells of an error and of nothing else."""

    def write(self, kind: str, **fields: Any) -> None:
        """Write one line, if it is an error."""
        if kind == "error":
            super().write(kind, **fields)


def main(arguments: list[str]) -> int:
    """Run the job of a file; returns the exit status."""
    die_with_parent()
    is_rank = arguments[:1] == [_RANK_FLAG]
    stop_request = StopRequest()
    stop_request.listen(signal.SIGTERM, patient=is_rank)  # torchrun may repeat it
    reporter = Reporter(_take_stdout(), stop_request)
    try:
        paths = arguments[is_rank:]
        if len(paths) != 1:
            raise InvalidInput(f"wanted one argument, the job file; got {len(paths)}")
        job = read_job(Path(paths[0]))
        if job.settings.needs_torchrun and not is_rank:
            _become_torchrun(paths[0], job, reporter.stream)
        is_main = not is_rank or RankSettings().rank == 0
        if not is_main:
            reporter = SilentReporter(reporter.stream, stop_request)
        folder = RunFolder(Path(job.out))
        with folder.locked(_EARLIER_ATTEMPT_S) if is_main else nullcontext():
            from nearfirst_training.loop import train  # seconds of imports, after SIGTERM is handled

            result = train(job, emit=reporter.emit, progress=reporter.progress)
    except Interrupted:
        reporter.interrupted()
        return 0 if is_rank else EXIT_INTERRUPTED
    except FolderBusy as error:
        reporter.write("log", message=error.detail)
        reporter.interrupted()
        return EXIT_INTERRUPTED
    except NearfirstError as error:
        reporter.write("error", code=error.code, detail=error.detail)
        return EXIT_USER_ERROR
    except Exception as error:  # noqa: BLE001  (the parent process must hear of every failure)
        traceback.print_exc()
        reporter.write("error", code=NearfirstError.code, detail=f"{type(error).__name__}: {error}")
        return EXIT_INTERNAL_ERROR
    reporter.write("result", result=result.model_dump(mode="json"))
    return 0


def _become_torchrun(job_file: str, job: TrainingJob, stdout: IO[str]) -> NoReturn:
    """Go on as torchrun. It passes SIGTERM on to its ranks, which end when their state is saved."""
    command = torchrun_command(job, "nearfirst_training.launch", _RANK_FLAG, job_file)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until torchrun listens, nothing is there to be saved
    os.dup2(stdout.fileno(), sys.stdout.fileno())
    os.execv(command[0], command)


def _take_stdout() -> IO[str]:
    """Keep the real stdout for the protocol; whatever else writes to descriptor 1 writes to stderr from now on."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
