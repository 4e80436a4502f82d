"""Rules of studies: asking for one, what it would take, and how it and its nodes are shown."""

from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import invalid_input_from_validation
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.studies import Study, StudyEstimate, StudyNode, StudySpec
from nearfirst.contracts.training import TrainSettings, TrainSpec
from nearfirst.registry import records, runs, studies
from nearfirst.registry.content_runs import content_key
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import progress_of
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.feasibility import check_tasks_are_known
from nearfirst_arrangement.studies import repository
from nearfirst_arrangement.studies.submitting import Submission, order_content
from nearfirst_arrangement.train_jobs import service as train_jobs

FEW_SEEDS = 3
"""Fewer say little about what other seeds would give."""


def create(session: Session, spec: StudySpec, idempotency_key: str | None, settings: Settings, store: Store) -> RunRow:
    """Queue a study with all its nodes, or get the one that has this key.

    Raises what `Submission.nodes` raises, and IdempotencyConflict: the key was used with another body.
    """
    request = spec.model_dump(mode="json")
    if (found := runs.find_by_key(session, RunKind.STUDY, idempotency_key, request)) is not None:
        return found
    test = records.get_dataset(session, spec.test.dataset)
    if spec.figure_tasks and (sizes := records.task_sizes(session, test.id)) is not None:
        check_tasks_are_known(spec.figure_tasks, sizes, name="figure_tasks")
    row, is_new = studies.create(session, spec, request, idempotency_key)
    if not is_new:
        return row
    studies.add_nodes(session, row.id, Submission(session, spec, settings, store).nodes())
    return runs.get(session, row.id)


def add_seeds(session: Session, study_id: str, seeds: Sequence[int], settings: Settings, store: Store) -> RunRow:
    """Let a study go on with further seeds.

    Raises what `studies.begin_seeds` and `Submission.nodes` raise.
    """
    try:
        spec = studies.begin_seeds(session, study_id, seeds)
    except ValidationError as error:
        raise invalid_input_from_validation(error, "seeds") from error
    studies.add_nodes(session, study_id, Submission(session, spec, settings, store).nodes())
    return runs.get(session, study_id)


def estimate(session: Session, spec: StudySpec, settings: Settings, store: Store) -> StudyEstimate:
    """What a study would take; nothing is queued. Raises what `create` raises of the spec, as far as it is looked at.

    The training is estimated for all rows of the study's training set.
    """
    orders = {
        content_key(order_content(session, spec, arrangement, seed, settings))
        for seed in spec.seeds
        for arrangement in spec.arrangements
    }
    fields = {name: getattr(spec.training, name) for name in TrainSettings.model_fields}
    job = train_jobs.estimate(session, TrainSpec(**fields, dataset=spec.train.dataset), settings, store)
    checkpoints, time = job.estimates.checkpoints, job.estimates.time
    return StudyEstimate(
        num_orders=len(orders),
        num_train_jobs=spec.num_runs,
        num_checkpoints=spec.num_runs * (checkpoints.num_weights if checkpoints else 0),
        train_job=job,
        train_seconds=None if time is None else spec.num_runs * time.seconds,
        warnings=warnings_of(spec),
    )


def show(row: RunRow) -> Study:
    """A run row as GET /studies/{id} answers."""
    spec = StudySpec.model_validate(row.spec)
    return Study(
        id=row.id,
        state=RunState(row.state),
        is_paused=row.is_held,
        progress=progress_of(row),
        spec=spec,
        warnings=warnings_of(spec),
        error=row.error,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def nodes_page(session: Session, study_id: str, after: int, limit: int) -> tuple[list[StudyNode], int | None]:
    """Nodes in the order of their creation, and the keyset of the next page."""
    found, following = repository.list_nodes(session, study_id, after, limit)
    items = [
        StudyNode(
            arrangement=node.label,
            seed=node.seed,
            kind=RunKind(node.kind),
            run=run.id,
            state=RunState(run.state),
            is_held=run.is_held,
            progress=progress_of(run),
            error=run.error,
        )
        for node, run in found
    ]
    return items, following


def warnings_of(spec: StudySpec) -> list[str]:
    """What would make a study's answer weak, known before it begins."""
    found = []
    if spec.baseline is None and len(spec.arrangements) > 1:
        first = spec.arrangements[0].label
        found.append(f"baseline: none is given; the others are compared with the first arrangement, {first!r}")
    if len(spec.seeds) < FEW_SEEDS:
        found.append(
            f"seeds: there {'is' if len(spec.seeds) == 1 else 'are'} {len(spec.seeds)}; differences between "
            f"arrangements are told from chance with {FEW_SEEDS} or more"
        )
    if spec.training.checkpoint.weights_every is None:
        found.append(
            "training.checkpoint.weights_every: none is given; only the last checkpoint is measured, so that there is "
            "no curve"
        )
    return found
