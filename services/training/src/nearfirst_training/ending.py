"""How a training process ended, in words: from its exit status and from what torchrun says about its ranks."""

import re
import signal
from dataclasses import dataclass

_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (?P<rank>\d+) .*?exitcode\s*: (?P<exit_code>-?\d+)", re.DOTALL
)
"""Of torch.distributed.elastic's ChildFailedError, which is how torchrun ends when a rank has failed."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    code: int
    """As subprocess gives it; negative: by that signal."""
    rank: int | None = None
    """Which rank it was; None: the process that the worker started."""

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it that nobody sends to ask for an orderly end."""
        return self.code < 0 and self.code != -signal.SIGTERM

    def in_words(self) -> str:
        """What happened: `rank 1 was killed by SIGKILL (signal 9), probably because memory ran out`."""
        who = "the training process" if self.rank is None else f"rank {self.rank}"
        if self.code >= 0:
            return f"{who} ended with code {self.code}"
        number = -self.code
        hint = ", probably because memory ran out" if number == signal.SIGKILL else ""
        return f"{who} was killed by {_name(number)} (signal {number}){hint}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "an unknown signal"


def exit_of(code: int, stderr: str) -> Exit:
    """What ended a training: the rank that torchrun names as the first to fail, else the process itself.

    Args:
        code: exit status of the process that the worker started.
        stderr: what it and its children wrote to their standard error.
    """
    reports = list(_ROOT_CAUSE.finditer(stderr))
    if not reports or code < 0:  # a process that was killed itself didn't get to say anything
        return Exit(code)
    return Exit(int(reports[-1]["exit_code"]), rank=int(reports[-1]["rank"]))
