"""Datasets, measurements, checkpoints, logs and events: queries beside the run state machine."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Text, cast, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.problems import NotFound
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.registry.database import utc_now
from nearfirst.registry.models import CheckpointRecord, DatasetRow, LogRecord, MetricRecord, RunRow
from nearfirst.registry.names import new_id
from nearfirst.registry.runs import Claim, assert_held
from nearfirst.registry.setbacks import NO_SETBACKS


def register_dataset(session: Session, **fields: Any) -> tuple[Dataset, bool]:
    """Insert a dataset, or get the one with the same digest and name; says whether it was inserted."""
    query = select(DatasetRow).where(DatasetRow.digest == fields["digest"], DatasetRow.name == fields["name"])
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    inserted = session.execute(
        insert(DatasetRow)
        .values(id=new_id("ds"), created_at=utc_now(session), **fields)
        .on_conflict_do_nothing(index_elements=["digest", "name"])
        .returning(DatasetRow.id)
    ).scalar_one_or_none()
    return _dataset(session.execute(query).scalar_one()), inserted is not None


def task_sizes(session: Session, dataset_id: str) -> dict[str, int] | None:
    """A dataset's rows by task, `""` for rows without one; None where they weren't counted at its registration."""
    query = select(DatasetRow.task_sizes).where(DatasetRow.id == dataset_id)
    sizes: dict[str, int] | None = session.execute(query).scalar_one()
    return sizes


def get_dataset(session: Session, dataset_id: str) -> Dataset:
    """The dataset with this id.

    Raises:
        NotFound: there is none.
    """
    row = session.execute(select(DatasetRow).where(DatasetRow.id == dataset_id)).scalar_one_or_none()
    if row is None:
        raise NotFound(f"no dataset has the id {dataset_id!r}")
    return _dataset(row)


def first_dataset_of(session: Session, digest: str) -> str | None:
    """Id of the first dataset that was registered with these rows; None when there is none."""
    query = select(DatasetRow.id).where(DatasetRow.digest == digest).order_by(DatasetRow.seq).limit(1)
    return session.execute(query).scalar_one_or_none()


def list_datasets(
    session: Session, after: int, limit: int, *, text: str | None = None, newest_first: bool = False
) -> tuple[list[Dataset], int | None]:
    """Datasets in the order of their registration, and the keyset of the next page.

    Args:
        session: open transaction.
        after: keyset of this page; 0: the first.
        limit: most datasets.
        text: only those whose id or name has this in it, in capital or small letters; None: all.
        newest_first: the other way round.
    """
    query = select(DatasetRow)
    if text is not None:
        query = query.where(
            or_(*(column.icontains(text, autoescape=True) for column in (DatasetRow.id, DatasetRow.name)))
        )
    rows = list(session.execute(page_query(query, DatasetRow.seq, after, limit, newest_first)).scalars())
    return [_dataset(row) for row in rows[:limit]], next_key([row.seq for row in rows], limit)


def list_runs(
    session: Session,
    kind: RunKind,
    after: int,
    limit: int,
    *,
    state: RunState | None = None,
    text: str | None = None,
    newest_first: bool = False,
) -> tuple[list[RunRow], int | None]:
    """Runs of a kind in the order of their creation, and the keyset of the next page.

    Args:
        session: open transaction.
        kind: of the runs.
        after: keyset of this page; 0: the first.
        limit: most runs.
        state: only those in it; None: all.
        text: only those whose id or spec, as JSON, has this in it, in capital or small letters; None: all.
        newest_first: the other way round.
    """
    query = select(RunRow).where(RunRow.kind == kind)
    if state is not None:
        query = query.where(RunRow.state == state)
    if text is not None:
        as_stored = json.dumps(text)[1:-1]  # the column's text has other than ASCII escaped
        in_spec = cast(RunRow.spec, Text).icontains(as_stored, autoescape=True)
        query = query.where(or_(RunRow.id.icontains(text, autoescape=True), in_spec))
    rows = list(session.execute(page_query(query, RunRow.seq, after, limit, newest_first)).scalars())
    return rows[:limit], next_key([row.seq for row in rows], limit)


def page_query(
    query: Select[Any], seq: InstrumentedAttribute[int], after: int, limit: int, newest_first: bool
) -> Select[Any]:
    """The rows of a query after a keyset (0: from its first) in the order of `seq`, and one more."""
    if after:
        query = query.where(seq < after if newest_first else seq > after)
    return query.order_by(seq.desc() if newest_first else seq).limit(limit + 1)


def next_key(seqs: Sequence[int], limit: int) -> int | None:
    """The keyset of the next page when one row more than `limit` was found."""
    return seqs[limit - 1] if len(seqs) > limit else None


def record_metrics(session: Session, claimed: Claim, rows: Sequence[MetricRow]) -> None:
    """Keep measurements; a step that is measured again (after a resume) replaces its value.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    assert_held(session, claimed)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    latest = {(row.step, row.name): row.value for row in rows}  # a statement may name each key once
    statement = insert(MetricRecord).values(
        [{"run_id": claimed.run_id, "step": s, "name": n, "value": v} for (s, n), v in latest.items()]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "step", "name"], set_={"value": statement.excluded.value}
        )
    )


def list_metrics(
    session: Session, run_id: str, names: Sequence[str] | None, after: tuple[int, str] | None, limit: int
) -> tuple[list[MetricRow], tuple[int, str] | None]:
    """Measurements by step, then name, and the keyset of the next page. `names`: only these; None: all."""
    query = select(MetricRecord).where(MetricRecord.run_id == run_id)
    if names is not None:
        query = query.where(MetricRecord.name.in_(names))
    if after is not None:
        step, last_name = after
        query = query.where(
            (MetricRecord.step > step) | ((MetricRecord.step == step) & (MetricRecord.name > last_name))
        )
    query = query.order_by(MetricRecord.step, MetricRecord.name).limit(limit + 1)
    rows = list(session.execute(query).scalars())
    items = [MetricRow(step=row.step, name=row.name, value=row.value) for row in rows[:limit]]
    return items, (items[-1].step, items[-1].name) if len(rows) > limit else None


def record_checkpoint(session: Session, claimed: Claim, checkpoint: Checkpoint, *, is_progress: bool) -> None:
    """Keep a complete checkpoint.

    Args:
        session: open transaction.
        claimed: the worker's claim.
        checkpoint: what was written.
        is_progress: a later attempt goes on from here, and no earlier one could: setbacks are forgotten.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    assert_held(session, claimed, **(NO_SETBACKS if is_progress else {}))
    session.merge(CheckpointRecord(run_id=claimed.run_id, **checkpoint.model_dump(mode="json")))


def forget_checkpoint(session: Session, claimed: Claim, step: int, tier: CheckpointTier) -> None:
    """A checkpoint's files were deleted.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    assert_held(session, claimed)
    session.execute(
        delete(CheckpointRecord).where(
            CheckpointRecord.run_id == claimed.run_id, CheckpointRecord.step == step, CheckpointRecord.tier == tier
        )
    )


def forget_after(session: Session, claimed: Claim, step: int) -> None:
    """Delete a run's measurements after `step`, and all its checkpoints' rows.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    assert_held(session, claimed)
    session.execute(delete(MetricRecord).where(MetricRecord.run_id == claimed.run_id, MetricRecord.step > step))
    session.execute(delete(CheckpointRecord).where(CheckpointRecord.run_id == claimed.run_id))


def list_checkpoints(session: Session, run_id: str) -> list[Checkpoint]:
    """The run's complete checkpoints by step, then tier."""
    query = (
        select(CheckpointRecord)
        .where(CheckpointRecord.run_id == run_id)
        .order_by(CheckpointRecord.step, CheckpointRecord.tier)
    )
    return [
        Checkpoint.model_validate({field: getattr(row, field) for field in Checkpoint.model_fields})
        for row in session.execute(query).scalars()
    ]


def append_log(session: Session, claimed: Claim, lines: Sequence[str]) -> None:
    """Keep lines that a run printed.

    Raises:
        Fenced: the run belongs to somebody else now.
    """
    assert_held(session, claimed)
    now = utc_now(session)
    session.add_all(
        # PostgreSQL's text can't hold a null character, and a log is no reason to fail.
        LogRecord(run_id=claimed.run_id, line=line.replace("\0", "\ufffd"), created_at=now)
        for line in lines
    )


def list_logs(session: Session, run_id: str, after: int, limit: int) -> tuple[list[LogRecord], int | None]:
    """A run's lines in their order, and the keyset of the next page."""
    query = (
        select(LogRecord)
        .where(LogRecord.run_id == run_id, LogRecord.seq > after)
        .order_by(LogRecord.seq)
        .limit(limit + 1)
    )
    rows = list(session.execute(query).scalars())
    return rows[:limit], next_key([row.seq for row in rows], limit)


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset.model_validate({field: getattr(row, field) for field in Dataset.model_fields})
