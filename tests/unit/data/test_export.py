"""An exported file holds the arranged rows, to the letter and in order, in the layouts that trainers document."""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.exports import ExportFormat
from nearfirst.contracts.problems import InvalidInput, OrderMismatch
from nearfirst.contracts.progress import Cancelled
from nearfirst.contracts.receipts import order_digest
from nearfirst.data.dataset import dataset_digest, load_dataset
from nearfirst.data.example import Example, Message
from nearfirst.data.export import export_lines, write_export
from nearfirst.data.order import order_table

Q, A = ("user", "Who?"), ("assistant", "Me.")
Q2, A2 = ("user", "Why?"), ("assistant", "So.")
SYSTEM = ("system", "Be kind.")
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def example(id, *turns, task="t", **more):
    messages = tuple(Message(role, content) for role, content in turns)
    target = next(turn.content for turn in messages if turn.role == "assistant")
    return Example(id, task, messages, (target, *more.pop("others", ())), more)


def rows_of(examples, index, format):
    return [json.loads(line) for line in export_lines(examples, index, format)]


def table_of(examples, index):
    ids, tasks = [e.id for e in examples], [e.task for e in examples]
    return order_table(dataset_digest(examples), np.array(index, dtype=np.int64), ids=ids, tasks=tasks)


def export(path, examples, index, format, **options):
    table = table_of(examples, index)
    digest = dataset_digest(examples)
    return write_export(path, examples, table, dataset_digest=digest, format=format, **options)


PLACE = [{"position": 0, "id": "b", "task": "t"}, {"position": 1, "id": "a", "task": "t"}]


@pytest.mark.parametrize(
    ("format", "conversations", "wanted"),
    [
        (
            "messages",
            [[SYSTEM, Q, A], [Q, A]],
            [
                {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]},
                {
                    "messages": [
                        {"role": "system", "content": "Be kind."},
                        {"role": "user", "content": "Who?"},
                        {"role": "assistant", "content": "Me."},
                    ]
                },
            ],
        ),
        (
            "sharegpt",
            [[SYSTEM, Q, A], [Q, A]],
            [
                {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]},
                {
                    "conversations": [
                        {"from": "system", "value": "Be kind."},
                        {"from": "human", "value": "Who?"},
                        {"from": "gpt", "value": "Me."},
                    ]
                },
            ],
        ),
        (
            "alpaca",
            [[Q2, A2], [Q, A]],
            [
                {"instruction": "Who?", "input": "", "output": "Me."},
                {"instruction": "Why?", "input": "", "output": "So."},
            ],
        ),
        (
            "alpaca",
            [[SYSTEM, Q, A, Q2, A2], [Q, A]],
            [
                {"instruction": "Who?", "input": "", "output": "Me.", "system": "", "history": []},
                {
                    "instruction": "Why?",
                    "input": "",
                    "output": "So.",
                    "system": "Be kind.",
                    "history": [["Who?", "Me."]],
                },
            ],
        ),
        (
            "prompt_completion",
            [[Q2, A2], [Q, A]],
            [{"prompt": "Who?", "completion": "Me."}, {"prompt": "Why?", "completion": "So."}],
        ),
        (
            "prompt_completion",
            [[Q, A, Q2, A2], [Q, A]],
            [
                {
                    "prompt": [{"role": "user", "content": "Who?"}],
                    "completion": [{"role": "assistant", "content": "Me."}],
                },
                {
                    "prompt": [
                        {"role": "user", "content": "Who?"},
                        {"role": "assistant", "content": "Me."},
                        {"role": "user", "content": "Why?"},
                    ],
                    "completion": [{"role": "assistant", "content": "So."}],
                },
            ],
        ),
    ],
    ids=["messages", "sharegpt", "alpaca", "alpaca with turns before", "texts", "conversations"],
)
def test_rows_have_the_layout_that_trainers_document(format, conversations, wanted):
    examples = [example(id, *turns) for id, turns in zip("ab", conversations, strict=True)]
    rows = rows_of(examples, [1, 0], ExportFormat(format))
    assert rows == [place | fields for place, fields in zip(PLACE, wanted, strict=True)]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
EXCHANGE = st.tuples(TEXT, TEXT).map(lambda pair: [("user", pair[0]), ("assistant", pair[1])])
EXCHANGES = st.lists(EXCHANGE, min_size=1, max_size=3).map(lambda pairs: [turn for pair in pairs for turn in pair])
SYSTEMS = st.lists(TEXT.filter(bool).map(lambda text: ("system", text)), max_size=1)
CONVERSATION = st.tuples(SYSTEMS, EXCHANGES).map(lambda parts: parts[0] + parts[1])


@settings(max_examples=25, deadline=None)
@given(conversations=st.lists(CONVERSATION, min_size=1, max_size=6), seed=st.integers(0, 99), task=TEXT)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("format", ExportFormat)
def test_every_file_is_read_again_as_the_same_turns_in_the_same_order(format, suffix, conversations, seed, task):
    examples = [example(f"r{number}", *turns, task=task) for number, turns in enumerate(conversations)]
    index = np.random.default_rng(seed).permutation(len(examples)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"arranged{suffix}"
        manifest = export(path, examples, index, format)
        found = load_dataset(path)
        columns = (
            {tuple(row) for row in pq.read_table(path).to_pylist()}
            if suffix == ".parquet"
            else {tuple(json.loads(line)) for line in path.read_bytes().split(b"\n")[:-1]}
        )
    assert found.format == DatasetFormat(format)
    assert [(e.id, e.task, e.turns) for e in found.examples] == [
        (examples[row].id, task, examples[row].turns) for row in index
    ]
    assert columns == {tuple(manifest.columns)}


def test_conversations_that_no_layout_but_two_hold_are_kept_by_these_two():
    odd = example("odd", SYSTEM, Q, A, ("system", "Now be brief."), Q2, A2, ("user", "Bye."))
    for format, field, role, content in [
        (ExportFormat.MESSAGES, "messages", "role", "content"),
        (ExportFormat.SHAREGPT, "conversations", "from", "value"),
    ]:
        (row,) = rows_of([odd], [0], format)
        said = [(ROLES.get(turn[role], turn[role]), turn[content]) for turn in row[field]]
        assert said == [(turn.role, turn.content) for turn in odd.turns]


@pytest.mark.parametrize(
    ("format", "turns", "wanted"),
    [
        ("alpaca", [Q, A, Q2], "user and assistant in turn"),
        ("alpaca", [Q, A, SYSTEM, Q2, A2], "user and assistant in turn"),
        ("alpaca", [SYSTEM, SYSTEM, Q, A], "at most one system turn"),
        ("alpaca", [("system", ""), Q, A], "isn't empty"),
        ("prompt_completion", [Q, A, Q2], "an assistant turn at the end"),
    ],
)
def test_a_conversation_that_a_layout_cannot_hold_is_refused_by_its_id_before_any_row(tmp_path, format, turns, wanted):
    examples = [example("fine", Q, A), example("odd one", *turns)]
    path = tmp_path / "arranged.jsonl"
    path.write_text("from before\n")
    for call in (
        lambda: export_lines(examples, [0, 1], ExportFormat(format)),
        lambda: export(path, examples, [0, 1], ExportFormat(format)),
    ):
        with pytest.raises(InvalidInput, match=wanted) as caught:
            call()
        assert f"{format} wants" in caught.value.detail
        assert "'odd one' (position 1)" in caught.value.detail
        assert ", ".join(role for role, _ in turns) in caught.value.detail
    assert path.read_text() == "from before\n"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_manifest_can_be_checked_with_nothing_but_the_file_and_the_chain(tmp_path):
    examples = [example(f"r{n}", ("user", f"q{n}\u2028"), ("assistant", "é"), others=["other"], x=1) for n in range(5)]
    path = tmp_path / "arranged.jsonl"
    manifest = export(path, examples, [3, 1, 4], ExportFormat.MESSAGES)
    raw = path.read_bytes()
    rows = [json.loads(line) for line in raw.split(b"\n")[:-1]]
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert manifest.file_digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert (manifest.size_bytes, manifest.num_rows, manifest.file) == (len(raw), 3, "arranged.jsonl")
    assert manifest.arrangement_digest == order_digest(manifest.dataset_digest, [row["id"] for row in rows])
    assert json.loads((tmp_path / "arranged.jsonl.manifest.json").read_text()) == manifest.model_dump(mode="json")


def test_examples_that_are_not_the_orders_leave_no_file(tmp_path):
    examples, others = ([example(f"{name}{n}", Q, A) for n in range(3)] for name in "ab")
    table = table_of(examples, [2, 0])
    with pytest.raises(OrderMismatch, match=table.digest):
        write_export(
            tmp_path / "out.jsonl",
            others,
            table,
            dataset_digest=dataset_digest(examples),
            format=ExportFormat.MESSAGES,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_stop_in_the_middle_leaves_no_file_and_no_manifest(tmp_path):
    examples = [example(f"r{n}", Q, A) for n in range(5000)]
    seen = []

    def stop(done, total, unit):
        seen.append((done, total, unit))
        raise Cancelled

    with pytest.raises(Cancelled):
        export(tmp_path / "out.parquet", examples, range(5000), ExportFormat.MESSAGES, progress=stop)
    assert seen == [(4096, 5000, "rows")]
    assert list(tmp_path.iterdir()) == []


def test_the_note_names_the_trainers_that_read_the_layout(tmp_path):
    examples = [example("a", Q, A)]
    settings_of = {
        format: export(tmp_path / "out.jsonl", examples, [0], format).note.settings for format in ExportFormat
    }
    assert set(settings_of[ExportFormat.PROMPT_COMPLETION]) == {"trl", "transformers"}
    assert settings_of[ExportFormat.MESSAGES]["trl"]["train_sampling_strategy"] == "sequential"
    assert "trl" not in settings_of[ExportFormat.SHAREGPT]
    assert "axolotl" not in settings_of[ExportFormat.ALPACA]
