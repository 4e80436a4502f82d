"""An arrangement's export for the API: made once from what the store holds, whole, with headers that describe it."""

import base64
import hashlib
import json

import numpy as np
import pytest

from nearfirst.contracts.exports import ExportFileType, ExportFormat
from nearfirst.contracts.problems import InvalidInput, NotFound, OrderMismatch
from nearfirst.data.dataset import load_dataset, write_canonical
from nearfirst.data.example import Example, Message
from nearfirst.data.order import order_table, write_order
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.exports import export_arrangement

INDEX = [4, 0, 3]


def example(number, *more):
    turns = (Message("user", f"q{number}"), Message("assistant", f"a{number}"), *more)
    return Example(f"r{number}", "t", turns, (f"a{number}", "other"), {"category": "c"})


@pytest.fixture
def stored(tmp_path):
    """Examples -> what `export_arrangement` takes for an arrangement of their rows 4, 0, 3."""

    def put(examples):
        store = Store(str(tmp_path / "store"), tmp_path / "cache")
        canonical = tmp_path / "canonical"
        with canonical.open("wb") as file:
            dataset_digest = write_canonical(examples, file)
        store.put_file(canonical)
        ids, tasks = [e.id for e in examples], [e.task for e in examples]
        table = order_table(dataset_digest, np.array(INDEX), ids=ids, tasks=tasks)
        write_order(tmp_path / "order.jsonl", table)
        artifact = store.put_artifact({"order.jsonl": tmp_path / "order.jsonl"})
        return {
            "store": store,
            "artifact": artifact,
            "arrangement_digest": table.digest,
            "dataset_digest": dataset_digest,
            "folder": tmp_path / "exports",
        }

    return put


@pytest.mark.parametrize("file_type", ExportFileType)
@pytest.mark.parametrize("format", ExportFormat)
def test_the_file_has_the_arrangements_rows_in_order(stored, format, file_type):
    examples = [example(number) for number in range(5)]
    exported = export_arrangement(**stored(examples), format=format, file_type=file_type)
    found = load_dataset(exported.path, name=f"rows.{file_type}")
    assert [(e.id, e.turns) for e in found.examples] == [(examples[row].id, examples[row].turns) for row in INDEX]
    assert exported.manifest.file_type == file_type
    assert exported.filename("arr_1") == f"arr_1.{format}.{file_type}"


def test_the_headers_name_the_digest_the_manifest_and_the_settings(stored):
    given = stored([example(number) for number in range(5)])
    exported = export_arrangement(**given, format=ExportFormat.MESSAGES, file_type=ExportFileType.JSONL)
    headers = exported.headers("arr_1")
    digest = base64.b64encode(hashlib.sha256(exported.path.read_bytes()).digest()).decode()
    assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert headers["Link"] == (
        '</arrangements/arr_1/export/manifest?format=messages&file_type=jsonl>; rel="describedby"'
    )
    note = json.loads(headers["Nearfirst-Order-Note"])
    assert note["page"] == "docs/keeping-the-order.md"
    assert note["settings"]["axolotl"]["curriculum_sampling"] is True
    assert all(value.isascii() and "\n" not in value for value in headers.values())
    assert exported.media_type == "application/x-ndjson"


def test_a_second_request_reads_neither_the_order_nor_the_dataset(stored, tmp_path):
    given = stored([example(number) for number in range(5)])
    wanted = {"format": ExportFormat.SHAREGPT, "file_type": ExportFileType.JSONL}
    first = export_arrangement(**given, **wanted)
    made_at = first.path.stat().st_mtime_ns
    nothing = Store(str(tmp_path / "empty"), tmp_path / "cache")
    assert export_arrangement(**given | {"store": nothing}, **wanted) == first
    assert first.path.stat().st_mtime_ns == made_at
    with pytest.raises(NotFound):
        export_arrangement(**given | {"store": nothing}, format="alpaca", file_type="jsonl")


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest"])
def test_a_kept_file_that_is_damaged_is_made_again(stored, damage):
    given = stored([example(number) for number in range(5)])
    wanted = {"format": ExportFormat.MESSAGES, "file_type": ExportFileType.JSONL}
    first = export_arrangement(**given, **wanted)
    content = first.path.read_bytes()
    if damage == "cut":
        first.path.write_bytes(content[:-5])
    elif damage == "gone":
        first.path.unlink()
    else:
        first.path.with_name(f"{first.path.name}.manifest.json").write_text("{")
    assert export_arrangement(**given, **wanted) == first
    assert first.path.read_bytes() == content


def test_a_conversation_that_the_format_cannot_hold_is_refused_and_nothing_is_kept(stored):
    given = stored([example(number, *[Message("user", "Bye.")] * (number == 3)) for number in range(5)])
    with pytest.raises(InvalidInput, match=r"'r3' \(position 2\)"):
        export_arrangement(**given, format=ExportFormat.ALPACA, file_type=ExportFileType.JSONL)
    assert [path for path in given["folder"].rglob("*") if path.is_file()] == []


def test_an_order_of_another_digest_is_refused(stored):
    given = stored([example(number) for number in range(5)])
    given["arrangement_digest"] = f"sha256:{'0' * 64}"
    with pytest.raises(OrderMismatch, match="the order is sha256:0000"):
        export_arrangement(**given, format=ExportFormat.MESSAGES, file_type=ExportFileType.JSONL)
