"""Tables. `seq` columns are the keyset for paging; ids are what users see."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_Seq = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself for INTEGER only


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always UTC and always aware; SQLite would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: UTC."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database: UTC, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The registry's tables."""

    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON(none_as_null=True)}


class DatasetRow(Base):
    """A registered dataset; its canonical rows are in the store under `digest`."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("digest", "name", name="uq_datasets_digest_name"),)

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(80))
    format: Mapped[str] = mapped_column(String(40))
    split: Mapped[str | None] = mapped_column(Text)
    num_examples: Mapped[int] = mapped_column(BigInteger)
    num_tasks: Mapped[int] = mapped_column(BigInteger)
    task_sizes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    """Task -> its rows; None: unknown."""
    created_at: Mapped[datetime]


class RunRow(Base):
    """Anything that a worker does. The row is the outbox: a message on the broker is only a hint to look here."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("kind", "idempotency_key", name="uq_runs_kind_idempotency_key"),
        Index("ix_runs_state", "state"),
    )

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    """Changed by `runs.transition` only."""
    spec: Mapped[dict[str, Any]]
    request_digest: Mapped[str] = mapped_column(String(80))
    idempotency_key: Mapped[str | None] = mapped_column(String(300))
    is_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    """Of a shared run: somebody asked for it by itself, so it goes on when nothing needs it any more."""
    is_held: Mapped[bool] = mapped_column(Boolean, default=False)
    """Its study is paused: it isn't begun, and a training that is under way goes back to the queue."""
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """Fencing token: counts claims, and every write of a worker names the attempt that it claimed."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    """Of queued runs of a kind, the higher goes first."""
    num_gpus: Mapped[int] = mapped_column(Integer, default=0)
    """What its worker must have free for it."""
    num_lost_leases: Mapped[int] = mapped_column(Integer, default=0)
    num_crashes: Mapped[int] = mapped_column(Integer, default=0)
    """How often its process hung or vanished since it last got somewhere."""
    setbacks: Mapped[list[str]] = mapped_column(JSON, default=list)
    """What happened each time that a lease was lost or a process crashed since it last got somewhere."""
    unservable_since: Mapped[datetime | None]
    """Since when it is queued, may start, and no live worker could ever serve it."""
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_expires_at: Mapped[datetime | None]
    num_dispatches: Mapped[int] = mapped_column(Integer, default=0)
    dispatched_at: Mapped[datetime | None]
    """When a message for it was last sent."""
    progress_done: Mapped[int | None] = mapped_column(BigInteger)
    progress_total: Mapped[int | None] = mapped_column(BigInteger)
    progress_unit: Mapped[str | None] = mapped_column(String(40))
    progress_eta_s: Mapped[float | None] = mapped_column(Float)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    artifact: Mapped[str | None] = mapped_column(String(80))
    """Digest of the artifact's manifest in the store."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    traceparent: Mapped[str | None] = mapped_column(String(60))
    """W3C trace context of the request that queued it, for its worker's spans and logs."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class WorkerRow(Base):
    """A worker process, as it announces itself again and again."""

    __tablename__ = "workers"

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    announcement: Mapped[dict[str, Any]]
    """contracts.workers.WorkerAnnouncement."""
    runs: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """contracts.workers.RunOnWorker of each run that it has under way."""
    is_stopping: Mapped[bool] = mapped_column(default=False)
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class NodePartRow(Base):
    """What a follower of a node group has to do for an attempt of a run; gone when the attempt is over."""

    __tablename__ = "node_parts"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    node: Mapped[int] = mapped_column(Integer, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    worker_id: Mapped[str] = mapped_column(String(200), index=True)
    """Of the follower."""
    host: Mapped[str] = mapped_column(Text)
    part: Mapped[dict[str, Any]]
    """contracts.nodes.NodePart."""
    job_digest: Mapped[str] = mapped_column(String(80))
    is_over: Mapped[bool] = mapped_column(Boolean, default=False)
    """The leader asks for its end."""
    outcome: Mapped[dict[str, Any] | None]
    """contracts.nodes.PartOutcome, once all its processes are gone."""


class DependencyRow(Base):
    """`run_id` can't start before `depends_on` has succeeded."""

    __tablename__ = "run_dependencies"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    depends_on: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True, index=True)


class EvaluationUnitRow(Base):
    """What an evaluation measures of one checkpoint: at most one run of a kind at each step, shared with others."""

    __tablename__ = "evaluation_units"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    checkpoint_digest: Mapped[str] = mapped_column(String(80))


class StudyNodeRow(Base):
    """What one arrangement and seed of a study needs; equal nodes have one run."""

    __tablename__ = "study_nodes"
    __table_args__ = (UniqueConstraint("study_id", "label", "seed", "kind", name="uq_study_nodes_study_id_label"),)

    study_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    """From 1, in the order of creation."""
    label: Mapped[str] = mapped_column(String(100))
    """Of the arrangement."""
    seed: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(20))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)


class EventRow(Base):
    """A change of a run, for GET /events."""

    __tablename__ = "events"

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    type: Mapped[str] = mapped_column(String(20))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class MetricRecord(Base):
    """One measurement of a run."""

    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[float] = mapped_column(Float)


class CheckpointRecord(Base):
    """A complete checkpoint of a training run."""

    __tablename__ = "checkpoints"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tier: Mapped[str] = mapped_column(String(20), primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(80))
    receipt_head: Mapped[str] = mapped_column(String(80))


class LogRecord(Base):
    """A line that a run printed."""

    __tablename__ = "logs"

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    line: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class ApiKeyRow(Base):
    """A key of the HTTP API; a revoked one stays, so that revoking the last one doesn't open the suite."""

    __tablename__ = "api_keys"

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(20))
    hash: Mapped[str] = mapped_column(String(64))
    """sha256 of the secret, in hex."""
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """Written at a coarse interval."""
