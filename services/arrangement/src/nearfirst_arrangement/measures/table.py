"""An arrangement's report for a terminal."""

from itertools import pairwise
from math import fsum

from rich.table import Table
from rich.text import Text

from nearfirst.contracts.reports import ArrangementReport, Coverage, CutTexts, DistanceByPosition
from nearfirst_arrangement.measures.figure_style import shortened, with_thousands

_MAX_NAME = 40
_NUM_TENTHS = 10
_UNKNOWN = "not known"
_NO_EMBEDDINGS = "no embeddings"


def report_tables(report: ArrangementReport) -> list[Table]:
    """The report as compact tables: key numbers, the order tenth by tenth, coverage. What is None is left out."""
    tables = [_key_numbers(report)]
    if report.task_mix is not None or report.distance is not None:
        tables.append(_tenths(report))
    if report.coverage is not None:
        tables.append(_coverage(report.coverage))
    return tables


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")


def _key_numbers(report: ArrangementReport) -> Table:
    leaks, near = report.leaks, report.near_duplicates
    table = _table(f"{with_thousands(report.num_rows)} train rows for {with_thousands(report.num_test)} test rows")
    table.add_column("what")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    table.add_column("first example", overflow="fold")
    for name, found in (("leaked texts", leaks.text), ("leaked instructions", leaks.instruction)):
        first = found.examples[0] if found.examples else None
        example = f"{first.train_id} is {first.test_id}" if first else ""
        table.add_row(name, with_thousands(found.num_rows), f"{found.share:.2%}", Text(example))
    if near is None:
        table.add_row("near duplicates", _NO_EMBEDDINGS, "", "")
    else:
        example = f"{near.examples[0].train_id} like {near.examples[0].test_id}" if near.examples else ""
        name = f"near duplicates (cosine above {near.threshold:g})"
        table.add_row(name, with_thousands(near.num_rows), f"{near.share:.2%}", Text(example))
    for name, cut in (("train", report.truncation.train), ("test", report.truncation.test)):
        table.add_row(f"{name} rows cut at the encoder's limit", *_cut(cut), "")
    return table


def _cut(cut: CutTexts | None) -> tuple[str, str]:
    return (_UNKNOWN, "") if cut is None else (with_thousands(cut.num_rows), f"{cut.share:.2%}")


def _tenths(report: ArrangementReport) -> Table:
    table = _table("The order, tenth by tenth")
    table.add_column("tenth", justify="right")
    columns: list[list[str]] = []
    if report.distance is not None:
        table.add_column(f"mean {report.distance.similarity} distance", justify="right")
        columns.append([f"{distance:.4f}" for distance in _mean_by_tenth(report.distance)])
    mix = report.task_mix
    if mix is not None:
        table.add_column("tasks", justify="right")
        table.add_column("largest task")
        columns.append([with_thousands(number) for number in mix.num_tasks])
        sizes = [stop - start for start, stop in pairwise(mix.bounds)]
        largest = zip(mix.largest, mix.largest_counts, sizes, strict=True)
        columns.append([f"{shortened(task, _MAX_NAME)} {count / size:.1%}" for task, count, size in largest])
    for tenth, row in enumerate(zip(*columns, strict=True), start=1):
        table.add_row(str(tenth), *(Text(cell) for cell in row))
    return table


def _mean_by_tenth(found: DistanceByPosition) -> list[float]:
    """Means of the parts, joined to tenths: the bounds of tenths are among those of the parts."""
    num_rows = found.bounds[-1]
    num_tenths = min(_NUM_TENTHS, num_rows)
    edges = [found.bounds.index(num_rows * tenth // num_tenths) for tenth in range(num_tenths + 1)]
    sums = [mean * (stop - start) for mean, (start, stop) in zip(found.mean, pairwise(found.bounds), strict=True)]
    return [fsum(sums[first:last]) / (found.bounds[last] - found.bounds[first]) for first, last in pairwise(edges)]


def _coverage(found: Coverage) -> Table:
    table = _table("Test rows that have a train row at least so similar")
    table.add_column("among")
    for level in found.levels:
        table.add_column(f"cosine {level:g}", justify="right")
    table.add_column("median cosine", justify="right")
    for share in found.shares:
        name = "the whole order" if share.share == 1 else f"the first {share.share:.0%}"
        covered = [f"{value:.1%}" for value in share.covered]
        table.add_row(f"{name} ({with_thousands(share.num_rows)})", *covered, f"{share.percentiles[50]:.3f}")
    return table
