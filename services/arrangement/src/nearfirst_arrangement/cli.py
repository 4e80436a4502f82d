"""`nearfirst arrange`: an order for training files, without any server."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.arrangements import (
    DEFAULT_ENCODER,
    ArrangementRules,
    Fidelity,
    Granularity,
    Method,
    Order,
    Pooling,
    Precision,
    Representation,
    RepresentationKind,
    SelectHow,
    SelectPerTask,
    Similarity,
    TextRule,
)
from nearfirst.contracts.base import Contract
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.data.export_manifest import MANIFEST_ENDING, manifest_path
from nearfirst.data.order import ORDER_SUFFIXES, OrderTable, write_order
from nearfirst.data.writing import refuse_bad_output, whole_file
from nearfirst_arrangement import embedding_files
from nearfirst_arrangement.embedding_files import Side
from nearfirst_arrangement.measures.curve_figure import draw_curve
from nearfirst_arrangement.measures.report_figure import draw_report
from nearfirst_arrangement.measures.table import report_tables
from nearfirst_arrangement.task_filter import rows_of_tasks

if TYPE_CHECKING:  # the science imports torch, which `nearfirst --help` doesn't wait for
    from nearfirst_arrangement.arranging import Arranged, SideRows

_NUM_SHOWN = 3
_FIGURE_FORMATS: tuple[Literal["svg", "png"], ...] = ("svg", "png")

C = TypeVar("C", bound=Contract)


class _Vectors(NamedTuple):
    """A side's vectors, and which of its texts the encoder cut, as far as known."""

    rows: npt.NDArray[Any] | None = None
    truncated: npt.NDArray[np.bool_] | None = None


class _Embeddings(NamedTuple):
    """Vectors of both sides, and what the manifest says of them."""

    train: _Vectors
    test: _Vectors
    source: dict[str, Any] | None


def arrange(
    train: Annotated[Path, typer.Option(help="Training dataset: a file or folder in any supported format.")],
    test: Annotated[Path, typer.Option(help="The test dataset that it is arranged for.")],
    method: Annotated[Method, typer.Option(help="How training rows are ranked against the test set.")],
    out: Annotated[Path, typer.Option(help="Where the order goes: .jsonl or .parquet, and a manifest beside it.")],
    order: Annotated[
        Order | None, typer.Option(help="wsd, ot, tma: which end comes first; max and min are for tma.")
    ] = None,
    similarity: Annotated[Similarity, typer.Option(help="How near two rows are.")] = Similarity.COSINE,
    granularity: Annotated[Granularity, typer.Option(help="wsd: order rows, or whole tasks.")] = Granularity.FINE,
    limit: Annotated[int | None, typer.Option(help="Rows to keep.")] = None,
    rounds: Annotated[str | None, typer.Option(help="tma: keep rounds I:J, from 0, without J.")] = None,
    per_task: Annotated[int | None, typer.Option(help="Rows of each training task that take part.")] = None,
    select: Annotated[SelectHow | None, typer.Option(help="Which rows those are; goes with --per-task.")] = None,
    test_per_task: Annotated[int | None, typer.Option(help="Keep the first so many rows of each test task.")] = None,
    train_task: Annotated[list[str] | None, typer.Option(help="Keep this training task; may be repeated.")] = None,
    test_task: Annotated[list[str] | None, typer.Option(help="Keep this test task; may be repeated.")] = None,
    fidelity: Annotated[
        Fidelity, typer.Option(help="What the paper's text says, or what its code did.")
    ] = Fidelity.CORRECTED,
    seed: Annotated[int, typer.Option(help="Of every shuffle and draw.")] = 0,
    w_min: Annotated[float, typer.Option(help="wsd: weight of the distance to the nearest test row.")] = 1.0,
    w_avg: Annotated[str, typer.Option(help="wsd: weight of the mean distance: a number or auto.")] = "auto",
    train_split: Annotated[str | None, typer.Option(help="Keep the training rows of this split.")] = None,
    test_split: Annotated[str | None, typer.Option(help="Keep the test rows of this split.")] = None,
    train_format: Annotated[DatasetFormat | None, typer.Option(help="Recognised when not given.")] = None,
    test_format: Annotated[DatasetFormat | None, typer.Option(help="Recognised when not given.")] = None,
    train_embeddings: Annotated[
        Path | None, typer.Option(help="X.npy: a vector for each row of the file or of the split.")
    ] = None,
    test_embeddings: Annotated[Path | None, typer.Option(help="The same for the test dataset.")] = None,
    kind: Annotated[
        str, typer.Option(help="Encoder's kind where no embeddings are given: sentence-transformer, causal-lm, ...")
    ] = RepresentationKind.SENTENCE_TRANSFORMER,
    model: Annotated[str, typer.Option(help="Encoder: hub id, package:NAME or folder.")] = DEFAULT_ENCODER,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    pooling: Annotated[Pooling | None, typer.Option(help="causal-lm: how hidden states are pooled.")] = None,
    precision: Annotated[Precision, typer.Option(help="fp32, or bf16 where the machine has it.")] = Precision.EXACT,
    text: Annotated[TextRule, typer.Option(help="Which text of an example is embedded.")] = TextRule.FIRST_TURN,
    max_length: Annotated[int | None, typer.Option(help="Tokens kept; the model's own limit by default.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for the report and the similarity curve: report.json, .svg, .png, curve.json, ..."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Arrange training rows for a test set, write the order, and report what is in it."""
    _refuse_bad_outputs(out, report, (train, test, train_embeddings, test_embeddings))
    weights = {"w_min": w_min, "w_avg": w_avg if w_avg == "auto" else _number("w_avg", w_avg)}
    which = {"limit": limit, "rounds": _rounds(rounds), "test_per_task": test_per_task}
    rules = _valid(
        ArrangementRules,
        method=method,
        order=order,
        similarity=similarity,
        granularity=granularity,
        select=_select(per_task, select),
        seed=seed,
        fidelity=fidelity,
        **which,
        **weights,
    )
    encoder = {"kind": kind, "model": model, "revision": revision, "pooling": pooling, "precision": precision}
    representation = _valid(Representation, text=text, max_length=max_length, **encoder)
    train_side = _load("train", train, train_format, train_split)
    test_side = _load("test", test, test_format, test_split)
    train_rows = _rows_of_tasks("train_task", train_side, train_task)
    test_rows = _rows_of_tasks("test_task", test_side, test_task)
    embeddings = _embeddings(rules, representation, (train_side, train_embeddings), (test_side, test_embeddings))
    arranged = _arrange(
        rules,
        _side_rows(train_side, train_rows, embeddings.train),
        _side_rows(test_side, test_rows, embeddings.test),
        text,
    )
    result = {
        "digest": arranged.table.digest,
        "num_rows": len(arranged.table),
        "num_rounds": arranged.num_rounds,
        "computed": arranged.computed,
        "report": arranged.measures.report.model_dump(mode="json"),
    }
    filters = {"train_tasks": train_task, "test_tasks": test_task}
    provenance = _provenance(rules, embeddings, train_side, test_side) | filters
    manifest_path = _write(out, arranged.table, {**provenance, **result})
    if report is not None:
        _write_report(report, arranged)
    if as_json:
        print_json({"order": str(out), "manifest": str(manifest_path), **provenance, **result})
    else:
        _print_summary(out, manifest_path, arranged)


def _refuse_bad_outputs(out: Path, report: Path | None, inputs: Sequence[Path | None]) -> None:
    given = [path for path in inputs if path is not None]
    refuse_bad_output(out, ORDER_SUFFIXES, inputs=given, beside=MANIFEST_ENDING)
    if report is not None and report.exists() and not report.is_dir():
        raise InvalidInput(f"report: got {report}, which is a file; wanted a folder, which need not exist")


def _arrange(rules: ArrangementRules, train: "SideRows", test: "SideRows", text: TextRule) -> "Arranged":
    from nearfirst_arrangement.arranging import arrange_sides

    with progress_bar("arranging") as progress:
        return arrange_sides(rules, train, test, text=text, progress=progress)


def _side_rows(side: Side, rows: npt.NDArray[np.int64], vectors: _Vectors) -> "SideRows":
    """The rows of a side that take part, with their vectors."""
    from nearfirst_arrangement.arranging import SideRows

    is_whole = len(rows) == len(side.dataset.examples)
    embeddings, truncated = (
        values if values is None or is_whole else values[rows] for values in (vectors.rows, vectors.truncated)
    )
    return SideRows(side.dataset.digest, side.dataset.examples, rows, embeddings, truncated)


def _rows_of_tasks(name: str, side: Side, tasks: Sequence[str] | None) -> npt.NDArray[np.int64]:
    return rows_of_tasks([example.task for example in side.dataset.examples], tasks or None, name=name)


def _select(per_task: int | None, how: SelectHow | None) -> SelectPerTask | None:
    if (per_task is None) != (how is None):
        missing = "select" if how is None else "per_task"
        raise InvalidInput(f"{missing}: got none; --per-task and --select go together")
    return None if per_task is None else _valid(SelectPerTask, per_task=per_task, how=how)


def _valid(contract: type[C], **fields: Any) -> C:
    """A contract's model of these options."""
    try:
        return contract(**fields)
    except ValidationError as error:
        raise invalid_input_from_validation(error, "arrange") from error


def _load(name: str, path: Path, format: DatasetFormat | None, split: str | None) -> Side:
    with progress_bar(f"reading {name}") as progress:
        return embedding_files.load_side(name, path, format, split, progress)


def _rounds(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    start, _, stop = given.partition(":")
    if not (start.isdecimal() and stop.isdecimal()):
        raise InvalidInput(f"rounds: got {given!r}, wanted I:J, the first round and the one after the last, from 0")
    return int(start), int(stop)


def _number(name: str, given: str) -> float:
    try:
        return float(given)
    except ValueError as error:
        raise InvalidInput(f"{name}: got {given!r}, wanted a number or auto") from error


def _embeddings(
    rules: ArrangementRules,
    representation: Representation,
    train: tuple[Side, Path | None],
    test: tuple[Side, Path | None],
) -> _Embeddings:
    """Vectors of both sides: from their files, or from an encoder where the rules need any."""
    (train_side, train_path), (test_side, test_path) = train, test
    if train_path is not None and test_path is not None:
        return _read_vectors((train_side, train_path), (test_side, test_path))
    if train_path is not None or test_path is not None:
        missing = "train_embeddings" if train_path is None else "test_embeddings"
        raise InvalidInput(f"{missing}: got none; give both files, or neither to have both sides encoded")
    if not rules.needs_embeddings:
        return _Embeddings(_Vectors(), _Vectors(), None)
    encode = embedding_files.find_encoder()
    with progress_bar("embedding train") as progress:
        encoded_train = embedding_files.encode_side(encode, representation, train_side, progress)
    with progress_bar("embedding test") as progress:
        encoded_test = embedding_files.encode_side(encode, representation, test_side, progress)
    return _Embeddings(
        _Vectors(encoded_train.vectors, encoded_train.truncated),
        _Vectors(encoded_test.vectors, encoded_test.truncated),
        {"representation": representation.model_dump(mode="json")},
    )


def _read_vectors(train: tuple[Side, Path], test: tuple[Side, Path]) -> _Embeddings:
    (train_side, train_path), (test_side, test_path) = train, test
    embedding_files.check_same_encoder(train_path, test_path)
    with progress_bar("reading train embeddings") as progress:
        train_vectors = embedding_files.read_vectors(train_path, train_side, progress)
    with progress_bar("reading test embeddings") as progress:
        test_vectors = embedding_files.read_vectors(test_path, test_side, progress)
    sources = {
        side.name: {"file": path.name, "encoder": embedding_files.encoder_of(path)}
        for side, path in ((train_side, train_path), (test_side, test_path))
    }
    return _Embeddings(_Vectors(train_vectors), _Vectors(test_vectors), sources)


def _provenance(rules: ArrangementRules, embeddings: _Embeddings, train: Side, test: Side) -> dict[str, Any]:
    """What the order was made from: enough to make it again."""
    return {
        "spec": rules.model_dump(mode="json"),
        "train": train.summary(),
        "test": test.summary(),
        "embeddings": embeddings.source,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "nearfirst": version("nearfirst"),
            "nearfirst-arrangement": version("nearfirst-arrangement"),
        },
    }


def _write(out: Path, table: OrderTable, manifest: dict[str, Any]) -> Path:
    """Write the order, then its manifest: where there is a manifest, the order beside it is whole and its own."""
    path = manifest_path(out)
    path.unlink(missing_ok=True)
    write_order(out, table)
    with whole_file(path) as file:
        file.write((json.dumps(manifest, indent=2) + "\n").encode())
    return path


def _write_report(folder: Path, arranged: "Arranged") -> None:
    """The report and the similarity curve, as JSON and as pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    report, curve = arranged.measures
    (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "curve.json").write_text(curve.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for format in _FIGURE_FORMATS:
        (folder / f"report.{format}").write_bytes(draw_report(report, curve, format=format))
        (folder / f"curve.{format}").write_bytes(draw_curve(curve, format=format))


def _print_summary(out: Path, manifest_path: Path, arranged: "Arranged") -> None:
    summary = Table(show_header=False)
    summary.add_column()
    summary.add_column(overflow="fold")
    summary.add_row("rows", str(len(arranged.table)))
    if arranged.num_rounds is not None:
        summary.add_row("rounds", str(arranged.num_rounds))
    summary.add_row("digest", arranged.table.digest)
    summary.add_row("first ids", "\n".join(arranged.table.ids[:_NUM_SHOWN]))
    summary.add_row("order", str(out))
    summary.add_row("manifest", str(manifest_path))
    console = Console()
    console.print(summary)
    for table in report_tables(arranged.measures.report):
        console.print(table)
