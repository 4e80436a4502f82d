"""A process and all that it starts, directly or not: to be ended to the last of them."""

import logging
import os
import secrets
import signal
import time
from pathlib import Path

log = logging.getLogger(__name__)

_MARK = "NEARFIRST_PROCESS_FAMILY"
_POLL_S = 0.02
_TELL_EVERY_S = 10.0


class ProcessFamily:
    """Processes that have the same mark in their environment, which children inherit.

    A process group isn't enough: torchrun starts every rank in a session of its own, and a rank whose torchrun was
    killed has lost its place in the tree of processes. Without /proc (not Linux) only the group is known.
    """

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self.leader: int | None = None
        """Process id of the first member, which leads a group; None before it is started."""

    def mark(self) -> dict[str, str]:
        """What the first member's environment must have."""
        return {_MARK: self._token}

    def members(self) -> list[int]:
        """Process ids of those that are alive."""
        wanted = f"{_MARK}={self._token}".encode()
        return [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if folder.name.isdigit() and wanted in _environment(folder).split(b"\0")
        ]

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the first member's group."""
        if self.leader is not None:
            try:
                os.killpg(self.leader, number)
            except ProcessLookupError:
                return

    def end(self) -> None:
        """Kill every member; returns when none is left, however long the system takes to remove them."""
        started_s = told_s = time.monotonic()
        while True:
            self.signal_group(signal.SIGKILL)
            members = self.members()
            if not members:
                return
            for process_id in members:
                _kill(process_id)
            if time.monotonic() - told_s > _TELL_EVERY_S:
                told_s = time.monotonic()
                log.warning("processes %s are still there, %.0f s after they were killed", members, told_s - started_s)
            time.sleep(_POLL_S)


def _environment(folder: Path) -> bytes:
    """The environment of a process: empty when it has ended, also while its parent hasn't noticed."""
    try:
        return (folder / "environ").read_bytes()
    except OSError:  # it ended meanwhile, or belongs to another user
        return b""


def _kill(process_id: int) -> None:
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return
