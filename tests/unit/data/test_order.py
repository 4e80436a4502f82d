"""Order files: what is written is read back; whatever was changed is found, at the step that would train on it."""

import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from nearfirst.contracts.arrangements import OrderRow
from nearfirst.contracts.problems import OrderMismatch
from nearfirst.contracts.receipts import order_digest
from nearfirst.data.order import order_table, read_order, write_order

DATASET = "sha256:" + "ab" * 32
IDS = [f"task-{i % 3}/{i} é\n" for i in range(50)]
TASKS = [f"task-{i % 3}" for i in range(50)]
TEST_IDS = ["t0", "t1", "t2"]
BATCH = 4


def table(num_rows=40, *, with_scores=True):
    rng = np.random.default_rng(0)
    index = rng.permutation(50)[:num_rows].astype(np.int64)
    if not with_scores:
        return order_table(DATASET, index, ids=IDS, tasks=TASKS)
    return order_table(
        DATASET,
        index,
        ids=IDS,
        tasks=TASKS,
        round=np.arange(num_rows, dtype=np.int32) // 7,
        score=rng.normal(size=num_rows),
        nearest_test=rng.integers(0, 3, num_rows),
        test_ids=TEST_IDS,
        nearest_similarity=rng.uniform(-1, 1, num_rows),
    )


def read(path, expected=None, ids=IDS, dataset=DATASET):
    return read_order(path, dataset_digest=dataset, expected_digest=expected, ids=ids, global_batch_size=BATCH)


@pytest.fixture
def order_file(tmp_path):
    path = tmp_path / "order.jsonl"
    write_order(path, table())
    return path


def tamper(path, change):
    """Rewrite the rows of an order file, as a list of objects."""
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    rows = change(rows) or rows
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def renumbered(rows):
    return [{**row, "position": position} for position, row in enumerate(rows)]


@pytest.mark.parametrize("name", ["order.jsonl", "order.parquet"])
@pytest.mark.parametrize("with_scores", [True, False])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, name, with_scores):
    written = table(with_scores=with_scores)
    write_order(tmp_path / name, written)
    found = read(tmp_path / name, expected=written.digest)
    assert found.columns() == written.columns()
    assert found.digest == written.digest
    assert [path.name for path in tmp_path.iterdir()] == [name], "a partial file was left"


def test_lines_have_exactly_the_fields_of_the_contract_in_its_order(order_file):
    for line in order_file.read_text().splitlines()[:3]:
        assert list(json.loads(line)) == list(OrderRow.model_fields)
        OrderRow.model_validate_json(line, strict=True)


def test_parquet_has_the_fields_of_the_contract(tmp_path):
    write_order(tmp_path / "order.parquet", table())
    assert pq.read_table(tmp_path / "order.parquet").column_names == list(OrderRow.model_fields)


def test_prefix_digests_are_the_documented_chain():
    found = table(3)
    head = hashlib.sha256(b"nearfirst-order-v1\0" + DATASET.encode()).digest()
    for example_id, digest in zip(found.ids, found.prefix_digests, strict=True):
        raw = example_id.encode()
        head = hashlib.sha256(head + len(raw).to_bytes(8, "big") + raw).digest()
        assert digest == head.hex()
    assert found.digest == order_digest(DATASET, found.ids)


def test_rows_of_a_span_are_those_of_the_columns():
    found = table()
    assert [row.position for row in found.rows(slice(5, 8))] == [5, 6, 7]
    row = next(found.rows(slice(5, 6)))
    assert row.id == IDS[row.index]
    assert row.nearest_test_id in TEST_IDS
    assert OrderRow.model_validate(row.model_dump()) == row


def test_swapped_rows_are_found_at_the_first_of_them(order_file):
    def swap(rows):
        rows[9], rows[30] = rows[30], rows[9]
        return renumbered(rows)

    tamper(order_file, swap)
    with pytest.raises(OrderMismatch, match=r"order\.jsonl: step 3 \(row 9\): .*the chain wants"):
        read(order_file)


def test_swapped_lines_are_found_by_their_positions(order_file):
    def swap(rows):
        rows[9], rows[30] = rows[30], rows[9]

    tamper(order_file, swap)
    with pytest.raises(OrderMismatch, match=r"step 3 \(row 9\): position is 30, wanted 9"):
        read(order_file)


def test_a_row_taken_out_is_found(order_file):
    tamper(order_file, lambda rows: renumbered(rows[:13] + rows[14:]))
    with pytest.raises(OrderMismatch, match=r"step 4 \(row 13\)"):
        read(order_file)


def test_a_changed_id_is_found(order_file):
    tamper(order_file, lambda rows: rows[20].update(id="other"))
    with pytest.raises(OrderMismatch, match=r"step 6 \(row 20\): id 'other' where the dataset has 'task-"):
        read(order_file)


def test_a_row_replaced_by_another_of_the_dataset_is_found(order_file):
    unused = next(i for i in range(50) if i not in table().index)
    tamper(order_file, lambda rows: rows[20].update(id=IDS[unused], index=unused))
    with pytest.raises(OrderMismatch, match=r"step 6 \(row 20\): .*the chain wants"):
        read(order_file)


def test_a_row_that_comes_twice_is_found(order_file):
    tamper(order_file, lambda rows: renumbered([*rows, rows[2]]))
    with pytest.raises(OrderMismatch, match=r"step 11 \(row 40\): id '.*' was row 2 already"):
        read(order_file)


@pytest.mark.parametrize("index", [-1, 50])
def test_an_index_outside_the_dataset_is_found(order_file, index):
    tamper(order_file, lambda rows: rows[0].update(index=index))
    with pytest.raises(OrderMismatch, match=rf"step 1 \(row 0\): index is {index}, wanted .* 0 to 49"):
        read(order_file)


def test_missing_rows_at_the_end_are_found_where_they_end(order_file):
    tamper(order_file, lambda rows: rows[:17])
    assert len(read(order_file)) == 17
    with pytest.raises(OrderMismatch, match=r"step 5 \(row 16\): the rows end here"):
        read(order_file, expected=table().digest)


def test_rows_after_the_end_are_found(order_file):
    shorter = order_digest(DATASET, table().ids[:30])
    with pytest.raises(OrderMismatch, match=rf"step 8 \(row 30\): the order {shorter} ends before this row"):
        read(order_file, expected=shorter)


def test_a_file_cut_in_the_middle_of_a_line_is_found(order_file):
    lines = order_file.read_bytes().splitlines(keepends=True)
    order_file.write_bytes(b"".join(lines[:11]) + lines[11][:40])
    with pytest.raises(OrderMismatch, match=r"step 3 \(row 11\)"):
        read(order_file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"surprise": 1}, "surprise"),
        ({"position": "5"}, "position"),
        ({"score": "near"}, "score"),
        ({"score": None}, "score is None, but given in the rows before"),
    ],
)
def test_a_row_of_another_shape_is_found(order_file, change, reason):
    tamper(order_file, lambda rows: rows[5].update(change))
    with pytest.raises(OrderMismatch, match=rf"step 2 \(row 5\): {reason}"):
        read(order_file)


def test_a_round_that_no_integer_holds_is_refused(order_file):
    tamper(order_file, lambda rows: rows[5].update(round=2**40))
    with pytest.raises(OrderMismatch, match="round has a value"):
        read(order_file)


def test_another_dataset_is_refused_at_the_first_row(order_file):
    with pytest.raises(OrderMismatch, match=r"step 1 \(row 0\).*another dataset"):
        read(order_file, dataset="sha256:other")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "order.jsonl").write_text("")
    with pytest.raises(OrderMismatch, match="has no rows"):
        read(tmp_path / "order.jsonl")


def test_what_is_not_parquet_is_refused(tmp_path, order_file):
    path = tmp_path / "order.parquet"
    path.write_bytes(order_file.read_bytes())
    with pytest.raises(OrderMismatch, match="not a readable Parquet file"):
        read(path)


def test_parquet_with_other_columns_or_without_a_value_is_refused(tmp_path):
    path = tmp_path / "order.parquet"
    write_order(path, table())
    arrow = pq.read_table(path)
    pq.write_table(arrow.drop_columns(["task"]), path)
    with pytest.raises(OrderMismatch, match=r"columns are .*, wanted "):
        read(path)
    ids = arrow.column("id").to_pylist()
    ids[6] = None
    pq.write_table(arrow.set_column(2, "id", [ids]), path)
    with pytest.raises(OrderMismatch, match=r"step 2 \(row 6\): id is missing"):
        read(path)


def test_a_failed_write_leaves_the_old_file(order_file):
    before = order_file.read_bytes()
    broken = table()
    broken.score[20] = np.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_order(order_file, broken)
    assert order_file.read_bytes() == before
    assert [path.name for path in order_file.parent.iterdir()] == ["order.jsonl"]
