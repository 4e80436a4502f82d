"""A typed client of the HTTP API (DESIGN section 4). Answers are the contracts' own models."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from nearfirst.client.errors import UnexpectedAnswer, WaitTimeout
from nearfirst.client.evaluations import EvaluationCalls
from nearfirst.client.events import SILENCE_S, follow_events, suppressed_while_away
from nearfirst.client.once import changed_once
from nearfirst.client.rows import Listing, Rows
from nearfirst.client.run_kinds import Run, kind_of
from nearfirst.client.settings import ClientSettings
from nearfirst.client.shown import (
    ShownArrangement,
    ShownCurve,
    ShownDataset,
    ShownReportedArrangement,
    ShownStudy,
    ShownTrainJob,
)
from nearfirst.client.studies import StudyCalls
from nearfirst.client.transport import Transport, path_to
from nearfirst.contracts.arrangements import ArrangementSpec, OrderRow
from nearfirst.contracts.datasets import DatasetFormat, DatasetSource, ExampleRow
from nearfirst.contracts.estimates import TrainEstimate
from nearfirst.contracts.exports import ExportFormat, ExportManifest
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.receipts import ConsumedStep, Receipt
from nearfirst.contracts.runs import TERMINAL_STATES, RunAccepted, RunEvent, RunState
from nearfirst.contracts.training import Checkpoint, LogLine, MetricRow, TrainSpec
from nearfirst.contracts.workers import QueueState, Worker
from nearfirst.data.export_manifest import manifest_path, write_manifest

EXPORT_TIMEOUT_S = 600.0
"""Wait so long for an export's first bytes: the server makes the file when it is first asked for."""
FIGURE_SUFFIXES = (".svg", ".png")
_ENDING = frozenset({RunState.CANCELLING, RunState.CANCELLED})


class Client(EvaluationCalls, StudyCalls):
    """Talks to one Nearfirst server. A context manager; not for use by several threads at once.

    Every method raises `ApiError` when the server refuses the request, `ServerUnreachable` when nothing answers and
    `UnexpectedAnswer` when the answer is not what the API promises.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout_s: float = 60.0) -> None:
        super().__init__(Transport(base_url, api_key, timeout_s))

    @classmethod
    def from_settings(cls, url: str | None = None) -> Self:
        """A client of the server that the environment names, or of `url` with the environment's API key."""
        settings = ClientSettings()
        key = settings.api_key.get_secret_value() if settings.api_key else None
        return cls(url or settings.url, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The server's URL, without a trailing slash."""
        return self._transport.base_url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def is_ready(self) -> bool:
        """Whether the server says that it can serve (`GET /readyz`); False when nothing answers."""
        return self._transport.answers_ok("/readyz")

    def register_dataset(
        self,
        path: Path | str,
        *,
        format: DatasetFormat | None = None,
        split: str | None = None,
        name: str | None = None,
    ) -> ShownDataset:
        """Upload a file of instruction data.

        Args:
            path: JSONL, JSON or Parquet, plain, .gz or .zst.
            format: its layout; None: the server recognises it.
            split: keep the rows whose `split` field has this value; None keeps all.
            name: shown in lists; None: the file's name.

        Raises:
            InvalidInput: `path` is no file.
        """
        path = Path(path)
        if not path.is_file():
            raise InvalidInput(f"path: {path} is no file")
        given = {"format": format.value if format else None, "split": split, "name": name}
        fields = {field: value for field, value in given.items() if value is not None}
        with path.open("rb") as stream:
            return self._transport.upload(ShownDataset, "/datasets", {"file": (path.name, stream)}, fields)

    def register_source(self, source: DatasetSource) -> ShownDataset:
        """Register a dataset that the server reads itself."""
        return self._transport.post(ShownDataset, "/datasets", source)

    def dataset(self, dataset_id: str) -> ShownDataset:
        """A registered dataset."""
        return self._transport.get(ShownDataset, path_to("datasets", dataset_id))

    def datasets(self) -> Listing[ShownDataset]:
        """All registered datasets, fetched page by page."""
        return self._transport.listing(ShownDataset, "/datasets")

    def examples(self, dataset_id: str) -> Listing[ExampleRow]:
        """A dataset's examples in its own order, fetched page by page."""
        return self._transport.listing(ExampleRow, path_to("datasets", dataset_id, "examples"))

    def arrange(self, spec: ArrangementSpec, idempotency_key: str | None = None) -> RunAccepted:
        """Submit an arrangement.

        Args:
            spec: what to arrange, and how.
            idempotency_key: the same key and spec give the same run. None: a new key for this call, so that a
                send repeated after a broken connection still makes one run.
        """
        return self._transport.post(RunAccepted, "/arrangements", spec, idempotency_key)

    def arrangement(self, arrangement_id: str) -> ShownReportedArrangement:
        """An arrangement, how far it is, and the report on its order once there is one."""
        return self._transport.get(ShownReportedArrangement, path_to("arrangements", arrangement_id))

    def arrangements(self) -> Listing[ShownArrangement]:
        """All arrangements, fetched page by page."""
        return self._transport.listing(ShownArrangement, "/arrangements")

    def order(self, arrangement_id: str) -> Rows[OrderRow]:
        """The rows of a finished arrangement, in training order."""
        place = path_to("arrangements", arrangement_id, "order")
        return Rows(self._transport.lines(OrderRow, place, {"format": "jsonl"}), OrderRow)

    def download_order(self, arrangement_id: str, path: Path | str) -> None:
        """Write a finished arrangement's order to `path`: Parquet when its name ends in .parquet, else JSONL.

        `path` appears only once it is complete.
        """
        path = Path(path)
        self._transport.download(path_to("arrangements", arrangement_id, "order"), path, {"format": _file_type(path)})

    def download_export(
        self, arrangement_id: str, path: Path | str, format: ExportFormat | str = ExportFormat.MESSAGES
    ) -> ExportManifest:
        """Write a finished arrangement's rows to `path`, in their order and in a layout that other trainers read.

        The manifest is written beside it, as FILE.manifest.json; its note says how to keep the order.

        Args:
            arrangement_id: the arrangement.
            path: Parquet when its name ends in .parquet, else JSONL. It appears only once it is complete.
            format: the layout, or its name.

        Returns:
            The manifest.

        Raises:
            InvalidInput: no layout has this name.
            UnexpectedAnswer: what came doesn't have the digest in the server's manifest; it is removed again.
        """
        path = Path(path)
        place = path_to("arrangements", arrangement_id, "export")
        query = {"format": _export_format(format).value, "file_type": _file_type(path)}
        manifest_path(path).unlink(missing_ok=True)
        digest = self._transport.download(place, path, query, read_timeout_s=EXPORT_TIMEOUT_S)
        manifest = self._transport.get(ExportManifest, f"{place}/manifest", query)
        if digest != manifest.file_digest:
            path.unlink()
            raise UnexpectedAnswer(f"{path} has the digest {digest}; the server's manifest says {manifest.file_digest}")
        manifest = manifest.model_copy(update={"file": path.name})
        write_manifest(path, manifest)
        return manifest

    def similarity_curve(self, arrangement_id: str) -> ShownCurve:
        """How far the training prefixes of a finished arrangement are from its test set."""
        return self._transport.get(ShownCurve, path_to("arrangements", arrangement_id, "similarity-curve"))

    def report_figure(self, arrangement_id: str, path: Path | str) -> None:
        """Write the figure of a finished arrangement's report to `path`, which ends in .svg or .png."""
        self._download_figure(path_to("arrangements", arrangement_id), Path(path))

    def curve_figure(self, arrangement_id: str, path: Path | str) -> None:
        """Write the figure of a finished arrangement's similarity curve to `path`, which ends in .svg or .png."""
        self._download_figure(path_to("arrangements", arrangement_id, "similarity-curve"), Path(path))

    def _download_figure(self, place: str, path: Path) -> None:
        if path.suffix not in FIGURE_SUFFIXES:
            raise InvalidInput(f"path: got {path.name}, wanted a name that ends in {' or '.join(FIGURE_SUFFIXES)}")
        self._transport.download(f"{place}/figure{path.suffix}", path)

    def train(self, spec: TrainSpec, idempotency_key: str | None = None) -> RunAccepted:
        """Submit a training job; `idempotency_key` as in `arrange`."""
        return self._transport.post(RunAccepted, "/train-jobs", spec, idempotency_key)

    def estimate(self, spec: TrainSpec) -> TrainEstimate:
        """What a training job would take: tokens, memory, checkpoints, time. Nothing is submitted."""
        return self._transport.post(TrainEstimate, "/train-jobs?dry_run=true", spec)

    def train_job(self, job_id: str) -> ShownTrainJob:
        """A training job and how far it is."""
        return self._transport.get(ShownTrainJob, path_to("train-jobs", job_id))

    def train_jobs(self) -> Listing[ShownTrainJob]:
        """All training jobs, fetched page by page."""
        return self._transport.listing(ShownTrainJob, "/train-jobs")

    def metrics(self, job_id: str, name: str | None = None) -> Rows[MetricRow]:
        """A job's measurements so far in the order in which they were made; `name` keeps one metric."""
        params = {} if name is None else {"name": name}
        return self._transport.listing(MetricRow, path_to("train-jobs", job_id, "metrics"), params).all()

    def checkpoints(self, job_id: str) -> Rows[Checkpoint]:
        """A job's complete checkpoints."""
        return self._transport.listing(Checkpoint, path_to("train-jobs", job_id, "checkpoints")).all()

    def receipt(self, job_id: str) -> Receipt:
        """The proof of what a job has consumed."""
        return self._transport.get(Receipt, path_to("train-jobs", job_id, "receipt"))

    def consumed(self, job_id: str) -> Rows[ConsumedStep]:
        """The ids that each optimizer step consumed, from training's own log."""
        return Rows(self._transport.lines(ConsumedStep, path_to("train-jobs", job_id, "consumed")), ConsumedStep)

    def logs(self, job_id: str) -> Listing[LogLine]:
        """What a job has printed so far, fetched page by page."""
        return self._transport.listing(LogLine, path_to("train-jobs", job_id, "logs"))

    def run(self, run_id: str) -> Run:
        """An arrangement (`arr_...`), training job (`job_...`), evaluation (`evl_...`) or study (`std_...`).

        Raises:
            InvalidInput: an id of another kind.
        """
        kind = kind_of(run_id)
        return self._transport.get(kind.model, kind.path(run_id))

    def cancel(self, run_id: str) -> RunAccepted:
        """Ask for an arrangement, training job, evaluation or study to end."""
        return self._act(run_id, "cancel", lambda run: run.state in _ENDING)

    def resume(self, run_id: str) -> RunAccepted:
        """Put a cancelled or failed run back on the queue, or go on with a paused study.

        A training job goes on from its last state checkpoint; an evaluation keeps what it has measured; a study does
        again what failed or was cancelled.

        Raises:
            InvalidInput: an arrangement, or an id of another kind.
        """
        kind = kind_of(run_id)
        if not kind.can_resume:
            raise InvalidInput(
                f"id: got {run_id!r}, wanted a training job (job_...), an evaluation (evl_...) or a study (std_...)"
            )
        return self._act(run_id, "resume", _goes_on)

    def _act(self, run_id: str, action: str, has_happened: Callable[[Run], bool]) -> RunAccepted:
        place = f"{kind_of(run_id).path(run_id)}/{action}"
        return changed_once(
            lambda: self._transport.post_action(RunAccepted, place), lambda: self.run(run_id), has_happened
        )

    def workers(self) -> Listing[Worker]:
        """Worker processes and what each has under way, fetched page by page."""
        return self._transport.listing(Worker, "/workers")

    def queue(self) -> QueueState:
        """What runs where, and why the rest waits; the first hundred of each kind."""
        return self._transport.get(QueueState, "/queue")

    def events(self, run: str | None = None, after: int = 0) -> Iterator[RunEvent]:
        """Changes of runs as they happen, each once, in the order of seq; never ends by itself.

        A broken connection is opened again after the last event seen.

        Args:
            run: only this run's events; None: all runs'.
            after: seq of the last event already seen; 0: the whole history first.
        """
        return (event for event in follow_events(self._transport, run, after) if event is not None)

    def events_or_silence(
        self,
        run: str | None = None,
        after: int = 0,
        silence_s: float = SILENCE_S,
        on_connection: Callable[[bool], None] | None = None,
    ) -> Iterator[RunEvent | None]:
        """As `events`, and None at least every `silence_s` seconds without one, so that the caller can look around.

        `on_connection` is told False when the server stops answering, and True when it does again.
        """
        return follow_events(self._transport, run, after, silence_s, on_connection)

    def wait(
        self,
        run_id: str,
        timeout_s: float | None = None,
        on_event: Callable[[RunEvent], None] | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> Run:
        """Follow a run to its end.

        Args:
            run_id: an arrangement, training job, evaluation or study.
            timeout_s: give up waiting after this long; None waits for ever. The run goes on either way.
            on_event: called with each event of the run, its history first.
            on_connection: told False when the server stops answering, and True when it does again.

        Returns:
            The run in its last state: succeeded, failed or cancelled.

        Raises:
            WaitTimeout: the run was not finished within `timeout_s`.
            ServerUnreachable: the server went away and didn't come back (`nearfirst.client.events.GIVE_UP_S`).
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        silence_s = SILENCE_S if timeout_s is None else max(0.05, min(SILENCE_S, timeout_s))
        run = self.run(run_id)
        if run.state in TERMINAL_STATES:
            return run
        for event in self.events_or_silence(run_id, silence_s=silence_s, on_connection=on_connection):
            with suppressed_while_away():
                if event is not None and on_event is not None:
                    on_event(event)
                if event is None or event.type == "state":
                    run = self.run(run_id)
            if run.state in TERMINAL_STATES:
                return run
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"{run_id} is still {run.state} after {timeout_s:g} s")
        raise AssertionError("events never end by themselves")


def _goes_on(run: Run) -> bool:
    """Whether a run is as a resume leaves it."""
    is_held = isinstance(run, ShownStudy) and run.is_paused
    return run.state in (RunState.QUEUED, RunState.RUNNING, RunState.SUCCEEDED) and not is_held


def _export_format(name: str) -> ExportFormat:
    try:
        return ExportFormat(name)
    except ValueError as error:
        raise InvalidInput(f"format: got {name!r}, wanted one of {', '.join(ExportFormat)}") from error


def _file_type(path: Path) -> str:
    return "parquet" if path.suffix == ".parquet" else "jsonl"
