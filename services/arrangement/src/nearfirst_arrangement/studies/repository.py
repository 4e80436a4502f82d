"""Queries of studies: lists of them, and their nodes."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry.models import RunRow, StudyNodeRow
from nearfirst.registry.records import next_key, page_query


def list_studies(
    session: Session, after: int, limit: int, *, state: RunState | None, name: str | None, newest_first: bool = False
) -> tuple[list[RunRow], int | None]:
    """Studies in the order of their creation, and the keyset of the next page.

    Args:
        session: open transaction.
        after: keyset of this page; 0: the first.
        limit: most studies.
        state: only those in it; None: all.
        name: only those whose name has this in it, in capital or small letters; None: all.
        newest_first: the other way round.
    """
    query = select(RunRow).where(RunRow.kind == RunKind.STUDY)
    if state is not None:
        query = query.where(RunRow.state == state)
    if name is not None:
        query = query.where(RunRow.spec["name"].as_string().icontains(name, autoescape=True))
    rows = list(session.execute(page_query(query, RunRow.seq, after, limit, newest_first)).scalars())
    return rows[:limit], next_key([row.seq for row in rows], limit)


def list_nodes(
    session: Session, study_id: str, after: int, limit: int
) -> tuple[list[tuple[StudyNodeRow, RunRow]], int | None]:
    """A study's nodes in the order of their creation, each with its run, and the keyset of the next page."""
    query = (
        select(StudyNodeRow, RunRow)
        .join(RunRow, RunRow.id == StudyNodeRow.run_id)
        .where(StudyNodeRow.study_id == study_id, StudyNodeRow.number > after)
        .order_by(StudyNodeRow.number)
        .limit(limit + 1)
    )
    found = [(node, run) for node, run in session.execute(query).all()]
    return found[:limit], next_key([node.number for node, _ in found], limit)


def all_nodes(session: Session, study_id: str) -> dict[tuple[str, int], dict[RunKind, RunRow]]:
    """A study's runs by arrangement's label and seed, then kind."""
    query = (
        select(StudyNodeRow, RunRow)
        .join(RunRow, RunRow.id == StudyNodeRow.run_id)
        .where(StudyNodeRow.study_id == study_id)
        .order_by(StudyNodeRow.number)
    )
    found: dict[tuple[str, int], dict[RunKind, RunRow]] = {}
    for node, run in session.execute(query).all():
        found.setdefault((node.label, node.seed), {})[RunKind(node.kind)] = run
    return found
