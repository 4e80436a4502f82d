"""The vectors of a dataset file, for `nearfirst arrange`: from an .npy file, or from an installed encoder.

Shapes: n rows selected by the split, D dimensions.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.progress import ProgressCallback
from nearfirst.data.dataset import LoadedDataset, load_dataset
from nearfirst.data.example import embedded_text

EMBEDDING_GROUP = "nearfirst.embedding"
"""The entry point `encode_texts(representation, texts, *, progress) -> EncodedTexts` of the embedding service."""


class EncodedTexts(Protocol):
    """Vectors of n texts."""

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """(n, D) rows of length 1."""

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """(n,) True where the text was longer than the encoder's limit."""


Encode = Callable[..., EncodedTexts]


@dataclass(frozen=True, slots=True)
class Side:
    """The train or the test file of an arrangement."""

    name: str
    """`train` or `test`."""
    path: Path
    format: DatasetFormat | None
    split: str | None
    dataset: LoadedDataset
    """The rows of the split."""

    def summary(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "file": self.path.name,
            "format": self.dataset.format.value,
            "split": self.split,
            "digest": self.dataset.digest,
            "num_examples": len(self.dataset.examples),
            "num_tasks": self.dataset.num_tasks,
        }


def load_side(
    name: str, path: Path, format: DatasetFormat | None, split: str | None, progress: ProgressCallback
) -> Side:
    """Read one side's dataset."""
    if not path.exists():
        raise InvalidInput(f"{name}: there is no file or folder {path}")
    return Side(name, path, format, split, load_dataset(path, format=format, split=split, progress=progress))


def read_vectors(path: Path, side: Side, progress: ProgressCallback) -> npt.NDArray[Any]:
    """A side's vectors from an .npy file, memory-mapped where that needs no selection.

    Args:
        path: (n, D), a row for each selected row of the side; or with a row for each row of its whole file, of which
            those of the split are taken.
        side: the dataset the rows belong to.
        progress: called with the rows read, when the whole file is read again to tell its rows apart.

    Raises:
        InvalidEmbeddings: not an .npy file of numbers, neither number of rows, or the sidecar says that they were made
            from other rows.
    """
    try:
        vectors: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InvalidEmbeddings(f"{side.name}_embeddings: {path} can't be read as .npy: {error}") from error
    if vectors.ndim != 2:
        raise InvalidEmbeddings(f"{side.name}_embeddings: {path} has shape {vectors.shape}, wanted (rows, dimensions)")
    selected = side.dataset
    if len(vectors) == len(selected.examples):
        _check_made_from(path, side, selected)
        return vectors
    whole = selected if side.split is None else load_dataset(side.path, format=side.format, progress=progress)
    if len(vectors) != len(whole.examples):
        wanted = f"{len(selected.examples)} (the rows of {side.path.name}" + (
            f" in split '{side.split}') or {len(whole.examples)} (all its rows)" if side.split is not None else ")"
        )
        raise InvalidEmbeddings(f"{side.name}_embeddings: {path} has {len(vectors)} rows, wanted {wanted}")
    _check_made_from(path, side, whole)
    row_of_id = {example.id: row for row, example in enumerate(whole.examples)}
    chosen: npt.NDArray[Any] = vectors[[row_of_id[example.id] for example in selected.examples]]
    return chosen


def encoder_of(path: Path) -> str | None:
    """The encoder that the sidecar of an .npy file names: model, revision, text rule, length, precision."""
    encoder = _sidecar(path).get("encoder")
    return None if encoder is None else str(encoder)


def check_same_encoder(train: Path, test: Path) -> None:
    """Refuse vectors of two encoders, as far as their sidecars (X.npy.json of `nearfirst embed`) tell.

    Raises:
        InvalidEmbeddings: naming both.
    """
    train_encoder, test_encoder = encoder_of(train), encoder_of(test)
    if train_encoder is not None and test_encoder is not None and train_encoder != test_encoder:
        raise InvalidEmbeddings(
            f"train and test of different encoders: train_embeddings {train} come from {train_encoder}, "
            f"test_embeddings {test} from {test_encoder}"
        )


def find_encoder() -> Encode:
    """The embedding service's function, where it is installed.

    Raises:
        InvalidInput: it isn't, or can't be imported.
    """
    found = list(entry_points(group=EMBEDDING_GROUP, name="encode_texts"))
    if not found:
        raise InvalidInput(
            "no encoder is installed: install nearfirst-embedding, or give train_embeddings and test_embeddings"
        )
    try:
        encode: Encode = found[0].load()
    except ImportError as error:
        raise InvalidInput(f"the encoder {found[0].value} can't be loaded: {error}") from error
    return encode


def encode_side(encode: Encode, representation: Representation, side: Side, progress: ProgressCallback) -> EncodedTexts:
    """A side's vectors from an encoder."""
    texts = [embedded_text(example, representation.text) for example in side.dataset.examples]
    return encode(representation, texts, progress=progress)


def _sidecar(path: Path) -> dict[str, Any]:
    """What X.npy.json says; empty when there is none."""
    sidecar = path.with_name(f"{path.name}.json")
    if not sidecar.is_file():
        return {}
    try:
        described = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidEmbeddings(f"{sidecar} isn't JSON: {error}") from error
    if not isinstance(described, dict):
        raise InvalidEmbeddings(f"{sidecar} holds {type(described).__name__}, wanted an object")
    return described


def _check_made_from(path: Path, side: Side, dataset: LoadedDataset) -> None:
    digest = _sidecar(path).get("dataset_digest")
    if digest not in (None, dataset.digest):
        raise InvalidEmbeddings(
            f"{side.name}_embeddings: {path} were made from the rows {digest}, {side.path.name} has {dataset.digest}"
        )
