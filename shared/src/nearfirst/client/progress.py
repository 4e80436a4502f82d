"""Progress bars of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nearfirst.contracts.progress import ProgressCallback


@contextmanager
def progress_bar(what: str) -> Iterator[ProgressCallback]:
    """A bar on stderr that the yielded callback moves; it goes away when the block ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def move(done: int, total: int | None, unit: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{what}: {unit}")

        yield move
