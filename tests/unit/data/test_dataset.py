"""A dataset is read whole or refused whole, and its digest names its examples."""

import gzip
import hashlib
import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.dataset import canonical_line, dataset_digest, load_dataset, read_canonical, write_canonical
from nearfirst.data.example import Example, Message

REAL_P3 = Path(__file__).parents[4] / "shared" / "data" / "p3.jsonl.gz"


def test_a_split_keeps_its_rows_and_their_ids(write_rows: Any, p3_rows: list[Any]) -> None:
    path = write_rows(*p3_rows)
    assert [example.id for example in load_dataset(path, split="train").examples] == ["a/0", "a/1", "b/2"]
    assert load_dataset(path, split="train").num_tasks == 2
    assert load_dataset(path, split="test").examples == load_dataset(path).examples[3:]


def test_a_split_that_matches_nothing_lists_those_there_are(write_rows: Any, p3_rows: list[Any]) -> None:
    with pytest.raises(InvalidDataset, match=r"no row has the split 'dev'; the file has test, train"):
        load_dataset(write_rows(*p3_rows), split="dev")


def test_a_row_without_the_split_asked_for_is_named(write_rows: Any, p3_rows: list[Any]) -> None:
    del p3_rows[2]["split"]
    with pytest.raises(InvalidDataset, match="line 3: field 'split' is missing; split 'train' was asked for"):
        load_dataset(write_rows(*p3_rows), split="train")


def test_a_bad_row_of_another_split_refuses_the_file(write_rows: Any, p3_rows: list[Any]) -> None:
    p3_rows[3]["inputs_pretokenized"] = 7
    with pytest.raises(InvalidDataset, match="line 4: field 'inputs_pretokenized'"):
        load_dataset(write_rows(*p3_rows), split="train")


def test_duplicate_ids_name_both_lines(write_rows: Any, p3_rows: list[Any]) -> None:
    p3_rows[3]["id"] = "a/1"
    with pytest.raises(InvalidDataset, match="id 'a/1' is on line 2 and again on line 4"):
        load_dataset(write_rows(*p3_rows))


def test_the_name_given_stands_in_errors(write_rows: Any, p3_rows: list[Any]) -> None:
    with pytest.raises(InvalidDataset, match=r"^mine\.jsonl: no row has the split"):
        load_dataset(write_rows(*p3_rows), split="x", name="mine.jsonl")


def test_a_lone_surrogate_is_refused_with_its_line(write_rows: Any, p3_rows: list[Any]) -> None:
    p3_rows[1]["targets_pretokenized"] = "\ud800"
    with pytest.raises(InvalidDataset, match=r"line 2: a text has the lone surrogate '\\ud800'"):
        load_dataset(write_rows(*p3_rows))


def test_progress_is_told_and_may_stop_the_reading(write_rows: Any) -> None:
    path = write_rows(*({"prompt": str(i), "completion": "x"} for i in range(2500)))
    told: list[tuple[int, int | None, str]] = []
    load_dataset(path, progress=lambda done, total, unit: told.append((done, total, unit)))
    assert told == [(1000, None, "rows"), (2000, None, "rows"), (2500, 2500, "rows")]

    def stop(done: int, total: int | None, unit: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_dataset(path, progress=stop)


def test_the_digest_is_the_sha256_of_the_canonical_file(write_rows: Any, p3_rows: list[Any], tmp_path: Path) -> None:
    dataset = load_dataset(write_rows(*p3_rows))
    with (tmp_path / "canonical.jsonl").open("wb") as file:
        digest = write_canonical(dataset.examples, file)
    content = (tmp_path / "canonical.jsonl").read_bytes()
    assert digest == dataset.digest == dataset_digest(dataset.examples)
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (
        content.splitlines()[0]
        == (
            '{"id":"a/0","meta":{"split":"train"},"references":["Answer 0: zoë"],"task":"a","turns":'
            '[{"content":"Question 0 of a?","role":"user"},{"content":"Answer 0: zoë","role":"assistant"}]}'
        ).encode()
    )


def test_the_digest_does_not_depend_on_the_files_layout(write_rows: Any, p3_rows: list[Any], tmp_path: Path) -> None:
    digest = load_dataset(write_rows(*p3_rows)).digest
    flipped = [dict(reversed(row.items())) for row in p3_rows]
    (tmp_path / "list.json.gz").write_bytes(gzip.compress(json.dumps({"rows": flipped}, indent=1).encode()))
    pq.write_table(pa.Table.from_pylist(flipped), tmp_path / "table.parquet")
    assert load_dataset(tmp_path / "list.json.gz").digest == digest
    assert load_dataset(tmp_path / "table.parquet").digest == digest
    with (tmp_path / "canonical.jsonl").open("wb") as file:
        write_canonical(load_dataset(write_rows(*p3_rows)).examples, file)
    assert load_dataset(tmp_path / "canonical.jsonl").digest == digest


EXAMPLE = Example("a", "t", (Message("user", "q"), Message("assistant", "r")), ("r", "s"), {"category": "c"})


@pytest.mark.parametrize(
    "changed",
    [
        Example("b", EXAMPLE.task, EXAMPLE.turns, EXAMPLE.references, EXAMPLE.meta),
        Example("a", "u", EXAMPLE.turns, EXAMPLE.references, EXAMPLE.meta),
        Example("a", "t", (Message("user", "q"), Message("assistant", "R")), EXAMPLE.references, EXAMPLE.meta),
        Example("a", "t", EXAMPLE.turns, ("r",), EXAMPLE.meta),
        Example("a", "t", EXAMPLE.turns, EXAMPLE.references, {"category": "d"}),
    ],
    ids=["id", "task", "turns", "references", "meta"],
)
def test_any_change_of_an_example_changes_the_digest(changed: Example) -> None:
    assert dataset_digest([changed]) != dataset_digest([EXAMPLE])


def test_the_order_of_examples_changes_the_digest() -> None:
    other = Example("b", "t", EXAMPLE.turns, EXAMPLE.references)
    assert dataset_digest([EXAMPLE, other]) != dataset_digest([other, EXAMPLE])


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | text, lambda v: st.lists(v) | st.dictionaries(text, v)
)


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    found = []
    for example_id in draw(st.lists(text.filter(bool), min_size=1, max_size=4, unique=True)):
        contents = draw(st.lists(text, min_size=2, max_size=5))
        turns = tuple(Message("assistant" if i % 2 else "user", content) for i, content in enumerate(contents))
        references = (contents[1], *draw(st.lists(text, max_size=2, unique=True).map(tuple)))
        meta = draw(st.dictionaries(text.filter(lambda key: key != "split"), json_values, max_size=2))
        found.append(Example(example_id, draw(text), turns, tuple(dict.fromkeys(references)), meta))
    return found


@settings(deadline=None, max_examples=50)
@given(examples())
def test_canonical_rows_read_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, written: list[Example]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    with path.open("wb") as file:
        digest = write_canonical(written, file)
    assert read_canonical(path) == written
    assert load_dataset(path).digest == digest


@settings(deadline=None, max_examples=50)
@given(examples())
def test_a_canonical_line_is_one_line_of_sorted_json(written: list[Example]) -> None:
    for example in written:
        line = canonical_line(example)
        assert b"\n" not in line
        assert b"\r" not in line
        fields = json.loads(line)
        assert list(fields) == ["id", "meta", "references", "task", "turns"]


def test_write_canonical_of_nothing_is_the_digest_of_no_bytes() -> None:
    assert write_canonical([], io.BytesIO()) == f"sha256:{hashlib.sha256(b'').hexdigest()}"


@pytest.mark.skipif(not REAL_P3.exists(), reason="the real P3 sample is not at ../shared/data")
def test_real_p3_is_read_in_seconds() -> None:
    started = time.perf_counter()
    dataset = load_dataset(REAL_P3)
    assert time.perf_counter() - started < 20
    assert (len(dataset.examples), dataset.num_tasks) == (53_785, 276)
    with gzip.open(REAL_P3, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [(e.id, e.task, e.turns[0].content, e.references) for e in dataset.examples] == [
        (row["id"], row["task"], row["inputs_pretokenized"], (row["targets_pretokenized"],)) for row in rows
    ]
