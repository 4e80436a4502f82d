"""`nearfirst doctor`, `backup` and `prune`, on the registry and store that the settings name; they need no server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearfirst.client.errors import NotInstalled
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.problems import InvalidInput, Unavailable

if TYPE_CHECKING:
    from nearfirst.operations.doctor import Finding
    from nearfirst.operations.prune import Prunable
    from nearfirst.registry.database import Database
    from nearfirst.settings import Settings
    from nearfirst.store.artifacts import Store

_LINE_WIDTH = 160
_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check the deployment from here: what is wrong, and how to mend it. Exits 1 when something doesn't work."""
    with _worker_parts():
        from nearfirst.operations.doctor import Health, examine
    from nearfirst.settings import get_settings

    with Console(stderr=True).status("checking"):
        findings = list(examine(get_settings()))
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        _print_findings(findings)
    if any(finding.health is Health.ERROR for finding in findings):
        raise typer.Exit(1)


def _print_findings(findings: "list[Finding]") -> None:
    table = Table("", "check", "found", box=None)
    for finding in findings:
        style = _STYLES[finding.health]
        remedy = f"\n[bold]mend it:[/bold] {finding.remedy}" if finding.remedy else ""
        table.add_row(f"[{style}]{finding.health}[/{style}]", finding.check, f"{_escaped(finding.detail)}{remedy}")
    console = Console()
    console.width = max(console.width, _LINE_WIDTH) if not console.is_terminal else console.width
    console.print(table)


backup = typer.Typer(help="Save the registry and the store, and restore them.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(help="Folder of the backup.", metavar="FOLDER")]


@backup.command("create")
def create_backup(folder: _Folder, as_json: AsJson = False) -> None:
    """Save the registry and all that it refers to in the store; the suite may be at work. Checkpoints aren't in it."""
    with _worker_parts():
        from nearfirst.operations import backup as work
    with _suite() as (database, store, _), progress_bar("saving") as progress:
        manifest = work.create_backup(database, store, folder, progress=progress)
    rows = sum(table.num_rows for table in manifest.tables.values())
    typer.echo(f"{folder}: {rows} rows, {len(manifest.objects)} objects", err=True)
    if manifest.lost:
        typer.echo(
            f"{len(manifest.lost)} objects are lost or damaged in the store itself: {manifest.lost[0]} ...", err=True
        )
    if as_json:
        print_json({"folder": str(folder), "rows": rows, "objects": len(manifest.objects), "lost": manifest.lost})


@backup.command("restore")
def restore_backup(folder: _Folder, as_json: AsJson = False) -> None:
    """Bring a backup into an empty suite, whose tables are made; nothing is written unless every digest is right."""
    with _worker_parts():
        from nearfirst.operations import backup as work
        from nearfirst.registry.migrate import upgrade
    from nearfirst.settings import get_settings

    upgrade(get_settings().database_url)
    with _suite() as (database, store, _), progress_bar("restoring") as progress:
        manifest = work.restore_backup(folder, database, store, progress=progress)
    rows = sum(table.num_rows for table in manifest.tables.values())
    typer.echo(
        f"restored {rows} rows and {len(manifest.objects)} objects of {manifest.created_at:%Y-%m-%d %H:%M}", err=True
    )
    if as_json:
        print_json({"folder": str(folder), "rows": rows, "objects": len(manifest.objects)})


def prune(
    objects_days: Annotated[
        float | None, typer.Option(help="Objects of the store that no run and no dataset refers to, this old.", min=1)
    ] = None,
    checkpoints_days: Annotated[
        float | None, typer.Option(help="State checkpoints of jobs that ended so long ago; weights stay.", min=0)
    ] = None,
    records_days: Annotated[
        float | None, typer.Option(help="Events and log lines of ended runs, this old.", min=0)
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it, only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what nothing needs any more, by age; says what would go unless told to --apply."""
    with _worker_parts():
        from nearfirst.operations import prune as work
    days = [None if each is None else timedelta(days=each) for each in (objects_days, checkpoints_days, records_days)]
    if not any(days):
        raise InvalidInput("nothing to prune: give --objects-days, --checkpoints-days or --records-days")
    policy = work.Policy(*days)
    with _suite() as (database, store, settings), progress_bar("pruning") as progress:
        if apply:
            found = work.prune(database, store, settings.runs_dir, policy, progress=progress)
        else:
            found = work.find_prunable(database, store, settings.runs_dir, policy)
    if as_json:
        _print_prunable(found, is_deleted=apply)
        return
    typer.echo(
        f"{'deleted' if apply else 'would delete'}: {len(found.objects)} objects, {len(found.checkpoints)} checkpoints "
        f"({found.size_bytes / 2**30:.2f} GiB), {found.num_events} events, {found.num_log_lines} log lines"
        f"{'' if apply else '; --apply does it'}"
    )


def _print_prunable(found: "Prunable", *, is_deleted: bool) -> None:
    print_json(
        {
            "is_deleted": is_deleted,
            "num_objects": len(found.objects),
            "num_checkpoints": len(found.checkpoints),
            "size_bytes": found.size_bytes,
            "num_events": found.num_events,
            "num_log_lines": found.num_log_lines,
        }
    )


@contextmanager
def _worker_parts() -> Iterator[None]:
    """Imports of what the client alone doesn't have.

    Raises:
        NotInstalled: it is missing.
    """
    try:
        yield
    except ImportError as error:
        raise NotInstalled(f"this needs what workers need: `pip install 'nearfirst[worker]'` ({error})") from error


@contextmanager
def _suite() -> "Iterator[tuple[Database, Store, Settings]]":
    """The registry and the store of the settings.

    Raises:
        Unavailable: the registry can't be reached.
    """
    from sqlalchemy.exc import OperationalError

    from nearfirst.registry.database import Database
    from nearfirst.settings import get_settings
    from nearfirst.store.artifacts import Store

    settings = get_settings()
    database = Database(settings.database_url)
    try:
        yield database, Store(settings.store_url, cache=settings.home / "cache"), settings
    except OperationalError as error:
        raise Unavailable(f"the registry can't be reached: {error.orig}") from error
    finally:
        database.close()


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
