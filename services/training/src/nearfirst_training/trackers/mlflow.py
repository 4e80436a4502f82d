"""MLflow: one run in the experiment `nearfirst`, on a tracking server or a database."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from nearfirst.contracts.runs import TERMINAL_STATES, RunState
from nearfirst.contracts.training import MetricRow
from nearfirst_training.trackers.tracker import LastSteps, optional_library

_EXPERIMENT = "nearfirst"
_RUN_TAG = "nearfirst.run"
_EXTRA = "mlflow"
_MAX_METRICS, _MAX_PARAMS = 1000, 100
"""Of one request, as MLflow's REST API limits them."""
_MAX_VALUE = 500
_FORBIDDEN = re.compile(r"[^\w\-. :/]")
"""What names of metrics may not have in them."""
_STATUS = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.CANCELLED: "KILLED",
    RunState.CANCELLING: "KILLED",
    RunState.FAILED: "FAILED",
    RunState.QUEUED: "SCHEDULED",
    RunState.RUNNING: "RUNNING",
}


class MlflowTracker:
    """Finds its run by a tag with the run's id, so that every attempt goes on with the same."""

    def __init__(self, uri: str) -> None:
        """`uri`: of the tracking server, or `sqlite:///file`."""
        self._entities = optional_library("mlflow.entities", _EXTRA)
        self._client = optional_library("mlflow.tracking", _EXTRA).MlflowClient(tracking_uri=uri)
        self._run = ""

    def own_name(self, metric: str) -> str:
        """See `Tracker`: what MLflow forbids in names is an underscore."""
        return _FORBIDDEN.sub("_", metric)

    def start(self, run_id: str, spec: Mapping[str, Any]) -> LastSteps:
        """See `Tracker`."""
        experiment = self._experiment()
        found = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{run_id}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status=_STATUS[RunState.RUNNING])
            return {
                name: max(metric.step for metric in self._client.get_metric_history(self._run, name))
                for name in found[0].data.metrics
            }
        self._run = self._client.create_run(experiment, run_name=run_id, tags={_RUN_TAG: run_id}).info.run_id
        params = [self._entities.Param(name, value) for name, value in _flat(spec)]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._run, params=params[start : start + _MAX_PARAMS])
        return {}

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """See `Tracker`."""
        now_ms = int(time.time() * 1000)
        metrics = (self._entities.Metric(self.own_name(row.name), row.value, now_ms, row.step) for row in rows)
        while part := list(islice(metrics, _MAX_METRICS)):
            self._client.log_batch(self._run, metrics=part)

    def finish(self, state: RunState) -> None:
        """See `Tracker`."""
        if state in TERMINAL_STATES:
            self._client.set_terminated(self._run, status=_STATUS[state])
        else:
            self._client.update_run(self._run, status=_STATUS[state])

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(_EXPERIMENT))
        except Exception:  # another run's tracker has just made it
            found = self._client.get_experiment_by_name(_EXPERIMENT)
            if found is None:
                raise
            return str(found.experiment_id)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Fields of fields with a dot between their names; values as text, cut where MLflow would refuse them."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, str(value)[:_MAX_VALUE]
