"""`nearfirst arrange`: an order for training files, without any server."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from nearfirst.client.progress import progress_bar
from nearfirst.contracts.arrangements import (
    DEFAULT_ENCODER,
    ArrangementRules,
    Fidelity,
    Method,
    Order,
    Representation,
    TextRule,
)
from nearfirst.contracts.base import Contract
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.data.order import OrderTable, order_table, write_order
from nearfirst_arrangement import embedding_files
from nearfirst_arrangement.embedding_files import Side
from nearfirst_arrangement.methods import ArrangedOrder
from nearfirst_arrangement.methods import arrange as arrange_rows

_NUM_SHOWN = 3

C = TypeVar("C", bound=Contract)


class _Embeddings(NamedTuple):
    """Vectors of both sides, None where the method looks at none, and what the manifest says of them."""

    train: npt.NDArray[Any] | None
    test: npt.NDArray[Any] | None
    source: dict[str, Any] | None


def arrange(
    train: Annotated[Path, typer.Option(help="Training dataset: a file or folder in any supported format.")],
    test: Annotated[Path, typer.Option(help="The test dataset that it is arranged for.")],
    method: Annotated[Method, typer.Option(help="How training rows are ranked against the test set.")],
    out: Annotated[Path, typer.Option(help="Where the order goes: .jsonl or .parquet, and a manifest beside it.")],
    order: Annotated[Order | None, typer.Option(help="Which end comes first; max and min are for tma.")] = None,
    limit: Annotated[int | None, typer.Option(help="Rows to keep.")] = None,
    rounds: Annotated[str | None, typer.Option(help="tma: keep rounds I:J, from 0, without J.")] = None,
    fidelity: Annotated[
        Fidelity, typer.Option(help="What the paper's text says, or what its code did.")
    ] = Fidelity.CORRECTED,
    seed: Annotated[int, typer.Option(help="Of every shuffle.")] = 0,
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
    model: Annotated[str, typer.Option(help="Encoder, where no embeddings are given.")] = DEFAULT_ENCODER,
    text: Annotated[TextRule, typer.Option(help="Which text of an example is embedded.")] = TextRule.FIRST_TURN,
    max_length: Annotated[int | None, typer.Option(help="Tokens kept; the model's own limit by default.")] = None,
) -> None:
    """Arrange training rows for a test set and write the order."""
    if not out.parent.is_dir():
        raise InvalidInput(f"out: got {out}, wanted a file in a folder that exists")
    weights = {"w_min": w_min, "w_avg": w_avg if w_avg == "auto" else _number("w_avg", w_avg)}
    selection = {"limit": limit, "rounds": _rounds(rounds)}
    rules = _valid(ArrangementRules, method=method, order=order, seed=seed, fidelity=fidelity, **selection, **weights)
    representation = _valid(Representation, model=model, text=text, max_length=max_length)
    train_side = _load("train", train, train_format, train_split)
    test_side = _load("test", test, test_format, test_split)
    vectors = _vectors(rules, representation, (train_side, train_embeddings), (test_side, test_embeddings))
    num_train = len(train_side.dataset.examples)
    with progress_bar("arranging") as progress:
        arranged = arrange_rows(rules, vectors.train, vectors.test, num_train, progress=progress)
    table = _order_table(arranged, train_side, test_side)
    result = {"digest": table.digest, "num_rows": len(table), "num_rounds": arranged.num_rounds}
    provenance = _provenance(rules, vectors, train_side, test_side)
    manifest_path = _write(out, table, {**provenance, **result, "report": arranged.report})
    _print_summary(out, manifest_path, table, arranged)


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


def _vectors(
    rules: ArrangementRules,
    representation: Representation,
    train: tuple[Side, Path | None],
    test: tuple[Side, Path | None],
) -> _Embeddings:
    """Vectors of both sides: from their files, or from an encoder where the method needs any."""
    (train_side, train_path), (test_side, test_path) = train, test
    if train_path is not None and test_path is not None:
        return _read_vectors((train_side, train_path), (test_side, test_path))
    if train_path is not None or test_path is not None:
        missing = "train_embeddings" if train_path is None else "test_embeddings"
        raise InvalidInput(f"{missing}: got none; give both files, or neither to have both sides encoded")
    if rules.method not in (Method.WSD, Method.TMA):
        return _Embeddings(None, None, None)
    encode = embedding_files.find_encoder(representation)
    with progress_bar("embedding train") as progress:
        train_vectors = embedding_files.encode_side(encode, representation, train_side, progress)
    with progress_bar("embedding test") as progress:
        test_vectors = embedding_files.encode_side(encode, representation, test_side, progress)
    return _Embeddings(train_vectors, test_vectors, {"representation": representation.model_dump(mode="json")})


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
    return _Embeddings(train_vectors, test_vectors, sources)


def _order_table(arranged: ArrangedOrder, train: Side, test: Side) -> OrderTable:
    return order_table(
        train.dataset.digest,
        arranged.index,
        ids=[example.id for example in train.dataset.examples],
        tasks=[example.task for example in train.dataset.examples],
        round=arranged.round,
        score=arranged.score,
        nearest_test=arranged.nearest_test,
        test_ids=[example.id for example in test.dataset.examples],
        nearest_similarity=arranged.nearest_similarity,
    )


def _provenance(rules: ArrangementRules, vectors: _Embeddings, train: Side, test: Side) -> dict[str, Any]:
    """What the order was made from: enough to make it again."""
    return {
        "spec": rules.model_dump(mode="json"),
        "train": train.summary(),
        "test": test.summary(),
        "embeddings": vectors.source,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "nearfirst": version("nearfirst"),
            "nearfirst-arrangement": version("nearfirst-arrangement"),
        },
    }


def _write(out: Path, table: OrderTable, manifest: dict[str, Any]) -> Path:
    """Write the order, then its manifest: where there is a manifest, the order beside it is whole and its own."""
    path = out.with_name(f"{out.name}.manifest.json")
    path.unlink(missing_ok=True)
    write_order(out, table)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _print_summary(out: Path, manifest_path: Path, table: OrderTable, arranged: ArrangedOrder) -> None:
    summary = Table(show_header=False)
    summary.add_column()
    summary.add_column(overflow="fold")
    summary.add_row("rows", str(len(table)))
    if arranged.num_rounds is not None:
        summary.add_row("rounds", str(arranged.num_rounds))
    summary.add_row("digest", table.digest)
    summary.add_row("first ids", "\n".join(table.ids[:_NUM_SHOWN]))
    summary.add_row("order", str(out))
    summary.add_row("manifest", str(manifest_path))
    Console().print(summary)
