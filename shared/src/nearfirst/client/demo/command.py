"""`nearfirst demo`: data in, figure out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearfirst.client.api import Client
from nearfirst.client.demo.data import bundled_data, register, sampled_data
from nearfirst.client.demo.figure import draw_figure
from nearfirst.client.demo.follow import Follower, progress_bars
from nearfirst.client.demo.model import ModelShape, build_model
from nearfirst.client.demo.report import Report, describe_machine, describe_versions, summarize
from nearfirst.client.demo.results import collect_arrangements, collect_runs
from nearfirst.client.demo.sample import Sampling
from nearfirst.client.demo.study import Recipe, Study, plan_steps
from nearfirst.client.demo.suite import running_suite
from nearfirst.client.errors import NotInstalled
from nearfirst.client.output import AsJson, print_json
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.training import ScheduleSpec

TITLE = "Zero-shot test loss by order of the training data"
SCHEDULE = ScheduleSpec(kind="cosine", final_ratio=0.1)


def demo(
    data: Annotated[Path | None, typer.Option(help="Any supported dataset; by default the bundled one.")] = None,
    out: Annotated[Path, typer.Option(help="Where report.json and the figure go.")] = Path("demo"),
    home: Annotated[Path | None, typer.Option(help="Folder of the suite; by default OUT/home.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Use this running server instead; --home must then be the server's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each order, seeded 0, 1, ...")] = 3,
    train_tasks: Annotated[int, typer.Option(min=1, help="With --data: training tasks to draw.")] = 40,
    rows_per_task: Annotated[int, typer.Option(min=1, help="With --data: rows of each training task.")] = 30,
    test_rows_per_task: Annotated[int, typer.Option(min=1, help="With --data: rows of each test task.")] = 6,
    max_chars: Annotated[int, typer.Option(min=1, help="With --data: longest row to draw, in characters.")] = 1500,
    sample_seed: Annotated[int, typer.Option(min=0, help="With --data: draws tasks and rows.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in an optimizer step.")] = 16,
    lr: Annotated[float, typer.Option(min=1e-12, help="Highest learning rate.")] = 1e-3,
    max_length: Annotated[int, typer.Option(min=8, help="Tokens after which a row is cut.")] = 640,
    as_json: AsJson = False,
) -> None:
    """Arrange, train and measure on small data, and draw test loss against steps for each order.

    Starts a suite of its own, arranges the training rows for the test rows (TMA nft, fft, rt and WSD nft), trains a
    tiny Llama once per order and seed, checks every receipt, and writes report.json, figure.svg and figure.png.
    """
    require_packages()
    started_at = time.monotonic()
    console = Console(stderr=True)
    home = home or out / "home"
    out.mkdir(parents=True, exist_ok=True)
    with console.status("reading the data"):
        if data is None:
            chosen = bundled_data()
        else:
            sampling = Sampling(train_tasks, rows_per_task, test_rows_per_task, max_chars, sample_seed)
            chosen = sampled_data(data, sampling, home / "demo")
    plan = plan_steps(len(chosen.train), batch_size)
    with console.status("training the tokenizer"):
        model = build_model(home / "models", chosen.texts(), ModelShape(max_length=max_length))
    recipe = Recipe(str(model.folder), plan, batch_size, lr, SCHEDULE, max_length)
    with connected(url, home, console) as (client, check_server):
        train, test = register(client, chosen)
        with submitted(client, train, test, range(seeds), recipe) as study, progress_bars(console) as bars:
            jobs = {job.id: plan.steps for job in study.jobs}
            Follower(client, study.labels(client), jobs, bars).follow(check_server)
            arrangements = collect_arrangements(client, study)
            runs = collect_runs(client, study, arrangements, plan.steps, bars)
    report = Report(
        data=chosen.describe(train, test, plan.steps * batch_size),
        model=model.describe(),
        training=recipe.describe(),
        arrangements=arrangements,
        runs=runs,
        summary=summarize(runs, plan.steps),
        machine=describe_machine(),
        versions=describe_versions(),
        duration_s=round(time.monotonic() - started_at, 1),
    )
    write_results(report, f"{chosen.title()}\n{model.title()}, {recipe.title()}", out)
    if as_json:
        print_json(report)
    else:
        print_results(report, out)
    if report.num_unverified:
        raise typer.Exit(1)


def require_packages() -> None:
    """Raise before anything is run when the figure couldn't be drawn or the tokenizer not be trained at the end."""
    missing = [name for name in ("matplotlib", "tokenizers") if find_spec(name) is None]
    if missing:
        raise NotInstalled(f"`demo` needs {' and '.join(missing)}: `pip install 'nearfirst[demo]'`")


@contextmanager
def submitted(client: Client, train: Dataset, test: Dataset, seeds: Sequence[int], recipe: Recipe) -> Iterator[Study]:
    """A submitted study, whose unfinished runs are cancelled when the context fails or is interrupted."""
    study = Study()
    try:
        study.submit(client, train, test, seeds, recipe)
        yield study
    except BaseException:
        study.cancel(client)
        raise


@contextmanager
def connected(url: str | None, home: Path, console: Console) -> Iterator[tuple[Client, Callable[[], None]]]:
    """A client of the server at `url`, or of a suite in `home` that lives as long as the context.

    Yields the client and a function that raises when the suite is gone.
    """
    if url is not None:
        with Client.from_settings(url) as client:
            yield client, _nothing_to_check
        return
    with console.status("starting the suite") as status, running_suite(home) as suite, Client(suite.url) as client:
        status.stop()
        yield client, suite.check_alive


def _nothing_to_check() -> None:
    """A server that isn't ours: the event stream says when it is gone."""


def write_results(report: Report, subtitle: str, out: Path) -> None:
    """Write report.json, figure.svg and figure.png to `out`."""
    report.write(out / "report.json")
    draw_figure(report.runs, TITLE, subtitle, [out / "figure.svg", out / "figure.png"])


def print_results(report: Report, out: Path) -> None:
    """Print the lines as a table, what became of the receipts, and where to look."""
    console = Console(soft_wrap=True, highlight=False)
    steps = report.training["steps"]
    table = Table(title="Test loss (nats per token), mean over seeds", title_justify="left")
    table.add_column("order")
    for step in (0, steps // 4, steps // 2, steps):
        table.add_column(f"step {step}", justify="right")
    table.add_column("mean over steps", justify="right")
    table.add_column("receipts verified", justify="right")
    for line in report.summary.lines:
        losses = (line.start, line.quarter, line.half, line.end, line.area)
        verified = f"{line.num_verified}/{line.num_seeds}"
        table.add_row(f"{line.method.value} {line.order.value}", *(f"{loss:.4f}" for loss in losses), verified)
    console.print(table)
    for name, difference in report.summary.nft_minus_fft.items():
        by_seed = ", ".join(f"{value:+.4f}" for value in difference.by_seed.values())
        console.print(f"tma nft - fft at {name} (step {difference.step}): {difference.mean:+.4f}  (seeds: {by_seed})")
    for run in report.runs:
        for fault in run.receipt_faults:
            console.print(f"receipt of {run.method.value} {run.order.value} seed {run.seed} is WRONG: {fault}")
    console.print(
        f"{report.duration_s:.0f} s. Look at {out / 'figure.png'}, {out / 'figure.svg'}, {out / 'report.json'}"
    )
