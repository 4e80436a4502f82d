"""Dataset layouts: recognising a row's and turning the row into an Example.

A new row format is a module with one `RowFormat`, registered in `ROW_FORMATS`. NIV2 is a folder, not rows: see `niv2`.
"""

from typing import Any

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Example
from nearfirst.data.formats.alpaca import ALPACA
from nearfirst.data.formats.canonical import EXAMPLES
from nearfirst.data.formats.flan_mini import FLAN_MINI
from nearfirst.data.formats.messages import MESSAGES
from nearfirst.data.formats.p3 import P3
from nearfirst.data.formats.prompt_completion import PROMPT_COMPLETION
from nearfirst.data.formats.row import BadRow, Draft, Fields, RowFormat, check_turns, checked, optional_text, texts
from nearfirst.data.formats.sharegpt import SHAREGPT
from nearfirst.data.formats.ultrachat import ULTRACHAT

ROW_FORMATS: dict[DatasetFormat, RowFormat] = {
    row_format.name: row_format
    for row_format in (EXAMPLES, P3, FLAN_MINI, SHAREGPT, MESSAGES, ULTRACHAT, ALPACA, PROMPT_COMPLETION)
}
"""In order of recognition: the more particular layout first."""


def recognise(fields: Fields) -> DatasetFormat:
    """The first format in `ROW_FORMATS` whose fields the row has.

    UltraChat's `messages` release reads the same as `messages` and is recognised as that.

    Raises:
        BadRow: no format fits; the message has the row's fields and the formats known.
    """
    for row_format in ROW_FORMATS.values():
        if row_format.fits(fields):
            return row_format.name
    known = "; ".join(map(str, ROW_FORMATS.values()))
    raise BadRow(f"unknown layout with the fields {', '.join(sorted(fields)) or '(none)'}; known formats: {known}")


def split_of(fields: Fields) -> str | None:
    """The split a row says it belongs to: its `split` field, or in canonical rows `meta.split`."""
    split = optional_text(fields, "split")
    meta = fields.get("meta")
    if split is None and isinstance(meta, dict):
        return optional_text(meta, "split")
    return split


def to_example(fields: Fields, row_format: RowFormat, index: int) -> Example:
    """A row as an Example.

    All formats share the optional fields `id` (a string or an integer), `task`, `split` (kept in meta) and `references`
    (right answers besides the target).

    Args:
        fields: the row.
        row_format: its layout.
        index: the row's number in its file, from 0; names a row without an id `TASK/INDEX`, or `INDEX` without a task.

    Raises:
        BadRow: a field is missing or of a wrong type, or the conversation doesn't open with a user turn and its answer.
    """
    draft = row_format.read(fields)
    check_turns(draft.turns)
    task = draft.task if draft.task is not None else optional_text(fields, "task") or ""
    return Example(
        id=_id_of(fields, task, index),
        task=task,
        turns=draft.turns,
        references=_references(fields, draft),
        meta=_meta(fields, draft),
    )


def _id_of(fields: Fields, task: str, index: int) -> str:
    own = fields.get("id")
    if own is None:
        return f"{task}/{index}" if task else str(index)
    if isinstance(own, int) and not isinstance(own, bool):
        return str(own)
    if not checked(own, str, "id", "a string or an integer"):
        raise BadRow("field 'id' is an empty string")
    return str(own)


def _references(fields: Fields, draft: Draft) -> tuple[str, ...]:
    """The target, then every other right answer once."""
    target = next(turn.content for turn in draft.turns if turn.role == "assistant")
    further = () if fields.get("references") is None else texts(fields, "references")
    return tuple(dict.fromkeys((target, *draft.references, *further)))


def _meta(fields: Fields, draft: Draft) -> dict[str, Any]:
    split = split_of(fields)
    return dict(draft.meta) if split is None else {**draft.meta, "split": split}
