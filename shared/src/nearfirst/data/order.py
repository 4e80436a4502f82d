"""An order as a file: written whole or not at all, read only after every row was checked.

order_table(dataset_digest, index, ...)  arrays of an arrangement -> OrderTable, with its digests
write_order(path, table)                 OrderTable -> order.jsonl, or Parquet when the path ends in .parquet
read_order(path, ...)                    either of them -> OrderTable, verified

Fields and digests are those of `contracts.arrangements.OrderRow` and `contracts.receipts`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from nearfirst.contracts.arrangements import OrderRow
from nearfirst.contracts.problems import OrderMismatch
from nearfirst.contracts.receipts import extend_order, order_genesis, order_heads
from nearfirst.data.writing import whole_file

_PARQUET_TYPES: dict[str, Any] = {
    "position": pa.int64(),
    "index": pa.int64(),
    "id": pa.string(),
    "task": pa.string(),
    "round": pa.int32(),
    "score": pa.float64(),
    "nearest_test_id": pa.string(),
    "nearest_similarity": pa.float64(),
    "prefix_digest": pa.string(),
}

_Columns = dict[str, list[Any]]
"""Field of OrderRow -> its values in file order; None where a row has none."""
_Refusal = Callable[[int, str], OrderMismatch]
"""Row and reason -> the error that names the training step."""


@dataclass(frozen=True, slots=True, eq=False)
class OrderTable:
    """An order as columns, each of n values in training order. Optional columns are there for all rows or for none."""

    index: npt.NDArray[np.int64]
    """Rows of the training dataset, distinct."""
    ids: list[str]
    tasks: list[str]
    prefix_digests: list[str]
    """Hex sha256 chain over the dataset's digest and the ids up to each row."""
    round: npt.NDArray[np.int32] | None = None
    score: npt.NDArray[np.float64] | None = None
    nearest_test_ids: list[str] | None = None
    nearest_similarity: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """Names the order: `sha256:` and the last row's prefix digest."""
        return f"sha256:{self.prefix_digests[-1]}"

    def columns(self, span: slice = slice(None)) -> dict[str, list[Any]]:
        """Field of OrderRow -> its values for the rows of `span`, None where there is no such column."""
        num_rows = len(self.ids[span])
        optional = (self.round, self.score, self.nearest_test_ids, self.nearest_similarity)
        round_, score, nearest_test_id, nearest_similarity = (
            [None] * num_rows if column is None else _plain(column[span]) for column in optional
        )
        return {
            "position": list(range(len(self))[span]),
            "index": _plain(self.index[span]),
            "id": self.ids[span],
            "task": self.tasks[span],
            "round": round_,
            "score": score,
            "nearest_test_id": nearest_test_id,
            "nearest_similarity": nearest_similarity,
            "prefix_digest": self.prefix_digests[span],
        }

    def rows(self, span: slice = slice(None)) -> Iterator[OrderRow]:
        """The rows of `span`, one by one."""
        columns = self.columns(span)
        for values in zip(*columns.values(), strict=True):
            yield OrderRow.model_construct(**dict(zip(columns, values, strict=True)))


def order_table(
    dataset_digest: str,
    index: npt.NDArray[np.int64],
    *,
    ids: Sequence[str],
    tasks: Sequence[str],
    round: npt.NDArray[np.int32] | None = None,
    score: npt.NDArray[np.float64] | None = None,
    nearest_test: npt.NDArray[np.int64] | None = None,
    test_ids: Sequence[str] | None = None,
    nearest_similarity: npt.NDArray[np.float64] | None = None,
) -> OrderTable:
    """An order with the digests that name it.

    Args:
        dataset_digest: of the training dataset.
        index: (n,) rows of it in training order, n at least 1.
        ids: the training dataset's ids, by index.
        tasks: its tasks, by index.
        round: (n,), as `OrderRow`.
        score: (n,), as `OrderRow`.
        nearest_test: (n,) index of the nearest test row; goes with `test_ids`.
        test_ids: the test dataset's ids, by index.
        nearest_similarity: (n,), as `OrderRow`.
    """
    ordered_ids = [ids[row] for row in index.tolist()]
    nearest_test_ids = None
    if nearest_test is not None and test_ids is not None:
        nearest_test_ids = [test_ids[row] for row in nearest_test.tolist()]
    return OrderTable(
        index=index,
        ids=ordered_ids,
        tasks=[tasks[row] for row in index.tolist()],
        prefix_digests=[head.hex() for head in order_heads(dataset_digest, ordered_ids)],
        round=round,
        score=score,
        nearest_test_ids=nearest_test_ids,
        nearest_similarity=nearest_similarity,
    )


ORDER_SUFFIXES = frozenset({".jsonl", ".parquet"})
"""What files of orders end in where a user names them."""


def write_order(path: Path, table: OrderTable) -> None:
    """Write an order, as Parquet when `path` ends in `.parquet`, else as JSON lines.

    Every field of OrderRow is written, null where there is none. The file appears whole: it is written beside `path`,
    flushed to disk and renamed.
    """
    columns = table.columns()
    with whole_file(path) as file:
        if path.suffix == ".parquet":
            arrays = {name: pa.array(columns[name], type=kind) for name, kind in _PARQUET_TYPES.items()}
            pq.write_table(pa.table(arrays), file, compression="zstd")
        else:
            encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
            names = tuple(columns)
            for values in zip(*columns.values(), strict=True):
                file.write(f"{encode(dict(zip(names, values, strict=True)))}\n".encode())


def read_order(
    path: Path, *, dataset_digest: str, expected_digest: str | None, ids: Sequence[str], global_batch_size: int
) -> OrderTable:
    """Read an order that is to be trained on, and check it row by row.

    Args:
        path: what `write_order` wrote.
        dataset_digest: of the training dataset.
        expected_digest: `sha256:<hex>` of the whole order; None accepts any order that agrees with itself.
        ids: the training dataset's ids, by index.
        global_batch_size: rows of a training step: row k is consumed by step `k // global_batch_size + 1`.

    Raises:
        OrderMismatch: a row that can't be read, that is out of place, that names another row than the dataset has at
            its index, that comes twice, or whose prefix digest is not that of the rows up to it; rows that end before
            or after the expected order does. The detail names the step and the row (from 0).

    Notes: about 10 microseconds a row.
    """

    def refusal(row: int, reason: str) -> OrderMismatch:
        return OrderMismatch(f"{path.name}: step {row // global_batch_size + 1} (row {row}): {reason}")

    columns = _read_parquet(path, refusal) if path.suffix == ".parquet" else _read_json_lines(path, refusal)
    if not columns["id"]:
        raise refusal(0, "the order has no rows")
    _check_rows(columns, ids, refusal)
    _check_chain(columns, dataset_digest, expected_digest, refusal)
    return OrderTable(
        index=np.array(columns["index"], dtype=np.int64),
        ids=columns["id"],
        tasks=columns["task"],
        prefix_digests=columns["prefix_digest"],
        round=_array(columns, "round", np.int32, refusal),
        score=_array(columns, "score", np.float64, refusal),
        nearest_test_ids=_optional(columns, "nearest_test_id", refusal),
        nearest_similarity=_array(columns, "nearest_similarity", np.float64, refusal),
    )


def _plain(column: "npt.NDArray[Any] | list[Any]") -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else column


def _read_json_lines(path: Path, refusal: _Refusal) -> _Columns:
    columns: _Columns = {name: [] for name in OrderRow.model_fields}
    with path.open("rb") as file:
        for number, line in enumerate(file):
            try:
                row = OrderRow.model_validate_json(line, strict=True)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                field = ".".join(map(str, first["loc"])) or "line"
                raise refusal(number, f"{field}: {first['msg']}") from error
            for name, values in columns.items():
                values.append(getattr(row, name))
    return columns


def _read_parquet(path: Path, refusal: _Refusal) -> _Columns:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise refusal(0, f"not a readable Parquet file: {error}") from error
    wanted = pa.schema(_PARQUET_TYPES.items())
    if table.schema.remove_metadata() != wanted:
        raise refusal(0, f"columns are {', '.join(table.column_names)}, wanted {', '.join(wanted.names)}")
    columns: _Columns = table.to_pydict()
    for name, field in OrderRow.model_fields.items():
        if field.is_required() and None in columns[name]:
            raise refusal(columns[name].index(None), f"{name} is missing")
    return columns


def _check_rows(columns: _Columns, ids: Sequence[str], refusal: _Refusal) -> None:
    """Every row is at its place and is a row of the dataset that no row before it was."""
    first_use: dict[int, int] = {}
    for row, (position, index, example_id) in enumerate(
        zip(columns["position"], columns["index"], columns["id"], strict=True)
    ):
        if position != row:
            raise refusal(row, f"position is {position}, wanted {row}")
        if not 0 <= index < len(ids):
            raise refusal(row, f"index is {index}, wanted one of the dataset's rows, 0 to {len(ids) - 1}")
        if example_id != ids[index]:
            raise refusal(row, f"id {example_id!r} where the dataset has {ids[index]!r} at index {index}")
        if first_use.setdefault(index, row) != row:
            raise refusal(row, f"id {example_id!r} was row {first_use[index]} already")


def _check_chain(columns: _Columns, dataset_digest: str, expected_digest: str | None, refusal: _Refusal) -> None:
    """The prefix digests are those of the ids, and the last is the expected one."""
    head = order_genesis(dataset_digest)
    last_row = len(columns["id"]) - 1
    for row, (example_id, written) in enumerate(zip(columns["id"], columns["prefix_digest"], strict=True)):
        head = extend_order(head, example_id)
        found = head.hex()
        if written != found:
            raise refusal(
                row,
                f"id {example_id!r} gives the prefix digest {found}, where the chain wants {written}: "
                "this row was changed, or the order is of another dataset",
            )
        if row < last_row and f"sha256:{found}" == expected_digest:
            raise refusal(row + 1, f"the order {expected_digest} ends before this row")
    if expected_digest not in (None, f"sha256:{head.hex()}"):
        raise refusal(
            last_row, f"the rows end here with the digest sha256:{head.hex()}, where the order is {expected_digest}"
        )


def _optional(columns: _Columns, name: str, refusal: _Refusal) -> list[Any] | None:
    """A column that all rows have, or None when no row has it."""
    values = columns[name]
    has_first = values[0] is not None
    for row, value in enumerate(values):
        if (value is not None) != has_first:
            raise refusal(row, f"{name} is {value!r}, but {'' if has_first else 'not '}given in the rows before")
    return values if has_first else None


def _array(columns: _Columns, name: str, dtype: npt.DTypeLike, refusal: _Refusal) -> npt.NDArray[Any] | None:
    values = _optional(columns, name, refusal)
    try:
        return None if values is None else np.array(values, dtype=dtype)
    except OverflowError as error:
        raise refusal(0, f"{name} has a value that no {np.dtype(dtype).name} holds: {error}") from error
