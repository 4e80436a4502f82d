"""Ending at the next safe point when a signal asks for it."""

import signal
from types import FrameType

from nearfirst.contracts.progress import Interrupted


class StopRequest:
    """Remembers that a signal came; `check` raises at the next place where stopping is safe."""

    def __init__(self) -> None:
        self._came = False

    def listen(self, *signals: signal.Signals) -> None:
        """Catch each of these signals once; a second one has its usual effect. For the main thread only."""
        for number in signals:
            signal.signal(number, self._remember)

    def check(self) -> None:
        """Raise `Interrupted` when a signal came."""
        if self._came:
            raise Interrupted("a signal asked the process to end")

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        signal.signal(number, signal.SIG_DFL)
