"""TensorBoard: event files in FOLDER/RUN_ID, written and read with its own library, without torch."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import MetricRow
from nearfirst_training.trackers.tracker import LastSteps, optional_library

_FLUSH_S = 5
_EXTRA = "tensorboard"


class TensorBoardTracker:
    """A file of events for each attempt; TensorBoard shows the files of a folder as one run."""

    def __init__(self, root: Path) -> None:
        """`root`: the folder that `tensorboard --logdir` is given."""
        self._root = root
        self._writer: Any = None
        self._event = optional_library("tensorboard.compat.proto.event_pb2", _EXTRA).Event
        self._summary = optional_library("tensorboard.compat.proto.summary_pb2", _EXTRA).Summary

    def own_name(self, metric: str) -> str:
        """See `Tracker`."""
        return metric

    def start(self, run_id: str, spec: Mapping[str, Any]) -> LastSteps:
        """See `Tracker`. What a killed attempt left of its file is read as far as it is whole."""
        folder = self._root / run_id
        written = self._written(sorted(folder.glob("events.out.tfevents.*")))
        writing = optional_library("tensorboard.summary.writer.event_file_writer", _EXTRA)
        self._writer = writing.EventFileWriter(str(folder), flush_secs=_FLUSH_S)
        if not written:
            text = optional_library("tensorboard.plugins.text.summary_v2", _EXTRA)
            summary = text.text_pb("spec", f"```\n{json.dumps(spec, indent=2)}\n```")
            self._writer.add_event(self._event(wall_time=time.time(), summary=summary))
        return written

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """See `Tracker`."""
        now = time.time()
        for row in rows:
            value = self._summary.Value(tag=row.name, simple_value=row.value)
            self._writer.add_event(self._event(step=row.step, wall_time=now, summary=self._summary(value=[value])))

    def finish(self, state: RunState) -> None:
        """See `Tracker`."""
        self._writer.close()

    def _written(self, files: Iterable[Path]) -> LastSteps:
        reading = optional_library("tensorboard.backend.event_processing.event_file_loader", _EXTRA)
        last: LastSteps = {}
        for path in files:
            for event in reading.RawEventFileLoader(str(path)).Load():
                decoded = self._event.FromString(event)
                for value in decoded.summary.value:
                    if value.WhichOneof("value") == "simple_value":
                        last[value.tag] = max(decoded.step, last.get(value.tag, decoded.step))
        return last
