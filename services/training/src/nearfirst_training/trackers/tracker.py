"""What a tracker is, and what a setting says of them."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import MetricRow

KINDS = ("tensorboard", "mlflow", "wandb")

LastSteps = dict[str, int]
"""The last step that was written of each metric, by the tracker's own name of it."""


class Tracker(Protocol):
    """One place that measurements go to. One thread calls its methods in this order; they may raise anything."""

    def own_name(self, metric: str) -> str:
        """What it calls a metric; most call it what we do."""

    def start(self, run_id: str, spec: Mapping[str, Any]) -> LastSteps:
        """Begin a run, or go on with it.

        Args:
            run_id: the same for every attempt of a run.
            spec: what the run does, as JSON.

        Returns:
            What earlier attempts have written already: none of it is written again.
        """

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        """Write measurements; of each metric in the order of its steps, and no step twice."""

    def finish(self, state: RunState) -> None:
        """The attempt has ended; `queued`: another one will go on."""


class TrackerAddress(NamedTuple):
    """One entry of the setting."""

    kind: str
    target: str


def parse_trackers(setting: str) -> list[TrackerAddress]:
    """Read `tensorboard:/folder,mlflow:URI,wandb:PROJECT`; an empty setting names none.

    Raises:
        InvalidInput: an entry of another form; the detail names it.

    >>> parse_trackers("mlflow:http://tracking:5000, wandb:order")
    [TrackerAddress(kind='mlflow', target='http://tracking:5000'), TrackerAddress(kind='wandb', target='order')]
    """
    found = []
    for entry in filter(None, map(str.strip, setting.split(","))):
        kind, _, target = entry.partition(":")
        if kind not in KINDS or not target:
            raise InvalidInput(
                f"trackers: got {entry!r}, wanted tensorboard:/folder, mlflow:URI or wandb:PROJECT, with commas between"
            )
        found.append(TrackerAddress(kind, target))
    return found


def make_tracker(address: TrackerAddress, folder: Path) -> Tracker:
    """The tracker at an address.

    Args:
        address: what kind, and where.
        folder: the run's own, for what a tracker has to remember.

    Raises:
        InvalidInput: its library isn't installed.
    """
    from nearfirst_training.trackers.mlflow import MlflowTracker
    from nearfirst_training.trackers.tensorboard import TensorBoardTracker
    from nearfirst_training.trackers.wandb import WandbTracker

    match address.kind:
        case "tensorboard":
            return TensorBoardTracker(Path(address.target))
        case "mlflow":
            return MlflowTracker(address.target)
        case _:
            return WandbTracker(address.target, folder)


def optional_library(name: str, extra: str) -> Any:
    """A module of an optional library.

    Raises:
        InvalidInput: it isn't installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidInput(f"tracker {extra}: {error}; pip install 'nearfirst-training[{extra}]'") from error
