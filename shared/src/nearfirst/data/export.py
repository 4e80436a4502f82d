"""An arranged dataset as a file for other trainers: its rows in training order, in a layout that trainers read.

export_lines(examples, index, format)   examples in an order -> JSON lines
write_export(path, examples, order)     the same as a file, Parquet when so named, with its manifest beside it

Every row has `position` (from 0), `id` and `task`, then the layout's own columns:

    messages            messages: [{role, content}]; any conversation
    sharegpt            conversations: [{from, value}] of human, gpt and system; any conversation
    alpaca              instruction, input (always empty: a user turn isn't cut in two), output; and `system` and
                        `history` ([[user, assistant], ...], the earlier exchanges) when some row has such turns
    prompt_completion   prompt, completion: texts when every row is one user turn and its answer; else lists of
                        {role, content} in every row (TRL's conversational form), the completion being the last
                        assistant turn and the prompt all turns before it

A column has one type, and is in all rows or in none: loaders guess a schema from the first rows. Turns are kept to the
letter; a conversation that a layout can't hold is refused by its id before anything is written. Other right answers
(`references`) and `meta` are no training text and stay in the dataset, where `id` finds them.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nearfirst.contracts.exports import ExportFileType, ExportFormat, ExportManifest
from nearfirst.contracts.problems import InvalidInput, OrderMismatch
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.contracts.receipts import order_digest
from nearfirst.data.example import Example, Message
from nearfirst.data.export_manifest import manifest_path, order_note, write_manifest
from nearfirst.data.order import OrderTable
from nearfirst.data.writing import whole_file

_ROWS_PER_BATCH = 4096
_SHAREGPT_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

_MESSAGES_TYPE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PLACE_TYPES: dict[str, Any] = {"position": pa.int64(), "id": pa.string(), "task": pa.string()}


@dataclass(frozen=True, slots=True)
class _Layout:
    """A format's columns for one set of examples."""

    types: dict[str, Any]
    """Column -> its Arrow type, besides position, id and task."""
    fields: Callable[[tuple[Message, ...]], dict[str, Any]]
    """Turns -> the values of these columns."""

    @property
    def columns(self) -> list[str]:
        return [*_PLACE_TYPES, *self.types]

    def row(self, position: int, example: Example) -> dict[str, Any]:
        return {"position": position, "id": example.id, "task": example.task, **self.fields(example.turns)}


def export_lines(examples: Sequence[Example], index: Sequence[int], format: ExportFormat) -> Iterator[str]:
    """Rows in the order of `index` as JSON lines, without line breaks at their ends.

    Args:
        examples: the dataset, by index.
        index: (n,) rows of it in training order, n at least 1.
        format: the layout.

    Raises:
        InvalidInput: an example that the layout can't hold; raised by the call itself, before the first line.

    >>> turns = (Message("user", "Who?"), Message("assistant", "Me."))
    >>> examples = [Example(id, "t", turns, ("Me.",)) for id in ("a", "b")]
    >>> for line in export_lines(examples, [1, 0], ExportFormat.PROMPT_COMPLETION):
    ...     print(line)
    {"position": 0, "id": "b", "task": "t", "prompt": "Who?", "completion": "Me."}
    {"position": 1, "id": "a", "task": "t", "prompt": "Who?", "completion": "Me."}
    """
    layout = _layout(examples, index, format)
    return (_ENCODER.encode(row) for row in _rows(examples, index, layout))


def write_export(
    path: Path,
    examples: Sequence[Example],
    order: OrderTable,
    *,
    dataset_digest: str,
    format: ExportFormat,
    progress: ProgressCallback = ignore_progress,
) -> ExportManifest:
    """Write an arranged dataset and, as `manifest_path(path)`, its manifest.

    Both files appear whole, the manifest last: where there is one, the file beside it is complete and its own.

    Args:
        path: Parquet when it ends in `.parquet`, else JSON lines in UTF-8.
        examples: the dataset that was arranged, by index.
        order: its arrangement, verified (`read_order`).
        dataset_digest: of the dataset.
        format: the layout.
        progress: called with the rows written.

    Raises:
        InvalidInput: an example that the layout can't hold; nothing was written.
        OrderMismatch: the ids of `examples` in this order don't give the order's digest; nothing was written.

    Notes: two passes over the rows (the first finds the columns), in constant memory beyond `examples`.
    """
    index: list[int] = order.index.tolist()
    layout = _layout(examples, index, format)
    file_type = ExportFileType.PARQUET if path.suffix == ".parquet" else ExportFileType.JSONL
    ids: list[str] = []
    with whole_file(path) as file:
        rows = _observed(_rows(examples, index, layout), ids, len(index), progress)
        if file_type is ExportFileType.PARQUET:
            _write_parquet(file, rows, layout)
        else:
            file.writelines(f"{_ENCODER.encode(row)}\n".encode() for row in rows)
        written = order_digest(dataset_digest, ids)
        if written != order.digest:
            raise OrderMismatch(f"{path.name}: the rows have the digest {written}, wanted the order's {order.digest}")
        manifest_path(path).unlink(missing_ok=True)
    with path.open("rb") as file:
        file_digest = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = ExportManifest(
        file=path.name,
        file_digest=f"sha256:{file_digest}",
        size_bytes=path.stat().st_size,
        format=format,
        file_type=file_type,
        columns=layout.columns,
        num_rows=len(order),
        arrangement_digest=order.digest,
        dataset_digest=dataset_digest,
        note=order_note(format),
    )
    write_manifest(path, manifest)
    return manifest


def _layout(examples: Sequence[Example], index: Sequence[int], format: ExportFormat) -> _Layout:
    """The columns that these rows need; refuses rows that the format can't hold."""
    has_system = has_history = False
    for position, row in enumerate(index):
        example = examples[row]
        if (wanted := _unmet(example.turns, format)) is not None:
            roles = ", ".join(turn.role for turn in example.turns)
            raise InvalidInput(
                f"format: {format} wants {wanted}; example {example.id!r} (position {position}) has the turns {roles}; "
                f"{ExportFormat.MESSAGES} and {ExportFormat.SHAREGPT} hold every conversation"
            )
        num_system = sum(turn.role == "system" for turn in example.turns)
        has_system |= num_system > 0
        has_history |= len(example.turns) - num_system > 2
    if format is ExportFormat.MESSAGES:
        return _Layout({"messages": _MESSAGES_TYPE}, lambda turns: {"messages": _messages(turns)})
    if format is ExportFormat.SHAREGPT:
        said = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
        return _Layout({"conversations": said}, lambda turns: {"conversations": _said(turns)})
    if format is ExportFormat.ALPACA:
        return _alpaca_layout(has_system, has_history)
    return _prompt_completion_layout(is_conversational=has_system or has_history)


def _unmet(turns: tuple[Message, ...], format: ExportFormat) -> str | None:
    """What a format wants of a conversation that doesn't have it; None when the format holds it."""
    roles = [turn.role for turn in turns]
    if format is ExportFormat.PROMPT_COMPLETION and roles[-1] != "assistant":
        return "an assistant turn at the end"
    if format is ExportFormat.ALPACA:
        spoken = roles[1:] if roles[0] == "system" else roles
        if spoken != ["user", "assistant"] * (len(spoken) // 2):
            return "user and assistant in turn, with at most one system turn before them"
        if roles[0] == "system" and not turns[0].content:
            return "a system turn that isn't empty (it would read as none)"
    return None


def _messages(turns: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _said(turns: Iterable[Message]) -> list[dict[str, str]]:
    return [{"from": _SHAREGPT_SPEAKERS[turn.role], "value": turn.content} for turn in turns]


def _alpaca_layout(has_system: bool, has_history: bool) -> _Layout:
    optional = {"system": (has_system, pa.string()), "history": (has_history, pa.list_(pa.list_(pa.string())))}
    types = {name: pa.string() for name in ("instruction", "input", "output")}
    types |= {name: kind for name, (is_needed, kind) in optional.items() if is_needed}

    def fields(turns: tuple[Message, ...]) -> dict[str, Any]:
        texts = [turn.content for turn in turns]
        system = texts.pop(0) if turns[0].role == "system" else ""
        *earlier, (instruction, output) = zip(texts[::2], texts[1::2], strict=True)
        values = {
            "instruction": instruction,
            "input": "",
            "output": output,
            "system": system,
            "history": [list(exchange) for exchange in earlier],
        }
        return {name: values[name] for name in types}

    return _Layout(types, fields)


def _prompt_completion_layout(is_conversational: bool) -> _Layout:
    if is_conversational:
        return _Layout(
            {"prompt": _MESSAGES_TYPE, "completion": _MESSAGES_TYPE},
            lambda turns: {"prompt": _messages(turns[:-1]), "completion": _messages(turns[-1:])},
        )
    return _Layout(
        {"prompt": pa.string(), "completion": pa.string()},
        lambda turns: {"prompt": turns[0].content, "completion": turns[1].content},
    )


def _rows(examples: Sequence[Example], index: Iterable[int], layout: _Layout) -> Iterator[dict[str, Any]]:
    return (layout.row(position, examples[row]) for position, row in enumerate(index))


def _observed(
    rows: Iterable[dict[str, Any]], ids: list[str], total: int, progress: ProgressCallback
) -> Iterator[dict[str, Any]]:
    """The same rows; their ids are appended to `ids` as they go by."""
    for row in rows:
        ids.append(row["id"])
        if len(ids) % _ROWS_PER_BATCH == 0:
            progress(len(ids), total, "rows")
        yield row
    progress(len(ids), total, "rows")


def _write_parquet(file: IO[bytes], rows: Iterator[dict[str, Any]], layout: _Layout) -> None:
    schema = pa.schema([*_PLACE_TYPES.items(), *layout.types.items()])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := list(islice(rows, _ROWS_PER_BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
