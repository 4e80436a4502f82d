"""Each layout is recognised and gives the same conversation that its authors mean."""

from typing import Any

import pytest

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.dataset import load_dataset
from nearfirst.data.formats import ROW_FORMATS

Q, A = ("user", "Who?"), ("assistant", "Me.")

CASES: dict[str, tuple[dict[str, Any], DatasetFormat, list[tuple[str, str]], dict[str, Any]]] = {
    "p3": (
        {"inputs_pretokenized": "Who?", "targets_pretokenized": "Me."},
        DatasetFormat.P3,
        [Q, A],
        {},
    ),
    "flan_mini strips values": (
        {
            "id": "7",
            "source": "niv2/task1",
            "conversations": [{"from": "human", "value": " Who?\n"}, {"from": "gpt", "value": "\tMe. "}],
        },
        DatasetFormat.FLAN_MINI,
        [Q, A],
        {"task": "niv2/task1", "id": "7"},
    ),
    "alpaca": ({"instruction": "Who?", "input": "", "output": "Me."}, DatasetFormat.ALPACA, [Q, A], {}),
    "alpaca with input": (
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        DatasetFormat.ALPACA,
        [("user", "Add.\n\n1 2"), ("assistant", "3")],
        {},
    ),
    "prompt_completion": ({"prompt": "Who?", "completion": "Me."}, DatasetFormat.PROMPT_COMPLETION, [Q, A], {}),
    "messages": (
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Who?"},
                {"role": "assistant", "content": "Me."},
            ]
        },
        DatasetFormat.MESSAGES,
        [("system", "Be kind."), Q, A],
        {},
    ),
    "no robots": (
        {
            "prompt": "Who?",
            "prompt_id": "x",
            "category": "Open QA",
            "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}],
        },
        DatasetFormat.MESSAGES,
        [Q, A],
        {"meta": {"category": "Open QA"}},
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]},
        DatasetFormat.SHAREGPT,
        [Q, A],
        {},
    ),
    "sharegpt items": (
        {"id": "s", "items": [{"from": "user", "value": "Who?"}, {"from": "chatgpt", "value": "Me."}]},
        DatasetFormat.SHAREGPT,
        [Q, A],
        {"id": "s"},
    ),
    "ultrachat": (
        {"id": 12, "data": ["Who?", "Me.", "Why?", "So."]},
        DatasetFormat.ULTRACHAT,
        [Q, A, ("user", "Why?"), ("assistant", "So.")],
        {"id": "12"},
    ),
    "canonical": (
        {
            "id": "t/0",
            "task": "t",
            "turns": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}],
            "references": ["Me.", "I."],
            "meta": {"split": "test", "category": "c"},
        },
        DatasetFormat.EXAMPLES,
        [Q, A],
        {"id": "t/0", "task": "t", "references": ("Me.", "I."), "meta": {"split": "test", "category": "c"}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layout_is_recognised_and_converted(write_rows: Any, case: str) -> None:
    row, found, turns, attributes = CASES[case]
    dataset = load_dataset(write_rows(row))
    (example,) = dataset.examples
    assert dataset.format is found
    assert [(turn.role, turn.content) for turn in example.turns] == turns
    wanted = {"id": "0", "task": "", "references": (turns[-1][1],) if len(turns) == 2 else None, "meta": {}}
    for name, value in {**wanted, **attributes}.items():
        if value is not None:
            assert getattr(example, name) == value, name


def test_every_row_format_has_a_case() -> None:
    assert {found for _, found, _, _ in CASES.values()} == set(ROW_FORMATS)
    assert set(ROW_FORMATS) | {DatasetFormat.NIV2} == set(DatasetFormat)


def test_ultrachat_with_messages_reads_as_ultrachat_when_asked(write_rows: Any) -> None:
    row = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]}
    dataset = load_dataset(write_rows(row), format=DatasetFormat.ULTRACHAT)
    assert dataset.format is DatasetFormat.ULTRACHAT
    assert dataset.examples[0].references == ("Me.",)


@pytest.mark.parametrize(
    "row",
    [
        {"inputs_pretokenized": "Q", "targets_pretokenized": ["one", "uno", "one"]},
        {"inputs_pretokenized": "Q", "targets_pretokenized": "one", "references": ["one", "uno"]},
        {"instruction": "Q", "output": ["one", "uno"]},
        {"prompt": "Q", "completion": ["one"], "references": ["uno", "one"]},
        {
            "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "one"}],
            "references": ["uno"],
        },
    ],
)
def test_all_right_answers_are_kept_with_the_training_target_first(write_rows: Any, row: dict[str, Any]) -> None:
    (example,) = load_dataset(write_rows(row)).examples
    assert example.turns[1].content == "one"
    assert example.references == ("one", "uno")


def test_rows_without_an_id_are_named_by_task_and_index(write_rows: Any) -> None:
    rows = [{"prompt": str(i), "completion": "x", "task": task} for i, task in enumerate(["a", "b", "a"])]
    assert [example.id for example in load_dataset(write_rows(*rows)).examples] == ["a/0", "b/1", "a/2"]


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": role[0]} for role in roles]}


P3 = {"inputs_pretokenized": "Q", "targets_pretokenized": "A"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (turns("user"), "the row has no assistant turn"),
        (turns("system", "assistant"), "the row has no user turn"),
        (turns("assistant", "user"), "the conversation opens with assistant, user; wanted user, assistant"),
        (turns("user", "user", "assistant"), "the conversation opens with user, user; wanted user, assistant"),
        (
            turns("user", "tool"),
            "field 'messages[1].role': wanted one of system, developer, user, assistant, got 'tool'",
        ),
        ({"messages": []}, "the row has no user turn"),
        ({"messages": "hello"}, "field 'messages': wanted a list of turns, got a string"),
        ({"messages": [3]}, "field 'messages[0]': wanted an object, got a number"),
        ({"messages": [{"role": "user"}]}, "field 'messages[0].content' is missing"),
        ({"messages": [{"role": "user", "content": 3}]}, "field 'messages[0].content': wanted a string, got a number"),
        ({"data": []}, "field 'data' is an empty list"),
        ({"data": ["only a question"]}, "the row has no assistant turn"),
        ({"data": ["q", 3]}, "field 'data[1]': wanted a string, got a number"),
        ({"inputs_pretokenized": 3, "targets_pretokenized": "x"}, "field 'inputs_pretokenized': wanted a string"),
        ({"inputs_pretokenized": "x", "targets_pretokenized": None}, "field 'targets_pretokenized' is missing"),
        ({"inputs_pretokenized": "x", "targets_pretokenized": []}, "field 'targets_pretokenized' is an empty list"),
        ({**P3, "id": True}, "field 'id': wanted a string or an integer, got a boolean"),
        ({**P3, "id": ""}, "field 'id' is an empty string"),
        ({**P3, "task": 1}, "field 'task': wanted a string, got a number"),
        ({**P3, "references": "A"}, "field 'references': wanted a list of strings, got a string"),
        ({"source": "t", "conversations": [{"from": "human", "value": "q"}]}, "the row has no assistant turn"),
        ({"source": 1, "conversations": []}, "field 'source': wanted a string, got a number"),
    ],
)
def test_a_row_that_does_not_fit_names_its_line_and_field(write_rows: Any, bad: dict[str, Any], reason: str) -> None:
    good = next(row for row, found, _, _ in CASES.values() if ROW_FORMATS[found].fits(bad))
    with pytest.raises(InvalidDataset) as caught:
        load_dataset(write_rows({**good, "id": "good"}, bad))
    assert caught.value.detail.startswith(f"rows.jsonl: line 2: {reason}")


def test_a_row_of_another_layout_names_the_missing_field_and_the_layout(write_rows: Any) -> None:
    with pytest.raises(InvalidDataset) as caught:
        load_dataset(write_rows(P3, {"prompt": "Q", "completion": "A"}))
    assert caught.value.detail == (
        "rows.jsonl: line 2: field 'inputs_pretokenized' is missing; the row has prompt, completion"
        " (read as p3 (inputs_pretokenized, targets_pretokenized))"
    )


def test_a_format_that_the_first_row_does_not_fit_names_the_missing_field(write_rows: Any) -> None:
    with pytest.raises(InvalidDataset, match="line 1: field 'output' is missing; the row has instruction, completion"):
        load_dataset(write_rows({"instruction": "Q", "completion": "A"}), format=DatasetFormat.ALPACA)


def test_an_unknown_layout_shows_its_fields_and_the_formats_known(write_rows: Any) -> None:
    with pytest.raises(InvalidDataset) as caught:
        load_dataset(write_rows({"question": "Q", "answer": "A"}))
    assert "line 1: unknown layout with the fields answer, question" in caught.value.detail
    assert "alpaca (instruction, output)" in caught.value.detail
    assert "sharegpt (conversations or items)" in caught.value.detail
