"""How containers ended: by themselves within their grace, or by SIGKILL."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.smoke.stack import Stack

NANOSECONDS = 10**9
_ENDED_BY_US = {0, *(128 + number for number in (signal.SIGTERM, signal.SIGINT))}
"""Exit statuses of a process that was asked to end: its own, or the signal's when it passes it on."""
_RUNS_ONCE = {"migrate"}


@dataclass(frozen=True, slots=True)
class Stop:
    """One end of one container."""

    service: str
    exit_status: int
    signals: tuple[int, ...]
    """What the engine sent it; nothing: it ended by itself."""
    seconds: float
    """From the first signal to its end."""

    @property
    def fault(self) -> str | None:
        """What is wrong with it, one sentence; None: nothing."""
        if signal.SIGKILL in self.signals:
            return f"{self.service}: killed after {self.seconds:.0f} s, its grace was too short"
        if not self.signals and not (self.service in _RUNS_ONCE and self.exit_status == 0):
            return f"{self.service}: ended by itself with status {self.exit_status}"
        if self.exit_status not in _ENDED_BY_US:
            return f"{self.service}: ended with status {self.exit_status} when it was told to end"
        return None


def stops_in(events: Iterable[dict[str, Any]]) -> list[Stop]:
    """The ends in the events `kill` and `die` of `docker events --format json`, in their order."""
    stops: list[Stop] = []
    signals: dict[str, list[tuple[int, int]]] = {}
    for event in events:
        actor, at_ns = event["Actor"], event["timeNano"]
        if event["Action"] == "kill":
            signals.setdefault(actor["ID"], []).append((at_ns, int(actor["Attributes"]["signal"])))
        elif event["Action"] == "die":
            sent = signals.pop(actor["ID"], [])
            stops.append(
                Stop(
                    service=actor["Attributes"]["com.docker.compose.service"],
                    exit_status=int(actor["Attributes"]["exitCode"]),
                    signals=tuple(number for _, number in sent),
                    seconds=(at_ns - sent[0][0]) / NANOSECONDS if sent else 0.0,
                )
            )
    return stops


def longest_stops(stops: Iterable[Stop]) -> dict[str, float]:
    """The longest time that each service took to end, in seconds."""
    longest: dict[str, float] = {}
    for stop in stops:
        longest[stop.service] = round(max(stop.seconds, longest.get(stop.service, 0.0)), 1)
    return longest


class StopWatch:
    """Watches how the containers of a stack end, while it is open."""

    def __init__(self, stack: Stack) -> None:
        """Nothing is watched yet."""
        self._stack = stack

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="nearfirst-stops-")
        self._printed = Path(self._folder.name) / "events.jsonl"
        with self._printed.open("w") as output:
            self._watching = subprocess.Popen(self._stack.events_command("kill", "die"), stdout=output)
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.terminate()
        self._watching.wait()
        self._folder.cleanup()

    def stops(self) -> list[Stop]:
        """What was seen so far."""
        return stops_in(json.loads(line) for line in self._printed.read_text().splitlines())
