"""The manifest beside an exported file, and its note on what keeps each trainer on the file's order.

The reasons for the settings in the note are in docs/keeping-the-order.md.
"""

from pathlib import Path

from pydantic import JsonValue

from nearfirst.contracts.exports import ExportFormat, ExportManifest, OrderNote
from nearfirst.data.writing import whole_file

MANIFEST_ENDING = ".manifest.json"
"""Of the manifest beside an order or an exported file: FILE.manifest.json."""
PAGE = "docs/keeping-the-order.md"

_TEXT = (
    "The rows are in training order, and no trainer keeps it by default: each shuffles unless its settings say "
    "otherwise. Leave packing, grouping by length, streaming and validation splits off: they move or remove rows. "
    "Where a trainer drops a row (too long, nothing to score), all later rows move to other steps: see that it reports "
    "num_rows rows. Empty its cache of prepared rows (axolotl's dataset_prepared_path) before each run. Parquet keeps "
    "the columns' types, which loaders guess from the first rows of JSON lines."
)

_TRANSFORMERS: dict[str, JsonValue] = {"train_sampling_strategy": "sequential"}
_TRL: dict[str, JsonValue] = {"train_sampling_strategy": "sequential", "shuffle_dataset": False, "packing": False}
_LLAMA_FACTORY: dict[str, JsonValue] = {
    "disable_shuffling": True,
    "packing": False,
    "streaming": False,
    "val_size": 0.0,
}
_AXOLOTL: dict[str, JsonValue] = {
    "curriculum_sampling": True,
    "shuffle_merged_datasets": False,
    "sample_packing": False,
    "streaming": False,
    "val_set_size": 0.0,
    "excess_length_strategy": "truncate",
}

_READERS: dict[ExportFormat, dict[str, dict[str, JsonValue]]] = {
    ExportFormat.MESSAGES: {"trl": _TRL, "llama_factory": _LLAMA_FACTORY, "axolotl": _AXOLOTL},
    ExportFormat.ALPACA: {"llama_factory": _LLAMA_FACTORY},
    ExportFormat.SHAREGPT: {"llama_factory": _LLAMA_FACTORY, "axolotl": _AXOLOTL},
    ExportFormat.PROMPT_COMPLETION: {"trl": _TRL},
}
"""Trainers that read all of a layout as it stands: axolotl's alpaca, say, looks at neither system nor history."""


def order_note(format: ExportFormat) -> OrderNote:
    """The note for a file of this layout: the trainers that read it, and `transformers` for a loop of one's own."""
    return OrderNote(text=_TEXT, page=PAGE, settings={**_READERS[format], "transformers": _TRANSFORMERS})


def manifest_path(path: Path) -> Path:
    """Where the manifest of an exported file is: FILE.manifest.json."""
    return path.with_name(f"{path.name}{MANIFEST_ENDING}")


def write_manifest(path: Path, manifest: ExportManifest) -> None:
    """Write the manifest of the exported file `path`."""
    with whole_file(manifest_path(path)) as file:
        file.write(f"{manifest.model_dump_json(indent=2)}\n".encode())
