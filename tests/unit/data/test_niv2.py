"""NIV2's folder becomes the prompts that the paper trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.dataset import load_dataset

TASK: dict[str, Any] = {
    "Definition": ["Say the opposite"],
    "Categories": ["Antonyms"],
    "Positive Examples": [
        {"input": " hot", "output": "cold ", "explanation": "e"},
        {"input": "Is it up?", "output": "down", "explanation": "e"},
        {"input": "third", "output": "unused", "explanation": "e"},
    ],
    "Negative Examples": [],
    "Instances": [{"id": f"task1-{i}", "input": f"word {i}", "output": ["drow", "dr"]} for i in range(103)],
}

HEAD = "Definition: Say the opposite.\n\n"
FIRST = " Positive Example 1 -\nInput: hot.\n Output: cold.\n\n"
SECOND = " Positive Example 2 -\nInput: Is it up?\n Output: down.\n\n"
QUESTION = "Now complete the following example -\nInput: word 0.\nOutput: "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two training tasks and one test task."""
    (tmp_path / "splits" / "default").mkdir(parents=True)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "splits/default/train_tasks.txt").write_text("task2_b\ntask1_a\n")
    (tmp_path / "splits/default/test_tasks.txt").write_text("task3_c\n")
    for number, name in enumerate(["task1_a", "task2_b", "task3_c"], start=1):
        instances = [{**item, "id": f"task{number}-{i}"} for i, item in enumerate(TASK["Instances"])]
        (tmp_path / "tasks" / f"{name}.json").write_text(json.dumps({**TASK, "Instances": instances}))
    return tmp_path


def test_the_prompt_is_the_papers_letter_for_letter(folder: Path) -> None:
    example = load_dataset(folder, split="test").examples[0]
    assert example.turns[0].content == HEAD + FIRST + SECOND + QUESTION
    assert example.turns[1].content == "drow"
    assert example.references == ("drow", "dr")
    assert example.id == "task3-0"
    assert example.task == "task3_c"
    assert example.meta == {"category": "Antonyms", "definition": "Say the opposite", "split": "test"}


def test_a_split_has_its_tasks_in_list_order_and_100_instances_each(folder: Path) -> None:
    dataset = load_dataset(folder, split="train")
    assert dataset.format is DatasetFormat.NIV2
    assert [example.id for example in dataset.examples] == [f"task{n}-{i}" for n in (2, 1) for i in range(100)]
    assert dataset.num_tasks == 2


def test_without_a_split_every_task_is_read(folder: Path) -> None:
    assert load_dataset(folder, format=DatasetFormat.NIV2).num_tasks == 3


@pytest.mark.parametrize(("extra_tokens", "kept"), [(0, FIRST + SECOND), (1, FIRST), (1000, "")])
def test_positive_examples_above_1024_tokens_are_left_out(folder: Path, extra_tokens: int, kept: str) -> None:
    whole = len((HEAD + FIRST + " " + SECOND + QUESTION).split("\n"))

    def count_tokens(text: str) -> int:
        """Lines, and so many more that the prompt with both examples has exactly 1,024 tokens and the extra ones."""
        return len(text.split("\n")) + 1024 - whole + extra_tokens

    dataset = load_dataset(folder, split="test", count_tokens=count_tokens)
    assert dataset.examples[0].turns[0].content == HEAD + kept + QUESTION


@pytest.mark.parametrize("split", ["valid", "../default/train"])
def test_an_unknown_split_lists_those_there_are(folder: Path, split: str) -> None:
    with pytest.raises(InvalidDataset, match="not found; the folder has test, train"):
        load_dataset(folder, split=split)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Definition": None}, "field 'Definition' is missing"),
        ({"Positive Examples": [{"input": "x"}]}, "field 'output' is missing"),
        ({"Instances": {}}, "field 'Instances': wanted a list, got an object"),
        ({"Instances": [{"id": "a", "input": "x", "output": []}]}, "instance 1: field 'output' is an empty list"),
        ({"Instances": [TASK["Instances"][0], {"id": "a", "output": ["x"]}]}, "instance 2: field 'input' is missing"),
        (
            {"Instances": [TASK["Instances"][0]] * 2},
            "id 'task1-0' is on task3_c.json: instance 1 and again on task3_c.j",
        ),
    ],
)
def test_a_bad_task_file_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    (folder / "tasks" / "task3_c.json").write_text(json.dumps({**TASK, **change}))
    with pytest.raises(InvalidDataset) as caught:
        load_dataset(folder, split="test")
    assert "task3_c.json" in caught.value.detail
    assert message in caught.value.detail


def test_a_missing_or_broken_task_file_is_named(folder: Path) -> None:
    (folder / "tasks" / "task3_c.json").write_text('{"Definition": [\n')
    with pytest.raises(InvalidDataset, match=r"task3_c\.json: line 2 is not valid JSON"):
        load_dataset(folder, split="test")
    (folder / "tasks" / "task3_c.json").unlink()
    with pytest.raises(InvalidDataset, match=r"task3_c\.json: no such file"):
        load_dataset(folder, split="test")


def test_a_folder_that_is_not_niv2_is_refused(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(InvalidDataset, match="wanted a NIV2 folder"):
        load_dataset(other)
    with pytest.raises(InvalidDataset, match="format p3 is read from a file, got a folder"):
        load_dataset(folder, format=DatasetFormat.P3)
