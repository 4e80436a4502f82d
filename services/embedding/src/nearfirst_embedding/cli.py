"""`nearfirst embed`: the vectors of a dataset file, without any server."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from nearfirst.client.progress import progress_bar
from nearfirst.contracts.arrangements import DEFAULT_ENCODER, Representation, TextRule
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidInput
from nearfirst.data.dataset import load_dataset
from nearfirst.data.example import embedded_text
from nearfirst_embedding.encoder import encode_texts, encoder_key, load_encoder, truncated_counts


def embed(
    data: Annotated[Path, typer.Option(help="Dataset file or folder, in any supported format.")],
    out: Annotated[Path, typer.Option(help="Where the vectors go: X.npy, and X.npy.json beside it.")],
    split: Annotated[str | None, typer.Option(help="Keep the rows of this split.")] = None,
    format: Annotated[DatasetFormat | None, typer.Option(help="The file's format; recognised when not given.")] = None,
    model: Annotated[
        str, typer.Option(help="Hub id, package:NAME, or a folder that begins with ./ or /.")
    ] = DEFAULT_ENCODER,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    text: Annotated[TextRule, typer.Option(help="Which text of an example is embedded.")] = TextRule.FIRST_TURN,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens kept; the model's own limit by default.")
    ] = None,
) -> None:
    """Write the vector of every row of a dataset, in the dataset's order."""
    if out.suffix != ".npy":
        raise InvalidInput(f"--out is {str(out)!r}; wanted a name that ends in .npy")
    if not out.parent.is_dir():
        raise InvalidInput(f"--out is {str(out)!r}; wanted it in a folder that exists")
    representation = Representation(model=model, revision=revision, text=text, max_length=max_length)
    with progress_bar("reading") as progress:
        dataset = load_dataset(data, format=format, split=split, progress=progress)
    texts = [embedded_text(example, text) for example in dataset.examples]
    with progress_bar("embedding") as progress:
        vectors = encode_texts(representation, texts, progress=progress)
    _write(
        out,
        vectors,
        {
            "encoder": encoder_key(representation, load_encoder(representation).files.digest),
            "num_rows": vectors.shape[0],
            "dimensions": vectors.shape[1],
            "dataset_digest": dataset.digest,
            "truncated": truncated_counts(representation, texts),
        },
    )
    typer.echo(f"{vectors.shape[0]} x {vectors.shape[1]} vectors in {out}", err=True)


def _write(out: Path, vectors: npt.NDArray[np.float32], sidecar: dict[str, Any]) -> None:
    """Write both files; a reader never sees half a file, nor a sidecar without its vectors."""
    described = out.with_name(f"{out.name}.json")
    described.unlink(missing_ok=True)
    unfinished = out.with_name(f"{out.name}.part")
    with unfinished.open("wb") as file:
        np.save(file, vectors)
    unfinished.replace(out)
    unfinished_sidecar = described.with_name(f"{described.name}.part")
    unfinished_sidecar.write_text(json.dumps(sidecar, indent=2) + "\n")
    unfinished_sidecar.replace(described)
