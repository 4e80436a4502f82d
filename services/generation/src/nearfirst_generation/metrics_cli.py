"""`nearfirst metrics`: ROUGE and exact match of answers in a file, whoever wrote them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.evaluations import MetricSummary, UnitResult
from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.dataset import load_dataset
from nearfirst.data.example import Example
from nearfirst.data.files import read_rows
from nearfirst.data.formats.row import BadRow, Fields, answers, optional_text
from nearfirst_generation.metrics.examples import Compared, categories_of

_PREDICTION = ("prediction", "completion")
_REFERENCES = ("references", "reference", "targets", "target")


def metrics(
    predictions: Annotated[
        Path,
        typer.Option(
            help="JSONL, JSON or Parquet with `prediction` (or `completion`) and `references` (or `reference`, "
            "`targets`, `target`: a text or a list of texts) in each row; `task` and `category` if there are any."
        ),
    ],
    test: Annotated[
        Path | None,
        typer.Option(help="Dataset that references, tasks and categories are taken from, by each row's `id`."),
    ] = None,
    tokenizer: Annotated[
        Literal["rouge", "multilingual"],
        typer.Option(help="Words of ROUGE: rouge-score's (Latin letters and digits, stemmed), or those of any script."),
    ] = "rouge",
    fidelity: Annotated[Fidelity, typer.Option(help="`paper`: the last batch of a task wins.")] = Fidelity.CORRECTED,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of one batch; plays a part in `paper` alone.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Measure ROUGE-1, ROUGE-L and exact match of answers: overall, by task and by category."""
    from nearfirst_generation.metrics.measure import TextMeasurer  # takes a second to import

    with progress_bar("metrics") as progress:
        known = None if test is None else {example.id: example for example in load_dataset(test).examples}
        compared = list(_read(predictions, known))
        _, summaries, details = TextMeasurer().compare(
            compared, tokenizer=tokenizer, fidelity=fidelity, batch_size=batch_size, progress=progress
        )
    if as_json:
        print_json(UnitResult(metrics=summaries, details=details))
        return
    console = Console()
    for table in _tables(summaries, predictions.name):
        console.print(table)
    for remark in _remarks(summaries, details):
        console.print(remark)


def _read(path: Path, known: Mapping[str, Example] | None) -> Iterator[Compared]:
    """The answers of a file, each with what it is compared with.

    Raises:
        InvalidDataset: a row lacks a field, has one of another type, or an id that the test dataset lacks; the detail
            names the line.
    """
    for row in read_rows(path):
        try:
            yield _own(row.fields) if known is None else _of_test(row.fields, known)
        except BadRow as error:
            raise InvalidDataset(f"{path.name}: {row.place}: {error}") from error


def _own(fields: Fields) -> Compared:
    """A row that has its references with it."""
    name = _first(fields, _REFERENCES, "; or give --test, a dataset that has them")
    references = () if fields[name] == [] else answers(fields, name)
    task, category = optional_text(fields, "task") or "", fields.get("category")
    example = Example(id="", task=task, turns=(), references=references, meta={"category": category})
    return _compared(fields, example)


def _of_test(fields: Fields, known: Mapping[str, Example]) -> Compared:
    """A row whose references are in a dataset."""
    name = fields.get("id")
    if not isinstance(name, str):
        raise BadRow(f"field 'id': wanted a string that names a row of the test dataset, got {name!r}")
    if name not in known:
        raise BadRow(f"field 'id': the test dataset has no row {name!r}")
    return _compared(fields, known[name])


def _compared(fields: Fields, example: Example) -> Compared:
    is_too_long = fields.get("finish_reason") == "prompt_too_long"
    name = _first(fields, _PREDICTION)
    prediction = fields[name]
    if not isinstance(prediction, str):
        raise BadRow(f"field '{name}': wanted a string, got {prediction!r}")
    return Compared(
        prediction=None if is_too_long else prediction,
        references=example.references,
        task=example.task,
        categories=categories_of(example),
    )


def _first(fields: Fields, names: tuple[str, ...], hint: str = "") -> str:
    """Which of some fields the row has."""
    for name in names:
        if fields.get(name) is not None:
            return name
    raise BadRow(f"field '{names[0]}' (or {', '.join(names[1:])}) is missing; the row has {', '.join(fields)}{hint}")


def _tables(summaries: list[MetricSummary], title: str) -> Iterator[Table]:
    """Overall and, where there are any, tasks and categories."""
    yield _table(title, "", {"overall": [_shown(summary.value) for summary in summaries]}, summaries)
    for name, groups in (
        ("task", [summary.by_task for summary in summaries]),
        ("category", [summary.by_category for summary in summaries]),
    ):
        if groups[0]:
            rows = {group: [_shown(values[group]) for values in groups] for group in sorted(groups[0])}
            yield _table(f"by {name}", name, rows, summaries)


def _table(title: str, first: str, rows: Mapping[str, list[str]], summaries: list[MetricSummary]) -> Table:
    table = Table(title=title)
    table.add_column(first, overflow="fold")
    for summary in summaries:
        table.add_column(summary.metric, justify="right", no_wrap=True)
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _remarks(summaries: list[MetricSummary], details: Mapping[str, Any]) -> Iterator[str]:
    yield f"{summaries[0].num_examples} examples counted, {summaries[0].num_left_out} left out"
    if details["num_without_words"]:
        yield (
            f"the references of {details['num_without_words']} examples have no word that ROUGE could meet; "
            f"--tokenizer multilingual knows words of any script"
        )
