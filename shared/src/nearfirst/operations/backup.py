"""Backups: the registry and every object of the store that it refers to, in one folder, restored into an empty suite.

    backup/manifest.json             what is in it, with digests; written last, so that a folder without it is no backup
    backup/tables/runs.jsonl         a row a line
    backup/objects/ab/abcdef...      as the store has them

The tables are read in one transaction that sees one moment. Objects never change, so those that the tables refer to can
be copied while the suite works. Checkpoints are not in it: they are in the runs folder, which has a backup of its own.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, DateTime, Table, func, insert, select, text
from sqlalchemy.orm import Session

from nearfirst import __version__
from nearfirst.contracts.base import Contract
from nearfirst.contracts.problems import CorruptArtifact, InvalidInput, NotFound, StateConflict
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import revisions
from nearfirst.registry.models import Base, DatasetRow, NodePartRow, RunRow, UtcDateTime, WorkerRow
from nearfirst.store.artifacts import Store, sha256_file

_ROWS_AT_ONCE = 1000
MANIFEST = "manifest.json"


class SavedTable(Contract):
    """Rows of a table."""

    num_rows: int
    digest: str
    """sha256 of its file."""


class BackupManifest(Contract):
    """What a backup has."""

    version: str
    """Of Nearfirst."""
    revision: str
    """Of the registry's tables."""
    created_at: datetime
    tables: dict[str, SavedTable]
    objects: list[str]
    """Digests of the store's objects."""
    lost: list[str] = Field(default_factory=list)
    """Digests that the registry refers to and the store didn't have, or had damaged."""


def create_backup(
    database: Database, store: Store, folder: Path, *, progress: ProgressCallback = ignore_progress
) -> BackupManifest:
    """Save a suite, which may be at work, to a new folder.

    Raises:
        StateConflict: the folder isn't empty, or the tables are of another version.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StateConflict(f"{folder} isn't empty; a backup wants a folder of its own")
    found, wanted = revisions(database)
    if found is None or found != wanted:
        raise StateConflict(
            f"the registry's tables are of revision {found}, this version's are {wanted}: migrate first"
        )
    (folder / "tables").mkdir(parents=True)
    with _one_moment(database) as session:
        tables = {table.name: _save_table(session, table, folder) for table in _tables()}
        roots = referenced(session)
    saved, lost = _save_objects(store, roots, folder, progress)
    manifest = BackupManifest(
        version=__version__,
        revision=found,
        created_at=datetime.now(UTC),
        tables=tables,
        objects=sorted(saved),
        lost=sorted(lost),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return manifest


def restore_backup(
    folder: Path, database: Database, store: Store, *, progress: ProgressCallback = ignore_progress
) -> BackupManifest:
    """Bring a backup into a suite whose tables are there and empty; nothing is written unless all of it is whole.

    Runs that were under way come back with their old leases, which the sweeper finds run out: they are queued again.

    Raises:
        NotFound: the folder is no backup.
        StateConflict: the suite isn't empty, or of another version of the tables.
        CorruptArtifact: a file of the backup differs from its digest.
    """
    if not (folder / MANIFEST).is_file():
        raise NotFound(f"{folder} has no {MANIFEST}: it is no backup, or one that wasn't finished")
    manifest = BackupManifest.model_validate_json((folder / MANIFEST).read_text())
    if (found := revisions(database)[0]) != manifest.revision:
        raise StateConflict(f"the backup's tables are of revision {manifest.revision}, the registry's of {found}")
    _check_files(folder, manifest, progress)
    with database.write() as session:
        connection = session.connection()
        _refuse_filled(connection)
        for done, digest in enumerate(manifest.objects, start=1):
            store.put_file(_object(folder, digest))
            progress(done, len(manifest.objects), "objects restored")
        for table in _tables():
            _load_table(connection, table, folder / "tables" / f"{table.name}.jsonl")
    return manifest


def referenced(session: Session) -> set[str]:
    """Digests of what the registry refers to: artifacts of runs, and rows of datasets."""
    artifacts = session.execute(select(RunRow.artifact).where(RunRow.artifact.is_not(None))).scalars()
    return {str(digest) for digest in artifacts} | set(session.execute(select(DatasetRow.digest)).scalars())


def _tables() -> list[Table]:
    """Those that are saved, so that each comes after what it refers to; workers announce themselves anew."""
    of_workers = {WorkerRow.__tablename__, NodePartRow.__tablename__}
    return [table for table in Base.metadata.sorted_tables if table.name not in of_workers]


class _one_moment:  # noqa: N801  (a context manager)
    """A session in a transaction that sees the database as it was at one moment."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database.engine)
        options: dict[str, Any] = {"nearfirst_read_only": True}
        if not database.is_sqlite:  # in WAL mode SQLite's transactions are of one moment anyway
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._session.connection(execution_options=options)

    def __enter__(self) -> Session:
        return self._session

    def __exit__(self, *_: object) -> None:
        self._session.close()


def _save_table(session: Session, table: Table, folder: Path) -> SavedTable:
    path = folder / "tables" / f"{table.name}.jsonl"
    rows = session.execute(select(table).order_by(*table.primary_key).execution_options(yield_per=_ROWS_AT_ONCE))
    num_rows = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows.mappings():
            file.write(json.dumps(_as_json(row), ensure_ascii=True) + "\n")
            num_rows += 1
    return SavedTable(num_rows=num_rows, digest=sha256_file(path))


def _as_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _save_objects(store: Store, roots: set[str], folder: Path, progress: ProgressCallback) -> tuple[set[str], set[str]]:
    """Copy objects, and of artifacts the files that their manifests name; what was saved, and what is lost."""
    saved: set[str] = set()
    lost: set[str] = set()
    for done, root in enumerate(sorted(roots), start=1):
        for digest in (root, *store.members(root)):
            if digest not in saved | lost:
                (saved if _save_object(store, digest, folder) else lost).add(digest)
        progress(done, len(roots), "artifacts saved")
    return saved, lost


def _save_object(store: Store, digest: str, folder: Path) -> bool:
    try:
        source = store.local_path(digest)
    except (NotFound, CorruptArtifact):
        return False
    target = _object(folder, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return True


def _object(folder: Path, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return folder / "objects" / name[:2] / name


def _check_files(folder: Path, manifest: BackupManifest, progress: ProgressCallback) -> None:
    expected = {folder / "tables" / f"{name}.jsonl": saved.digest for name, saved in manifest.tables.items()}
    expected |= {_object(folder, digest): digest for digest in manifest.objects}
    for done, (path, digest) in enumerate(expected.items(), start=1):
        if not path.is_file():
            raise CorruptArtifact(f"the backup lacks {path.relative_to(folder)}")
        if (found := sha256_file(path)) != digest:
            raise CorruptArtifact(f"{path.relative_to(folder)} of the backup has the digest {found}, wanted {digest}")
        progress(done, len(expected), "files checked")


def _refuse_filled(connection: Connection) -> None:
    for table in _tables():
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise StateConflict(f"the registry has rows in {table.name}: a backup is restored into an empty suite")


def _load_table(connection: Connection, table: Table, path: Path) -> None:
    for rows in _parts(path, table):
        connection.execute(insert(table), rows)
    if connection.dialect.name == "postgresql" and "seq" in table.columns:
        # The next row of each table comes after those that were restored.
        sequence = f"pg_get_serial_sequence('{table.name}', 'seq')"
        last = f"setval({sequence}, coalesce(max(seq), 1), max(seq) IS NOT NULL)"
        connection.execute(text(f"SELECT {last} FROM {table.name}"))


def _parts(path: Path, table: Table) -> Iterator[list[dict[str, Any]]]:
    """Rows as the table takes them, so many at a time."""
    times = {c.name for c in table.columns if isinstance(c.type, DateTime | UtcDateTime)}
    part: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if unknown := row.keys() - table.columns.keys():
                raise InvalidInput(f"{path.name}: the table has no column {sorted(unknown)[0]!r}")
            part.append({k: datetime.fromisoformat(v) if k in times and v is not None else v for k, v in row.items()})
            if len(part) == _ROWS_AT_ONCE:
                yield part
                part = []
    if part:
        yield part
