"""Ending at the next safe point when a signal asks for it."""

import signal
from types import FrameType

from nearfirst.contracts.progress import Interrupted


class StopRequest:
    """Remembers that a signal came; `check` raises at the next place where stopping is safe."""

    def __init__(self) -> None:
        self._came = False
        self._is_patient = False

    def listen(self, *signals: signal.Signals, patient: bool = False) -> None:
        """Catch each of these signals once; a second one has its usual effect, unless `patient`: then it has none.

        For the main thread only.
        """
        self._is_patient = patient
        for number in signals:
            signal.signal(number, self._remember)

    def check(self) -> None:
        """Raise `Interrupted` when a signal came."""
        if self._came:
            raise Interrupted("a signal asked the process to end")

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if not self._is_patient:
            signal.signal(number, signal.SIG_DFL)
