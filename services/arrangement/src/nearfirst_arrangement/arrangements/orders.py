"""Orders of arrangements that have succeeded: rows with their texts, and two orders compared.

Shapes: n rows of one order, m of the other, s in both.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import ArrangementSpec, OrderRow
from nearfirst.contracts.orders import MAX_OVERLAP_POINTS, ArrangedExample, OrderOverlap
from nearfirst.contracts.problems import InvalidInput
from nearfirst.registry import records
from nearfirst.registry.models import RunRow
from nearfirst.registry.results import artifact_of
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.datasets.rows import example_at, example_of

_ORDER_FILE = "order.parquet"
Index = npt.NDArray[np.int64]


def examples_page(
    session: Session, row: RunRow, store: Store, start: int, limit: int
) -> tuple[list[ArrangedExample], int | None]:
    """Rows [start, start + limit) of an order with their texts, and where the next page starts.

    Raises:
        NotReady: the arrangement hasn't succeeded.
        NotFound, CorruptArtifact: a file of the store is lost or damaged.
    """
    num_rows, columns = read_span(_order_path(row, store), start, limit)
    spec = ArrangementSpec.model_validate(row.spec)
    train, test = (
        store.local_path(records.get_dataset(session, side.dataset).digest, verify=False)
        for side in (spec.train, spec.test)
    )
    items = [_arranged(OrderRow.model_validate(fields), train, test) for fields in columns]
    stop = start + limit
    return items, stop if stop < num_rows else None


def _arranged(row: OrderRow, train: Path, test: Path) -> ArrangedExample:
    nearest = None if row.nearest_test_id is None else example_of(test, row.nearest_test_id)
    return ArrangedExample(row=row, example=example_at(train, row.index), nearest_test=nearest)


def read_span(path: Path, start: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """Rows of the whole order, and those that are asked for; row groups without any of them aren't read."""
    with pq.ParquetFile(path) as file:
        groups, first = _groups_with(file, start, start + limit)
        table = file.read_row_groups(groups)
        rows: list[dict[str, Any]] = table.slice(start - first, limit).to_pylist() if groups else []
        return file.metadata.num_rows, rows


def _groups_with(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    """Row groups that have any of [start, stop), and the position of their first row."""
    ends = np.cumsum([0, *(file.metadata.row_group(each).num_rows for each in range(file.num_row_groups))])
    groups = [each for each in range(file.num_row_groups) if ends[each] < stop and ends[each + 1] > start]
    return groups, int(ends[groups[0]]) if groups else 0


def overlap(session: Session, row: RunRow, other: RunRow, store: Store) -> OrderOverlap:
    """How two orders of the same rows differ.

    Raises:
        NotReady: one of them hasn't succeeded.
        InvalidInput: they are of different datasets.
    """
    digests = [
        records.get_dataset(session, ArrangementSpec.model_validate(each.spec).train.dataset).digest
        for each in (row, other)
    ]
    if digests[0] != digests[1]:
        raise InvalidInput(
            f"other_id: {other.id} arranges another training dataset ({digests[1]}) than {row.id} ({digests[0]}): "
            "wanted two orders of the same rows"
        )
    return overlap_of(_index(row, store), _index(other, store))


def overlap_of(index_n: Index, other_m: Index) -> OrderOverlap:
    """How two orders differ.

    Args:
        index_n: (n,) distinct rows of a dataset, in training order.
        other_m: (m,) the same of the other order.

    Notes: O((n + m) log(n + m)) time.
    """
    shared_s, position_s, other_position_s = np.intersect1d(index_n, other_m, assume_unique=True, return_indices=True)
    both_in_s = np.sort(np.maximum(position_s, other_position_s)) + 1  # first rows that have the row in both orders
    shorter = min(len(index_n), len(other_m))
    rows = np.unique(np.linspace(1, shorter, min(shorter, MAX_OVERLAP_POINTS)).round().astype(np.int64))
    differing = np.flatnonzero(index_n[:shorter] != other_m[:shorter])
    return OrderOverlap(
        num_rows=len(index_n),
        num_rows_other=len(other_m),
        num_shared=len(shared_s),
        num_same_start=int(differing[0]) if len(differing) else shorter,
        rows=rows.tolist(),
        shared=(np.searchsorted(both_in_s, rows, side="right") / rows).tolist(),
        rank_correlation=_rank_correlation(position_s, other_position_s),
    )


def _rank_correlation(position_s: Index, other_position_s: Index) -> float | None:
    """Spearman's: 1 - 6 sum(d^2) / (s (s^2 - 1)), d the differences of ranks; there are no ties."""
    num_rows = len(position_s)
    if num_rows < 2:
        return None
    differences_s = (_ranks(position_s) - _ranks(other_position_s)).astype(np.float64)
    return float(1 - 6 * np.square(differences_s).sum() / (num_rows * (num_rows**2 - 1.0)))


def _ranks(position_s: Index) -> Index:
    ranks_s = np.empty(len(position_s), dtype=np.int64)
    ranks_s[np.argsort(position_s)] = np.arange(len(position_s))
    return ranks_s


def _index(row: RunRow, store: Store) -> Index:
    column = pq.read_table(_order_path(row, store), columns=["index"])["index"]
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _order_path(row: RunRow, store: Store) -> Path:
    return store.artifact_file(artifact_of(row), _ORDER_FILE)
