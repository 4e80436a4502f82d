"""All trackers of a run, in a thread of their own: none of them holds up the run or fails it."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nearfirst.contracts.progress import Cancelled, Fenced, Interrupted
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import MetricRow
from nearfirst_training.trackers.tracker import LastSteps, Tracker, TrackerAddress, make_tracker, parse_trackers

log = logging.getLogger(__name__)

_FINISH_S = 30.0


class Tracking:
    """Passes measurements on. A step of a metric that a tracker has is never written to it again."""

    def __init__(self, trackers: Mapping[str, Callable[[], Tracker]], run_id: str, spec: Mapping[str, Any]) -> None:
        """Begin, without waiting.

        Args:
            trackers: what makes each of them, by the name that a failure is logged under.
            run_id: as `Tracker.start`.
            spec: as `Tracker.start`.
        """
        self._open: dict[str, tuple[Tracker, LastSteps]] = {}
        self._work: queue.Queue[Sequence[MetricRow] | RunState] = queue.Queue()
        self._thread = threading.Thread(
            target=self._run, args=(trackers, run_id, spec), name=f"trackers of {run_id}", daemon=True
        )
        self._thread.start()

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """Measurements to write; rows that were given before are left out."""
        if rows:
            self._work.put(list(rows))

    def finish(self, state: RunState, *, wait_s: float = _FINISH_S) -> None:
        """The attempt has ended in this state; waits so long for what is still to be written."""
        self._work.put(state)
        self._thread.join(wait_s)
        if self._thread.is_alive():
            log.warning("trackers %s aren't done %g s after the run's end; the rest is lost", [*self._open], wait_s)

    def _run(self, trackers: Mapping[str, Callable[[], Tracker]], run_id: str, spec: Mapping[str, Any]) -> None:
        for name, make in trackers.items():
            self._guarded(name, self._start, make, run_id, spec)
        while not isinstance(work := self._work.get(), RunState):
            for name in [*self._open]:
                self._guarded(name, self._write, work)
        for name in [*self._open]:
            self._guarded(name, self._finish, work)

    def _start(self, name: str, make: Callable[[], Tracker], run_id: str, spec: Mapping[str, Any]) -> None:
        tracker = make()
        self._open[name] = (tracker, tracker.start(run_id, spec))

    def _write(self, name: str, rows: Sequence[MetricRow]) -> None:
        tracker, last = self._open[name]
        fresh = [row for row in rows if row.step > last.get(tracker.own_name(row.name), -1)]
        if fresh:
            tracker.metrics(fresh)
            last |= {tracker.own_name(row.name): row.step for row in fresh}

    def _finish(self, name: str, state: RunState) -> None:
        self._open[name][0].finish(state)

    def _guarded(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        """Do it; a tracker that raises is told nothing more."""
        try:
            work(name, *arguments)
        except Exception as error:  # noqa: BLE001  (whatever a tracker raises, the run goes on)
            self._open.pop(name, None)
            log.warning("tracker %s failed and gets nothing more of this run: %s", name, error)


@contextmanager
def tracking(setting: str, run_id: str, spec: Mapping[str, Any], folder: Path) -> Iterator[Tracking]:
    """A run's trackers while the block runs; how it ends is how the run has ended.

    Args:
        setting: `tensorboard:/folder,mlflow:URI,wandb:PROJECT`, or empty.
        run_id: the same for every attempt of the run.
        spec: what the run does, as JSON.
        folder: the run's own, which all its attempts share.

    Raises:
        InvalidInput: the setting can't be read.
    """
    makers = {f"{address.kind}:{address.target}": _maker(address, folder) for address in parse_trackers(setting)}
    tracked = Tracking(makers, run_id, spec)
    state = RunState.FAILED
    try:
        yield tracked
        state = RunState.SUCCEEDED
    except Cancelled:
        state = RunState.CANCELLED
        raise
    except Interrupted:
        state = RunState.QUEUED
        raise
    except Fenced:  # another attempt has the run, and goes on
        state = RunState.RUNNING
        raise
    finally:
        tracked.finish(state)


def _maker(address: TrackerAddress, folder: Path) -> Callable[[], Tracker]:
    return lambda: make_tracker(address, folder)
