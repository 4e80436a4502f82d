"""Studies: runs that no worker claims, whose state follows from their nodes (arrangements, train jobs, evaluations).

    queued -> running      a node was claimed, or has ended
    running -> succeeded   every node has succeeded
    running -> failed      every node has ended, and one has failed or was cancelled; the other branches went on

A paused study is queued or running and held, as its nodes are (`holding`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from nearfirst.contracts.problems import InvalidInput, StateConflict
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.studies import StudySpec
from nearfirst.registry import cancellation, evaluations, runs
from nearfirst.registry.content_runs import ENDED_BADLY, revive
from nearfirst.registry.database import in_parts, utc_now
from nearfirst.registry.dependencies import is_needed
from nearfirst.registry.events import append_event, lock_events
from nearfirst.registry.holding import hold, release
from nearfirst.registry.models import DependencyRow, RunRow, StudyNodeRow
from nearfirst.registry.requeueing import requeue, requeue_all
from nearfirst.registry.study_states import UNFINISHED, advance
from nearfirst.store.artifacts import Store


@dataclass(frozen=True, slots=True)
class Node:
    """What one arrangement and seed of a study needs."""

    label: str
    seed: int
    kind: RunKind
    run_id: str


def create(
    session: Session, spec: StudySpec, request: dict[str, Any], idempotency_key: str | None
) -> tuple[RunRow, bool]:
    """Queue a study without nodes, or get the one that has this key; says whether it was inserted.

    Raises:
        IdempotencyConflict: the key was used with another request.
    """
    return runs.create(
        session,
        RunKind.STUDY,
        spec.model_dump(mode="json"),
        request=request,
        idempotency_key=idempotency_key,
        priority=spec.priority,
    )


def add_nodes(session: Session, study_id: str, nodes: Sequence[Node]) -> None:
    """Let a study depend on runs. Those of a paused study are held."""
    lock_events(session)
    of_study = StudyNodeRow.study_id == study_id
    last = session.execute(select(func.max(StudyNodeRow.number)).where(of_study)).scalar_one() or 0
    known = {node.run_id for node in nodes_of(session, study_id)}
    rows = [
        {
            "study_id": study_id,
            "number": number,
            "label": node.label,
            "seed": node.seed,
            "kind": node.kind,
            "run_id": node.run_id,
        }
        for number, node in enumerate(nodes, start=last + 1)
    ]
    session.execute(insert(StudyNodeRow), rows)
    new = [run_id for run_id in dict.fromkeys(node.run_id for node in nodes) if run_id not in known]
    session.execute(insert(DependencyRow), [{"run_id": study_id, "depends_on": run_id} for run_id in new])
    if runs.get(session, study_id).is_held:
        hold(session, [study_id, *new])
    advance(session, study_id)


def begin_seeds(session: Session, study_id: str, seeds: Sequence[int]) -> StudySpec:
    """Note that a study has further seeds, and queue it again when it has ended. Their nodes are the caller's to add.

    Returns:
        The study's spec with these seeds alone.

    Raises:
        NotFound: no such study.
        InvalidInput: it has one of them already, or would have too many runs.
        StateConflict: it was cancelled.
    """
    lock_events(session)
    row = runs.get(session, study_id, RunKind.STUDY)
    spec = StudySpec.model_validate(row.spec)
    if known := sorted(set(spec.seeds) & set(seeds)):
        raise InvalidInput(f"seeds: {known[0]} is one of {study_id}'s seeds already: {spec.seeds}")
    if row.state == RunState.CANCELLED:
        raise StateConflict(f"{study_id} was cancelled: resume it before seeds are added")
    whole = StudySpec.model_validate(spec.model_dump() | {"seeds": [*spec.seeds, *seeds]})
    session.execute(
        update(RunRow)
        .where(RunRow.id == study_id)
        .values(spec=whole.model_dump(mode="json"))
        .execution_options(synchronize_session=False)
    )
    if row.state not in UNFINISHED:
        requeue(session, study_id, RunKind.STUDY, is_lost=True)
    return spec.model_copy(update={"seeds": list(seeds)})


def pause(session: Session, study_id: str) -> RunRow:
    """Begin nothing more of a study, and let its trainings go back to the queue with their state saved.

    Raises:
        NotFound: no such study.
        StateConflict: it has ended.
    """
    lock_events(session)
    row = runs.get(session, study_id, RunKind.STUDY)
    if row.state not in UNFINISHED:
        raise StateConflict(f"{study_id} can't be paused: it has {row.state}")
    if not row.is_held:
        hold(session, [study_id, *_node_ids(session, study_id)])
        _tell_paused(session, study_id, is_paused=True)
    return runs.get(session, study_id)


def resume(session: Session, study_id: str, store: Store) -> RunRow:
    """Go on with a paused, failed or cancelled study: of its nodes those that failed or were cancelled begin anew.

    Trainings go on from their last state checkpoints, and what was measured is kept.

    Raises:
        NotFound: no such study.
        StateConflict: it goes on already, has succeeded, or a node is still ending.
    """
    lock_events(session)
    row = runs.get(session, study_id, RunKind.STUDY)
    if row.state in UNFINISHED and row.is_held:
        release(session, [study_id, *_node_ids(session, study_id)])
        _tell_paused(session, study_id, is_paused=False)
        return runs.get(session, study_id)
    ending = _node_ids(session, study_id, states=[RunState.CANCELLING])
    if ending:
        raise StateConflict(f"{study_id} can't be resumed yet: {ending[0]} is still ending")
    requeue(session, study_id, RunKind.STUDY)
    _begin_again(session, study_id, store)
    release(session, _node_ids(session, study_id))
    advance(session, study_id)
    return runs.get(session, study_id)


def _begin_again(session: Session, study_id: str, store: Store) -> None:
    """Queue what ended badly, the first of each branch first, and evaluations of jobs that will write more."""
    jobs = _node_ids(session, study_id, RunKind.TRAIN_JOB, ENDED_BADLY)
    if jobs:
        for arrangement in _node_ids(session, study_id, RunKind.ARRANGEMENT):
            revive(session, runs.get(session, arrangement), store)
    for state in ENDED_BADLY:
        requeue_all(session, jobs, state)
    for evaluation in _node_ids(session, study_id, RunKind.EVALUATION, ENDED_BADLY):
        evaluations.resume(session, evaluation, store)
    requeue_all(session, _evaluations_of(session, study_id, jobs), RunState.SUCCEEDED)


def cancel(session: Session, study_id: str) -> RunRow:
    """End a study now, and with it those of its runs that nobody else needs.

    Raises:
        NotFound: no such study.
        StateConflict: it has ended already.
    """
    before = runs.get(session, study_id, RunKind.STUDY)
    row = runs.transition(session, study_id, RunState.CANCELLED, finished_at=utc_now(session), is_held=False)
    if row is None:
        if before.state != RunState.CANCELLED:
            raise StateConflict(f"{study_id} can't be cancelled: it has {before.state}")
        return before
    for evaluation in _node_ids(session, study_id, RunKind.EVALUATION, UNFINISHED):
        evaluations.cancel(session, evaluation)
    for job in _node_ids(session, study_id, RunKind.TRAIN_JOB, UNFINISHED):
        cancellation.cancel(session, job, RunKind.TRAIN_JOB)
    for arrangement in _node_ids(session, study_id, RunKind.ARRANGEMENT, UNFINISHED):
        if not session.execute(select(RunRow.id).where(RunRow.id == arrangement, is_needed())).scalar_one_or_none():
            cancellation.cancel(session, arrangement, RunKind.ARRANGEMENT)
    return runs.get(session, study_id)


def nodes_of(session: Session, study_id: str) -> Sequence[StudyNodeRow]:
    """A study's nodes in the order of their creation."""
    query = select(StudyNodeRow).where(StudyNodeRow.study_id == study_id).order_by(StudyNodeRow.number)
    return session.execute(query).scalars().all()


def _node_ids(
    session: Session, study_id: str, kind: RunKind | None = None, states: Collection[RunState] | None = None
) -> list[str]:
    """Ids of a study's runs, each once, in the order of their nodes."""
    query = (
        select(StudyNodeRow.run_id)
        .join(RunRow, RunRow.id == StudyNodeRow.run_id)
        .where(StudyNodeRow.study_id == study_id)
        .order_by(StudyNodeRow.number)
    )
    if kind is not None:
        query = query.where(StudyNodeRow.kind == kind)
    if states is not None:
        query = query.where(RunRow.state.in_(states))
    return list(dict.fromkeys(session.execute(query).scalars()))


def _evaluations_of(session: Session, study_id: str, jobs: Sequence[str]) -> list[str]:
    """A study's evaluations that measure some of its train jobs."""
    job = RunRow.spec["spec"]["train_job"].as_string()
    query = (
        select(RunRow.id)
        .join(StudyNodeRow, StudyNodeRow.run_id == RunRow.id)
        .where(StudyNodeRow.study_id == study_id, RunRow.kind == RunKind.EVALUATION)
    )
    return [found for part in in_parts(jobs) for found in session.execute(query.where(job.in_(part))).scalars()]


def _tell_paused(session: Session, study_id: str, *, is_paused: bool) -> None:
    row = runs.get(session, study_id)
    append_event(session, row, "state", {"state": row.state, "is_paused": is_paused})
