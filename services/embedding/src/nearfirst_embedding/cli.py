"""`nearfirst embed`: the vectors of a dataset file, without any server."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError

from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.arrangements import (
    DEFAULT_ENCODER,
    Pooling,
    Precision,
    Representation,
    RepresentationKind,
    TextRule,
)
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import invalid_input_from_validation
from nearfirst.data.dataset import load_dataset
from nearfirst.data.example import embedded_text
from nearfirst.data.writing import refuse_bad_output, whole_file
from nearfirst_embedding.representations import embed_texts, load_representation
from nearfirst_embedding.vector_cache import VectorCache, open_vector_cache

_MIB = 2**20
_SIDECAR_ENDING = ".json"


def embed(
    data: Annotated[Path, typer.Option(help="Dataset file or folder, in any supported format.")],
    out: Annotated[Path, typer.Option(help="Where the vectors go: X.npy, and X.npy.json beside it.")],
    split: Annotated[str | None, typer.Option(help="Keep the rows of this split.")] = None,
    format: Annotated[DatasetFormat | None, typer.Option(help="The file's format; recognised when not given.")] = None,
    kind: Annotated[
        str, typer.Option(help="sentence-transformer, causal-lm, or an installed plug-in's name.")
    ] = RepresentationKind.SENTENCE_TRANSFORMER,
    model: Annotated[
        str, typer.Option(help="Hub id, package:NAME, or a folder that begins with ./ or /.")
    ] = DEFAULT_ENCODER,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    text: Annotated[TextRule, typer.Option(help="Which text of an example is embedded.")] = TextRule.FIRST_TURN,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens kept; the model's own limit by default.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="exact: fp32; fast: bf16, where the processor has it.")
    ] = Precision.EXACT,
    pooling: Annotated[Pooling | None, typer.Option(help="Of kind causal-lm; weighted_mean by default.")] = None,
    cache: Annotated[bool, typer.Option(help="Take known texts' vectors from the cache, and keep new ones.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write the vector of every row of a dataset, in the dataset's order."""
    refuse_bad_output(out, {".npy"}, inputs=[data], beside=_SIDECAR_ENDING)
    representation = _representation(
        kind=kind,
        model=model,
        revision=revision,
        text=text,
        max_length=max_length,
        precision=precision,
        pooling=pooling,
    )
    with progress_bar("reading") as progress:
        dataset = load_dataset(data, format=format, split=split, progress=progress)
    texts = [embedded_text(example, text) for example in dataset.examples]
    kept = open_vector_cache() if cache else None
    with progress_bar("embedding") as progress:
        encoded = embed_texts(representation, texts, cache=kept, progress=progress)
    num_rows, dimensions = encoded.vectors.shape
    sidecar = {
        "encoder": load_representation(representation).key,
        "num_rows": num_rows,
        "dimensions": dimensions,
        "dataset_digest": dataset.digest,
        "truncated": int(encoded.truncated.sum()),
    }
    _write(out, encoded.vectors, sidecar)
    typer.echo(f"{num_rows} x {dimensions} vectors in {out}", err=True)
    if kept is not None:
        typer.echo(_described(kept), err=True)
    if as_json:
        print_json({"vectors": str(out), **sidecar})


def _representation(**fields: Any) -> Representation:
    try:
        return Representation(**fields)
    except ValidationError as error:
        raise invalid_input_from_validation(error, "representation") from error


def _described(cache: VectorCache) -> str:
    return f"cache: {cache.num_vectors()} vectors, {cache.size_bytes() / _MIB:.1f} MiB in {cache.path}"


def _write(out: Path, vectors: npt.NDArray[np.float32], sidecar: dict[str, Any]) -> None:
    """Write both files; a reader never sees half a file, nor a sidecar without its vectors."""
    described = out.with_name(f"{out.name}{_SIDECAR_ENDING}")
    described.unlink(missing_ok=True)
    with whole_file(out) as file:
        np.save(file, vectors)
    with whole_file(described) as file:
        file.write((json.dumps(sidecar, indent=2) + "\n").encode())
