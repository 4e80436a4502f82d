"""A small multi-task instruction set that Nearfirst makes itself (docs/bundled-data.md)."""

from pathlib import Path


def bundled_path() -> Path:
    """The bundled data: P3-like rows, `split` is `train` or `test`."""
    return Path(__file__).parent / "instructions.jsonl.gz"
