"""Weights & Biases: one run of a project, online or, with WANDB_MODE=offline, in files for `wandb sync`."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import MetricRow
from nearfirst.data.writing import whole_file
from nearfirst_training.trackers.tracker import LastSteps, optional_library

_EXTRA = "wandb"
_JOURNAL = "wandb-steps.json"


class WandbTracker:
    """Keeps what it has written in the run's folder: an offline run can't be asked."""

    def __init__(self, project: str, folder: Path) -> None:
        """`project`: PROJECT or ENTITY/PROJECT; `folder`: where the library keeps its files."""
        self._wandb = optional_library("wandb", _EXTRA)
        self._entity, _, self._project = project.rpartition("/")
        self._folder = folder
        self._run: Any = None
        self._last: LastSteps = {}

    def own_name(self, metric: str) -> str:
        """See `Tracker`."""
        return metric

    def start(self, run_id: str, spec: Mapping[str, Any]) -> LastSteps:
        """See `Tracker`. A run that the server knows goes on behind the server's last step."""
        journal = self._folder / _JOURNAL
        self._last = json.loads(journal.read_bytes()) if journal.is_file() else {}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=self._project,
            entity=self._entity or None,
            id=run_id,
            name=run_id,
            dir=str(self._folder),
            config=dict(spec),
            resume="allow",
            settings=self._wandb.Settings(console="off", silent=True),
        )
        known = self._run.starting_step - 1
        return {name: max(step, known) for name, step in self._last.items()}

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """See `Tracker`."""
        for step, together in groupby(rows, lambda row: row.step):
            values = {row.name: row.value for row in together}
            self._run.log(values, step=step)
            self._last |= dict.fromkeys(values, step)
        with whole_file(self._folder / _JOURNAL) as file:
            file.write(json.dumps(self._last).encode())

    def finish(self, state: RunState) -> None:
        """See `Tracker`. Only a failed run is shown as one."""
        self._run.finish(exit_code=int(state is RunState.FAILED))
