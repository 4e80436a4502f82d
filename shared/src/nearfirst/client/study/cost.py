"""What a study would take, as the user of `--dry-run` sees it."""

from rich.console import Console
from rich.table import Table

from nearfirst.client.estimate_table import estimate_table
from nearfirst.client.output import print_json
from nearfirst.client.watch import format_eta
from nearfirst.contracts.problems import DoesNotFit
from nearfirst.contracts.studies import ArrangementEstimate, StudyEstimate
from nearfirst.estimates.sizes import in_gigabytes

_UNKNOWN = "not known"


def show_cost(estimate: StudyEstimate, *, as_json: bool) -> None:
    """Print an estimate.

    Raises:
        DoesNotFit: there is no room for it; it was printed all the same.
    """
    if as_json:
        print_json(estimate)
    else:
        console = Console(soft_wrap=True, highlight=False)
        console.print(_arrangements(estimate))
        console.print(estimate_table(estimate.train_job, "the longest train job"))
        console.print(_sentence(estimate))
    if estimate.obstacles:
        raise DoesNotFit("; ".join(estimate.obstacles))


def _arrangements(estimate: StudyEstimate) -> Table:
    table = Table(title="one train job of each arrangement", title_justify="left")
    table.add_column("arrangement")
    for column in ("rows", "steps", "weights kept", "all checkpoints", "time"):
        table.add_column(column, justify="right")
    for each in estimate.arrangements:
        table.add_row(*_cells(each))
    return table


def _cells(each: ArrangementEstimate) -> list[str]:
    counts = [f"{count:,}" for count in (each.rows, each.steps, each.num_checkpoints)]
    return [each.arrangement, *counts, _size(each.checkpoint_bytes), _time(each.seconds)]


def _sentence(estimate: StudyEstimate) -> str:
    seconds = estimate.train_seconds
    time = "the time isn't known" if seconds is None else f"about {_time(seconds)} one after the other"
    gpus = estimate.train_job.gpu_memory_bytes
    memory = "" if gpus is None else f", {_size(gpus)} of each GPU"
    return (
        f"In all: {estimate.num_orders} orders, {estimate.num_train_jobs} train jobs with {estimate.steps:,} steps "
        f"({time}){memory}, {estimate.num_checkpoints:,} weights to keep and to measure; checkpoints take "
        f"{_size(estimate.checkpoint_bytes)}."
    )


def _size(num_bytes: int | None) -> str:
    return _UNKNOWN if num_bytes is None else f"{in_gigabytes(num_bytes)} GB"


def _time(seconds: float | None) -> str:
    return _UNKNOWN if seconds is None else format_eta(seconds)
