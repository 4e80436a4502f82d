"""Which runs wait for which: a run can't start before everything that it depends on has succeeded."""

from collections.abc import Iterable
from functools import cache

from sqlalchemy import ColumnElement, FromClause, Select, and_, bindparam, exists, select
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry.database import in_parts
from nearfirst.registry.models import DependencyRow, RunRow


def dependencies(session: Session, run_id: str, kind: RunKind | None = None) -> list[RunRow]:
    """The runs that `run_id` depends on, in the order of their creation, as they are in the database now."""
    query = (
        select(RunRow)
        .join(DependencyRow, DependencyRow.depends_on == RunRow.id)
        .where(DependencyRow.run_id == run_id)
        .order_by(RunRow.seq)
        .execution_options(populate_existing=True)
    )
    if kind is not None:
        query = query.where(RunRow.kind == kind)
    return list(session.execute(query).scalars())


def dependency_ids(session: Session, run_ids: Iterable[str]) -> list[str]:
    """Ids of the runs that some of these runs depend on, each once, whatever became of them."""
    query = select(DependencyRow.depends_on).distinct()
    found = [session.execute(query.where(DependencyRow.run_id.in_(part))).scalars() for part in in_parts(run_ids)]
    return list(dict.fromkeys(run_id for part in found for run_id in part))


def unfinished_dependencies(session: Session, run_id: str) -> list[str]:
    """Ids of the runs that `run_id` itself still waits for, in the order of their creation."""
    found = _unfinished().where(DependencyRow.run_id == run_id).subquery()
    return list(session.execute(_in_order(found)).scalars())


def all_unfinished_dependencies(session: Session, run_id: str) -> list[str]:
    """Ids of the runs that `run_id` still waits for and of all that those wait for, in the order of their creation."""
    return list(session.execute(_all_unfinished(), {"run_id": run_id}).scalars())


@cache  # to build it takes as long as PostgreSQL takes to answer it
def _all_unfinished() -> Select[str]:
    first = _unfinished().where(DependencyRow.run_id == bindparam("run_id")).cte(recursive=True)
    return _in_order(first.union(_unfinished().join(first, first.c.id == DependencyRow.run_id)))


def _unfinished() -> Select[str]:
    return (
        select(RunRow.id)
        .join(DependencyRow, DependencyRow.depends_on == RunRow.id)
        .where(RunRow.state != RunState.SUCCEEDED)
    )


def _in_order(found: FromClause) -> Select[str]:
    return select(RunRow.id).join(found, found.c.id == RunRow.id).order_by(RunRow.seq)


def is_needed(*, now: bool = False) -> ColumnElement[bool]:
    """SQL: a run that is queued or running depends on this one; with `now`, one that no paused study holds."""
    other = RunRow.__table__.alias("other")
    needing = (
        select(DependencyRow.run_id)
        .join(other, other.c.id == DependencyRow.run_id)
        .where(DependencyRow.depends_on == RunRow.id, other.c.state.in_([RunState.QUEUED, RunState.RUNNING]))
    )
    if now:
        needing = needing.where(other.c.is_held.is_(False))
    return exists(needing.correlate(RunRow))


@cache
def is_ready() -> ColumnElement[bool]:
    """SQL: everything that the run depends on has succeeded, and no paused study holds it."""
    other = RunRow.__table__.alias("other")
    blocked = (
        select(DependencyRow.run_id)
        .join(other, other.c.id == DependencyRow.depends_on)
        .where(DependencyRow.run_id == RunRow.id, other.c.state != RunState.SUCCEEDED)
    )
    return and_(RunRow.is_held.is_(False), ~exists(blocked.correlate(RunRow)))
