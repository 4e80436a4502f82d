"""Arranged datasets as files, for GET /arrangements/{id}/export: made at the first request, kept for the next."""

import base64
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from nearfirst.contracts.exports import ExportFileType, ExportFormat, ExportManifest
from nearfirst.data.export import write_export
from nearfirst.data.export_manifest import manifest_path
from nearfirst.data.order import read_order
from nearfirst.data.row_file import RowFile
from nearfirst.store.artifacts import Store

MEDIA_TYPES = {ExportFileType.JSONL: "application/x-ndjson", ExportFileType.PARQUET: "application/vnd.apache.parquet"}


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file on this machine, and what it holds. Don't write to it."""

    path: Path
    manifest: ExportManifest

    @property
    def media_type(self) -> str:
        """Of the answer that carries the file."""
        return MEDIA_TYPES[self.manifest.file_type]

    def filename(self, arrangement_id: str) -> str:
        """What a browser saves the file as."""
        return f"{arrangement_id}.{self.manifest.format}.{self.manifest.file_type}"

    def headers(self, arrangement_id: str) -> dict[str, str]:
        """Headers of the answer that carries the file: its digest (RFC 9530), its manifest, and the order note."""
        manifest, note = self.manifest, self.manifest.note
        digest = base64.b64encode(bytes.fromhex(manifest.file_digest.removeprefix("sha256:"))).decode()
        query = f"format={manifest.format}&file_type={manifest.file_type}"
        return {
            "Repr-Digest": f"sha-256=:{digest}:",
            "Link": f'</arrangements/{arrangement_id}/export/manifest?{query}>; rel="describedby"',
            "Nearfirst-Order-Note": json.dumps({"page": note.page, "settings": note.settings}),
        }


def export_arrangement(
    store: Store,
    artifact: str,
    *,
    arrangement_digest: str,
    dataset_digest: str,
    format: ExportFormat,
    file_type: ExportFileType,
    folder: Path,
) -> ExportedFile:
    """An arrangement's rows as a file, in its order.

    Args:
        store: holds the order and the dataset.
        artifact: the arrangement's, with `order.jsonl`.
        arrangement_digest: the order's digest.
        dataset_digest: of the training dataset.
        format: the layout.
        file_type: JSON lines or Parquet.
        folder: keeps what was made; nothing is lost when it is emptied.

    Raises:
        InvalidInput: an example that the layout can't hold; the detail names it.
        NotFound, CorruptArtifact: the order or the dataset is gone or was changed.
        OrderMismatch: the order isn't one of this dataset.

    Notes: the first call reads the dataset three times, one row at a time; later ones open two small files.
    """
    name = f"{arrangement_digest.removeprefix('sha256:')}.{format}.{file_type}"
    path = folder / version("nearfirst") / name
    if (kept := _kept_manifest(path)) is not None:
        return ExportedFile(path, kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    examples = RowFile(store.local_path(dataset_digest))
    order = read_order(
        store.artifact_file(artifact, "order.jsonl", verify=False),
        dataset_digest=dataset_digest,
        expected_digest=arrangement_digest,
        ids=list(examples.ids()),
        global_batch_size=1,
    )
    return ExportedFile(path, write_export(path, examples, order, dataset_digest=dataset_digest, format=format))


def _kept_manifest(path: Path) -> ExportManifest | None:
    """The manifest of a file that is still whole."""
    try:
        manifest = ExportManifest.model_validate_json(manifest_path(path).read_bytes())
        return manifest if path.stat().st_size == manifest.size_bytes else None
    except (FileNotFoundError, ValidationError):
        return None
