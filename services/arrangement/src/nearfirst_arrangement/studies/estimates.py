"""What a study would take: each train job by the rows of its own order, and all of them together."""

from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import ArrangementSpec
from nearfirst.contracts.estimates import TrainEstimate
from nearfirst.contracts.problems import DoesNotFit
from nearfirst.contracts.studies import ArrangementEstimate, StudyEstimate, StudySpec
from nearfirst.contracts.training import CheckpointSpec, TrainSettings, TrainSpec
from nearfirst.data.steps import rows_to_consume
from nearfirst.estimates.checkpoints import num_kept_weights
from nearfirst.estimates.estimate import refuse_what_does_not_fit
from nearfirst.estimates.sizes import in_gigabytes
from nearfirst.registry import records
from nearfirst.registry.content_runs import content_key
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.arrangements.service import check_rules
from nearfirst_arrangement.feasibility import KnownRows
from nearfirst_arrangement.studies.service import warnings_of
from nearfirst_arrangement.studies.submitting import named, order_content
from nearfirst_arrangement.train_jobs import service as train_jobs

Number = TypeVar("Number", int, float)


def estimate(session: Session, spec: StudySpec, settings: Settings, store: Store) -> StudyEstimate:
    """What a study would take; nothing is queued.

    Args:
        session: reads only.
        spec: of the study.
        settings: of the suite.
        store: has the datasets.

    Raises:
        What `Submission.nodes` raises of the spec, but for DoesNotFit: that is part of the answer.
    """
    jobs = _Jobs(session, spec, settings, store)
    orders: set[str] = set()
    found: dict[tuple[str, int], TrainEstimate] = {}
    by_arrangement: dict[str, ArrangementEstimate] = {}
    for arrangement in spec.arrangements:
        for seed in spec.seeds:
            with named(arrangement):
                content = order_content(session, spec, arrangement, seed, settings)
                check_rules(session, content.spec)
                key = content_key(content)
                rows = num_order_rows(session, content.spec)
                job = found[key, seed] = jobs.of(content.spec, rows)
            orders.add(key)
            by_arrangement[arrangement.label] = _summary(arrangement.label, rows, job, spec.training.checkpoint)
    longest = max(found.values(), key=lambda each: each.steps)
    return StudyEstimate(
        num_orders=len(orders),
        num_train_jobs=len(found),
        steps=sum(each.steps for each in found.values()),
        num_checkpoints=sum(num_kept_weights(each.steps, spec.training.checkpoint) for each in found.values()),
        checkpoint_bytes=_total(each.checkpoint_bytes for each in found.values()),
        arrangements=list(by_arrangement.values()),
        train_job=longest,
        train_seconds=_total(_seconds(each) for each in found.values()),
        obstacles=_obstacles(spec, longest, list(found.values())),
        warnings=warnings_of(spec),
    )


def num_order_rows(session: Session, order: ArrangementSpec) -> int:
    """Rows that an arrangement will have, before it is there: at most, with `rounds` or the paper's limits."""
    dataset = records.get_dataset(session, order.train.dataset)
    known = KnownRows(dataset.num_examples, records.task_sizes(session, dataset.id))
    pool = dataset.num_examples
    if known.task_sizes is not None:
        pool = known.of(order.train).per_task(order.select, order.fidelity) or pool
    return min(pool, order.limit or pool)


class _Jobs:
    """Estimates of train jobs; those that train equally long on one dataset are estimated once."""

    def __init__(self, session: Session, spec: StudySpec, settings: Settings, store: Store) -> None:
        self._session = session
        self._training = {name: getattr(spec.training, name) for name in TrainSettings.model_fields}
        self._settings = settings
        self._store = store
        self._found: dict[tuple[str, int], TrainEstimate] = {}

    def of(self, order: ArrangementSpec, num_rows: int) -> TrainEstimate:
        """The estimate of a job on an order of so many rows; its rows are those of the whole dataset."""
        settings = TrainSettings(**self._training)
        steps = -(-rows_to_consume(num_rows, settings) // settings.global_batch_size)
        key = order.train.dataset, steps
        if key not in self._found:
            fields = self._training | {"epochs": None, "max_steps": steps}
            spec = TrainSpec(**fields, dataset=order.train.dataset)
            self._found[key] = train_jobs.measure(self._session, spec, self._settings, self._store)
        return self._found[key]


def _summary(label: str, rows: int, job: TrainEstimate, checkpoint: CheckpointSpec) -> ArrangementEstimate:
    return ArrangementEstimate(
        arrangement=label,
        rows=rows,
        steps=job.steps,
        num_checkpoints=num_kept_weights(job.steps, checkpoint),
        checkpoint_bytes=job.checkpoint_bytes,
        seconds=_seconds(job),
    )


def _obstacles(spec: StudySpec, longest: TrainEstimate, jobs: list[TrainEstimate]) -> list[str]:
    """What is too small for one train job, or for what all of them keep."""
    found = []
    try:
        refuse_what_does_not_fit(spec.training, longest.estimates)
    except DoesNotFit as error:
        found.append(error.detail)
    free, kept = longest.estimates.available.disk_bytes, _total(job.checkpoint_bytes for job in jobs)
    if not found and free is not None and kept is not None and kept > free:
        found.append(
            f"checkpoint: the {len(jobs)} train jobs keep {in_gigabytes(kept)} GB together; "
            f"{in_gigabytes(free)} GB are free where they are written"
        )
    return found


def _seconds(job: TrainEstimate) -> float | None:
    return None if job.estimates.time is None else job.estimates.time.seconds


def _total(values: Iterable[Number | None]) -> Number | None:
    """Their sum; None where one isn't known."""
    total: Number | None = None
    for value in values:
        if value is None:
            return None
        total = value if total is None else total + value
    return total
