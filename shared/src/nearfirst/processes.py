"""Processes that don't outlive the one that started them."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends; nothing elsewhere.

    Safe between fork and exec (`preexec_fn`): the library is loaded when this module is imported.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def end_with_parent() -> None:
    """`die_with_parent` by SIGTERM: a process that puts its work back before it ends."""
    die_with_parent(signal.SIGTERM)
