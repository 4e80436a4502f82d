"""`nearfirst export`: a training file in an order's order, for other trainers, without any server."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.exports import ExportFileType, ExportFormat, ExportManifest
from nearfirst.contracts.problems import InvalidInput
from nearfirst.data.dataset import LoadedDataset, load_dataset
from nearfirst.data.export import write_export
from nearfirst.data.export_manifest import MANIFEST_ENDING, manifest_path
from nearfirst.data.order import OrderTable, read_order
from nearfirst.data.writing import refuse_bad_output

EXPORT_SUFFIXES = frozenset(f".{file_type}" for file_type in ExportFileType)


def export(
    order: Annotated[Path, typer.Argument(help="What `nearfirst arrange` wrote: .jsonl or .parquet.")],
    train: Annotated[Path, typer.Option(help="The training dataset that was arranged.")],
    format: Annotated[ExportFormat, typer.Option(help="The layout that the trainer reads.")],
    out: Annotated[Path, typer.Option(help="Where the rows go: .jsonl or .parquet, and a manifest beside it.")],
    train_split: Annotated[str | None, typer.Option(help="The split that was arranged.")] = None,
    train_format: Annotated[DatasetFormat | None, typer.Option(help="Recognised when not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write an arranged dataset for TRL, LLaMA-Factory, axolotl and others, and say how they keep its order."""
    if not order.is_file():
        raise InvalidInput(f"order: there is no file {order}")
    if not train.exists():
        raise InvalidInput(f"train: there is no file or folder {train}")
    refuse_bad_output(out, EXPORT_SUFFIXES, inputs=(order, manifest_path(order), train), beside=MANIFEST_ENDING)
    with progress_bar("reading train") as progress:
        dataset = load_dataset(train, format=train_format, split=train_split, progress=progress)
    table = _verified_order(order, dataset)
    with progress_bar("exporting") as progress:
        manifest = write_export(
            out, dataset.examples, table, dataset_digest=dataset.digest, format=format, progress=progress
        )
    if as_json:
        print_json(manifest)
    else:
        _print_summary(out, manifest)


def _verified_order(path: Path, dataset: LoadedDataset) -> OrderTable:
    """The order, checked against the dataset, and against the manifest beside it when there is one.

    Rows missing at the end show in the manifest's digest only: a shorter order agrees with itself.
    """
    return read_order(
        path,
        dataset_digest=dataset.digest,
        expected_digest=_announced_digest(path),
        ids=[example.id for example in dataset.examples],
        global_batch_size=1,
    )


def _announced_digest(path: Path) -> str | None:
    beside = manifest_path(path)
    if not beside.is_file():
        return None
    try:
        return str(json.loads(beside.read_text(encoding="utf-8"))["digest"])
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"order: {beside} is no manifest of an order: {error!r}") from error


def _print_summary(out: Path, manifest: ExportManifest) -> None:
    summary = Table(show_header=False)
    summary.add_column()
    summary.add_column(overflow="fold")
    summary.add_row("rows", str(manifest.num_rows))
    summary.add_row("order", manifest.arrangement_digest)
    summary.add_row("columns", ", ".join(manifest.columns))
    summary.add_row("file", str(out))
    summary.add_row("manifest", str(manifest_path(out)))
    settings = Table("trainer", "settings that keep the order")
    for trainer, options in manifest.note.settings.items():
        settings.add_row(trainer, "\n".join(f"{name}: {json.dumps(value)}" for name, value in options.items()))
    console = Console()
    console.print(summary, settings)
    console.print(f"{manifest.note.text} More: {manifest.note.page}", highlight=False)
