"""How long-running science tells its caller where it is, without knowing who calls."""

from typing import Protocol


class ProgressCallback(Protocol):
    """Called often with absolute counts; it may raise to stop the work (a cancelled run, a lost lease)."""

    def __call__(self, done: int, total: int | None, unit: str) -> None:
        """`done` of `total` `unit`s are finished; `total` is None while it is unknown."""


class Stopped(Exception):
    """Raised through a progress callback: the work must end now. Not a failure of the work itself."""


class Cancelled(Stopped):
    """Somebody asked for this run to end."""


class Fenced(Stopped):
    """The lease was taken over: another worker owns this run now, and nothing more may be written."""


class Interrupted(Stopped):
    """This worker shuts down; the run goes back to the queue."""


def ignore_progress(done: int, total: int | None, unit: str) -> None:
    """Do nothing: the callback of callers that don't ask for progress."""
