"""`nearfirst study`: run one from a preset, list them, fetch a report, pause, resume, cancel, add seeds."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearfirst.client.api import Client
from nearfirst.client.demo.command import connected
from nearfirst.client.demo.follow import progress_bars
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.settings import ClientSettings
from nearfirst.client.study.cost import show_cost
from nearfirst.client.study.follow import StudyFollower
from nearfirst.client.study.home import wait_until_left
from nearfirst.client.study.preparing import Preparation, study_key
from nearfirst.client.study.preset import load_preset
from nearfirst.client.watch import describe_end
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.runs import RunAccepted, RunState
from nearfirst.contracts.studies import Study, StudySpec

app = typer.Typer(help="Compare orders of the training data, with several seeds each.", no_args_is_help=True)

_HOME = Path(".nearfirst")
_LINE_WIDTH = 120
MAX_SEED = 2**32 - 1
"""Of contracts.studies.Seed."""

Home = Annotated[Path | None, typer.Option(help="Folder of the suite that is started; by default .nearfirst.")]
Url = Annotated[str | None, typer.Option(help="Use this running server; by default NEARFIRST_URL, where it is set.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A study (std_...).")]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A preset: presets/*.yaml.")],
    scale: Annotated[str | None, typer.Option(help="One of the preset's scales; by default its first.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Any supported dataset in place of the preset's: a sample of it is taken.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the report goes; by default study-NAME.")] = None,
    home: Home = None,
    url: Url = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end, and fetch the report.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and submit nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a study from a preset; run again after a stop, it goes on where it was.

    Without a server it starts a suite in --home, follows the study to its end and writes the report. On a running
    server it prints the study's id, unless --watch is given. Exits 0 when the study succeeded, 1 when it failed.
    """
    preset = load_preset(file, scale)
    console = Console(stderr=True)
    home = home or _HOME
    with console.status("reading the data"):
        preparation = Preparation(preset, home, data)
    server = _server(url)
    with _told_how_to_go_on(console, is_ours=server is None), _reached(server, home, console) as (client, check):
        with console.status("registering the data"):
            spec = preparation.register(client)
        if dry_run:
            show_cost(client.estimate_study(spec), as_json=as_json)
            return
        accepted = _submit(client, spec, console)
        if server is not None and not watch:
            _print_accepted(accepted, as_json=as_json)
            return
        with progress_bars(console) as bars:
            study = StudyFollower(client, accepted.id, bars).follow(check)
        with console.status("writing the report"):
            written = client.download_study(study.id, out or Path(f"study-{file.stem}"))
    console.print(f"{study.id}: {study.state}{describe_end(study)}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json(study)
    else:
        typer.echo(written[0])
    if study.state is not RunState.SUCCEEDED:
        raise typer.Exit(1)


@app.command()
def report(
    study_id: Id,
    out: Annotated[Path, typer.Option(help="Folder for report.html, .md and .json and the figures.")],
    home: Home = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report so far, finished or not, and print the path of the page; with --json, of all files."""
    console = Console(stderr=True)
    with _at(url, home, console) as client, console.status("writing the report"):
        written = client.download_study(study_id, out)
    if as_json:
        print_json({"id": study_id, "files": [str(path) for path in written]})
    else:
        typer.echo(written[0])


@app.command()
def pause(study_id: Id, home: Home = None, url: Url = None, as_json: AsJson = False) -> None:
    """Begin nothing more of a study; trainings that are under way save their state first."""
    with _at(url, home) as client:
        accepted = client.pause_study(study_id)
    _print_accepted(accepted, as_json=as_json)


@app.command()
def resume(study_id: Id, home: Home = None, url: Url = None, as_json: AsJson = False) -> None:
    """Go on with a paused, failed or cancelled study; nothing that has succeeded is done again."""
    with _at(url, home) as client:
        accepted = client.resume(_study_id(study_id))
    _print_accepted(accepted, as_json=as_json)


@app.command()
def cancel(study_id: Id, home: Home = None, url: Url = None, as_json: AsJson = False) -> None:
    """End a study now; what it has measured stays."""
    with _at(url, home) as client:
        accepted = client.cancel(_study_id(study_id))
    _print_accepted(accepted, as_json=as_json)


@app.command()
def seeds(
    study_id: Id,
    added: Annotated[list[int], typer.Argument(metavar="SEED...", help="None that it has.")],
    home: Home = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Let a study go on with further seeds; what it has done is kept."""
    wrong = [seed for seed in added if not 0 <= seed <= MAX_SEED]
    twice = [seed for seed, count in Counter(added).items() if count > 1]
    if twice:
        raise InvalidInput(f"seeds: {twice[0]} is given twice")
    if wrong:
        raise InvalidInput(f"seeds: got {wrong[0]}, wanted whole numbers from 0 to {MAX_SEED}")
    with _at(url, home) as client:
        accepted = client.add_seeds(study_id, added)
    _print_accepted(accepted, as_json=as_json)


@app.command("list")
def list_all(
    state: Annotated[RunState | None, typer.Option(help="Only those in it.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those whose name has this in it.")] = None,
    home: Home = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the studies, the oldest first."""
    with _at(url, home) as client:
        studies = client.studies(state, name).all()
    if as_json:
        print_json(studies)
        return
    table = Table("id", "name", "state", "runs", "arrangements", "seeds", "created", box=None)
    for study in studies:
        table.add_row(*_cells(study))
    console = Console(markup=False)
    console.width = max(console.width, _LINE_WIDTH)
    console.print(table)


def _cells(study: Study) -> list[str]:
    progress = "-" if study.progress is None else f"{study.progress.done}/{study.progress.total}"
    seeds = ", ".join(map(str, study.spec.seeds))
    state = "paused" if study.is_paused else study.state.value
    created = f"{study.created_at:%Y-%m-%d %H:%M}"
    return [study.id, study.spec.name, state, progress, str(len(study.spec.arrangements)), seeds, created]


def _server(url: str | None) -> str | None:
    """The server to use: as given, or as the environment names it; None: a suite of our own."""
    if url is not None:
        return url
    settings = ClientSettings()
    return settings.url if "url" in settings.model_fields_set else None


@contextmanager
def _reached(server: str | None, home: Path, console: Console) -> Iterator[tuple[Client, Callable[[], None]]]:
    """As `connected`, once a suite that was there before has left the folder."""
    if server is None:
        with console.status("waiting for the suite that was there before"):
            wait_until_left(home)
    with connected(server, home, console) as reached:
        yield reached


@contextmanager
def _at(url: str | None, home: Path | None, console: Console | None = None) -> Iterator[Client]:
    """A client of the server that the options name, or of the suite in the folder."""
    with _reached(_server(url), home or _HOME, console or Console(stderr=True)) as (client, _):
        yield client


def _study_id(given: str) -> str:
    if not given.startswith("std_"):
        raise InvalidInput(f"id: got {given!r}, wanted a study (std_...)")
    return given


def _print_accepted(accepted: RunAccepted, *, as_json: bool) -> None:
    if as_json:
        print_json(accepted)
    else:
        typer.echo(accepted.id)


@contextmanager
def _told_how_to_go_on(console: Console, *, is_ours: bool) -> Iterator[None]:
    """Say that nothing is lost when the user ends the command."""
    try:
        yield
    except KeyboardInterrupt:
        if is_ours:
            console.print("The same command goes on from here.")
        raise


def _submit(client: Client, spec: StudySpec, console: Console) -> RunAccepted:
    """The study of a spec: a new one, or the one that was submitted before, going on."""
    accepted = client.submit_study(spec, study_key(spec))
    study = client.study(accepted.id)
    for warning in study.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    if study.is_paused or study.state in (RunState.FAILED, RunState.CANCELLED):
        return client.resume(study.id)
    return accepted
