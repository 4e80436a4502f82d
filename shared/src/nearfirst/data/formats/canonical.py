"""Nearfirst's own rows: what it stores, and what `data.dataset.canonical_line` writes."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.formats.messages import role_content_turns
from nearfirst.data.formats.row import Draft, Fields, RowFormat, checked, text, texts


def _read(fields: Fields) -> Draft:
    """`references` is required here; its first entry is the first assistant turn again."""
    turns = role_content_turns(fields, "turns")
    texts(fields, "references")
    meta = fields.get("meta")
    return Draft(
        turns,
        task=text(fields, "task"),
        meta={} if meta is None else checked(meta, dict, "meta", "an object"),
    )


EXAMPLES = RowFormat(DatasetFormat.EXAMPLES, (frozenset({"turns", "references"}),), _read)
