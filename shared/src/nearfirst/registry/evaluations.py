"""Evaluations: runs that no worker claims, whose state follows from their units and their train job.

    queued -> running      a unit was claimed, or has ended
    running -> succeeded   the train job is over, all its checkpoints have joined, and every unit has succeeded
    running -> failed      the same, but some unit has failed; the others were measured
    queued -> failed       the train job is over and has no checkpoint

A train job that failed or was cancelled is over too: what it has written is measured, and the evaluation ends as its
units did, with a note in its result.
"""

from collections.abc import Sequence, Set
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from nearfirst.contracts.evaluations import CheckpointRef
from nearfirst.contracts.problems import StateConflict
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry import runs
from nearfirst.registry.cancellation import end_unneeded
from nearfirst.registry.content_runs import ENDED_BADLY, content_runs, lost_among, lost_runs
from nearfirst.registry.database import utc_now
from nearfirst.registry.dependencies import dependency_ids
from nearfirst.registry.evaluation_states import advance, look
from nearfirst.registry.evaluation_units import NEEDS_GENERATION, ResolvedEvaluation, specs_by_kind
from nearfirst.registry.events import lock_events
from nearfirst.registry.models import DependencyRow, EvaluationUnitRow, RunRow
from nearfirst.registry.requeueing import requeue, requeue_all
from nearfirst.store.artifacts import Store


def create(
    session: Session,
    evaluation: ResolvedEvaluation,
    request: dict[str, Any],
    idempotency_key: str | None,
    checkpoints: Sequence[CheckpointRef],
    store: Store,
) -> RunRow:
    """Queue an evaluation with the units of the checkpoints that are known, or get the one that has this key.

    Args:
        session: open transaction.
        evaluation: what to measure.
        request: what the user sent.
        idempotency_key: at most one evaluation has it.
        checkpoints: those that are there already; those of a train job under way join by `settle`.
        store: has the units' artifacts.

    Raises:
        IdempotencyConflict: the key was used with another request.
    """
    lost = _lost_units(session, evaluation, checkpoints, store)
    row, is_new = runs.create(
        session,
        RunKind.EVALUATION,
        evaluation.model_dump(mode="json"),
        request=request,
        idempotency_key=idempotency_key,
        priority=evaluation.spec.priority,
    )
    if is_new:
        add_units(session, row.id, evaluation, checkpoints, lost=lost)
        advance(session, row.id)
    return runs.get(session, row.id)


def add_units(
    session: Session,
    evaluation_id: str,
    evaluation: ResolvedEvaluation,
    checkpoints: Sequence[CheckpointRef],
    *,
    lost: Set[str] = frozenset(),
) -> None:
    """Let checkpoints join an evaluation: it depends on their units from now on.

    A checkpoint takes the place of another one of its step, which a train job has written before it was resumed.

    Args:
        session: open transaction.
        evaluation_id: the evaluation.
        evaluation: its spec.
        checkpoints: none of them has joined yet.
        lost: ids of succeeded units whose artifacts can't be read; other succeeded ones count as done.
    """
    lock_events(session)
    _replace(session, evaluation_id, [checkpoint.step for checkpoint in checkpoints])
    generation_of: dict[int, str] = {}
    joined: list[dict[str, Any]] = []
    for kind, units in specs_by_kind(evaluation, checkpoints).items():
        ids = content_runs(
            session,
            kind,
            [unit for _, unit in units],
            depends_on=[[generation_of[ref.step]] for ref, _ in units] if kind in NEEDS_GENERATION else (),
            lost=lost,
            priority=evaluation.spec.priority,
        )
        steps = [ref.step for ref, _ in units]
        if kind is RunKind.GENERATION:
            generation_of = dict(zip(steps, ids, strict=True))
        joined += [
            {"step": ref.step, "kind": kind, "run_id": run_id, "checkpoint_digest": ref.digest}
            for (ref, _), run_id in zip(units, ids, strict=True)
        ]
    if joined:
        session.execute(insert(EvaluationUnitRow), [unit | {"evaluation_id": evaluation_id} for unit in joined])
        session.execute(
            insert(DependencyRow), [{"run_id": evaluation_id, "depends_on": unit["run_id"]} for unit in joined]
        )


def _replace(session: Session, evaluation_id: str, steps: Sequence[int]) -> None:
    """Take an evaluation's units of these steps out of it, and end those that nobody else needs."""
    there = (EvaluationUnitRow.evaluation_id == evaluation_id, EvaluationUnitRow.step.in_(steps))
    old = list(session.execute(select(EvaluationUnitRow.run_id).where(*there)).scalars()) if steps else []
    if not old:
        return
    session.execute(delete(EvaluationUnitRow).where(*there))
    session.execute(
        delete(DependencyRow).where(DependencyRow.run_id == evaluation_id, DependencyRow.depends_on.in_(old))
    )
    end_unneeded(session, old)


def _lost_units(
    session: Session, evaluation: ResolvedEvaluation, checkpoints: Sequence[CheckpointRef], store: Store
) -> set[str]:
    found: set[str] = set()
    for kind, units in specs_by_kind(evaluation, checkpoints).items():
        found |= lost_runs(session, kind, (unit for _, unit in units), store)
    return found


def cancel(session: Session, evaluation_id: str) -> RunRow:
    """End an evaluation now, and with it the units that nobody else needs.

    Raises:
        NotFound: no such evaluation.
        StateConflict: it has ended already.
    """
    before = runs.get(session, evaluation_id, RunKind.EVALUATION)
    row = runs.transition(session, evaluation_id, RunState.CANCELLED, finished_at=utc_now(session))
    if row is not None:
        end_unneeded(session, dependency_ids(session, [evaluation_id]))
        return row
    if before.state != RunState.CANCELLED:
        raise StateConflict(f"{evaluation_id} can't be cancelled: it has {before.state}")
    return before


def resume(session: Session, evaluation_id: str, store: Store) -> RunRow:
    """Queue a failed or cancelled evaluation again, and those of its units that failed or were cancelled.

    Raises:
        NotFound: no such evaluation.
        StateConflict: it is queued, running or has succeeded.
    """
    again = _units_in(session, evaluation_id, ENDED_BADLY)
    lost = lost_among(session, dependency_ids(session, again), store)  # before a lock is held
    requeue(session, evaluation_id, RunKind.EVALUATION)
    for state in ENDED_BADLY:
        requeue_all(session, _units_in(session, evaluation_id, [state]), state)
    requeue_all(session, lost, RunState.SUCCEEDED)
    advance(session, evaluation_id)
    return runs.get(session, evaluation_id)


def _units_in(session: Session, evaluation_id: str, states: Sequence[RunState]) -> list[str]:
    query = (
        select(RunRow.id)
        .join(EvaluationUnitRow, EvaluationUnitRow.run_id == RunRow.id)
        .where(EvaluationUnitRow.evaluation_id == evaluation_id, RunRow.state.in_(states))
    )
    return list(session.execute(query).scalars())


def settle(session: Session, store: Store) -> list[str]:
    """Let new checkpoints join the unfinished evaluations, and bring their states and progress up to date.

    Any number of processes may do so at once. Without anything to do it is four queries, whatever the number of units,
    and takes no lock.

    Returns:
        Ids of the evaluations that have ended.
    """
    seen = [each for each in look(session) if each.is_due]
    if not seen:
        return []
    lost: set[str] = set()
    checked: set[tuple[str, str]] = set()
    for each in seen:
        if joining := each.missing():
            lost |= _lost_units(session, _resolved(session, each.id), joining, store)
            checked |= {(each.id, ref.digest) for ref in joining}
    lock_events(session)
    for each in look(session):  # again: another process may have been faster
        if joining := [ref for ref in each.missing() if (each.id, ref.digest) in checked]:
            add_units(session, each.id, _resolved(session, each.id), joining, lost=lost)
    return advance(session)


def _resolved(session: Session, evaluation_id: str) -> ResolvedEvaluation:
    return ResolvedEvaluation.model_validate(runs.get(session, evaluation_id).spec)
