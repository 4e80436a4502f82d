r"""NIV2 (Super-NaturalInstructions): a folder with `tasks/NAME.json` and `splits/default/{train,test}_tasks.txt`.

The prompt of an instance is

    Definition: {definition}\n\n
     Positive Example 1 -\nInput: {input}\n Output: {output}\n\n      (two of them)
    Now complete the following example -\nInput: {input}\nOutput:

which ends in a space; each field is stripped, with a full stop added where it doesn't end in punctuation. A positive
example that would bring the prompt above 1,024 tokens is left out, and so are those after it.

References: the Tk-Instruct collator's text, as the paper's code uses it; the test split's first 100 instances of a task
are label-balanced by the authors.
"""

import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.example import Example, Message
from nearfirst.data.files import read_document
from nearfirst.data.formats.row import BadRow, Fields, answers, checked, text, texts, value

MAX_INSTANCES = 100
"""Instances kept of each task: its first ones."""
MAX_PROMPT_TOKENS = 1024
NUM_POSITIVE_EXAMPLES = 2

TokenCounter = Callable[[str], int]
"""Tokens of a text, special tokens included."""


class Niv2Example(NamedTuple):
    """An example and where it came from."""

    place: str
    """`task001.json: instance 3`."""
    example: Example


def is_niv2_folder(path: Path) -> bool:
    """Whether a folder has NIV2's layout."""
    return (path / "tasks").is_dir()


def read_niv2(path: Path, split: str | None, count_tokens: TokenCounter | None) -> Iterator[Niv2Example]:
    """Examples of a NIV2 folder: tasks in the split list's order, the first 100 instances of each in file order.

    Args:
        path: the folder with `tasks/` and `splits/default/`.
        split: `train`, `test` or another list `splits/default/{split}_tasks.txt`; None: every task file, by name.
        count_tokens: measures prompts for the 1,024-token rule; None: every prompt keeps both positive examples.

    Raises:
        InvalidDataset: no such split or task file, or a task or an instance that lacks a field; the detail names both.
    """
    for task in _task_names(path, split):
        yield from _read_task(path / "tasks" / f"{task}.json", split, count_tokens)


def _task_names(path: Path, split: str | None) -> list[str]:
    if split is None:
        names = sorted(file.stem for file in (path / "tasks").glob("*.json"))
        if not names:
            raise InvalidDataset(f"{path.name}: folder tasks has no .json file")
        return names
    folder = path / "splits" / "default"
    file = folder / f"{split}_tasks.txt"
    if not split.isidentifier() or not file.is_file():
        known = sorted(found.name.removesuffix("_tasks.txt") for found in folder.glob("*_tasks.txt"))
        raise InvalidDataset(f"{path.name}: split '{split}' not found; the folder has {', '.join(known) or 'none'}")
    names = file.read_text(encoding="utf-8").split()
    if not names:
        raise InvalidDataset(f"{path.name}: split '{split}' lists no task")
    for name in names:
        if Path(name).name != name:
            raise InvalidDataset(f"{path.name}: split '{split}' lists {name!r}, which is no name of a task file")
    return names


def _read_task(file: Path, split: str | None, count_tokens: TokenCounter | None) -> Iterator[Niv2Example]:
    task = _task_object(file)
    try:
        definition = _definition(task)
        positive_examples = _positive_examples(task)
        meta = _meta(task, definition, split)
        instances = checked(value(task, "Instances"), list, "Instances", "a list")
    except BadRow as error:
        raise InvalidDataset(f"{file.name}: {error}") from error
    for index, instance in enumerate(instances[:MAX_INSTANCES]):
        place = f"{file.name}: instance {index + 1}"
        try:
            fields = checked(instance, dict, f"Instances[{index}]", "an object")
            prompt = _prompt(definition, positive_examples, text(fields, "input"), count_tokens)
            outputs = answers(fields, "output")
            instance_id = fields.get("id") or f"{file.stem}/{index}"
            example_id = checked(instance_id, str, "id", "a string")
        except BadRow as error:
            raise InvalidDataset(f"{place}: {error}") from error
        turns = (Message("user", prompt), Message("assistant", outputs[0]))
        yield Niv2Example(place, Example(example_id, file.stem, turns, tuple(dict.fromkeys(outputs)), meta))


def _task_object(file: Path) -> Fields:
    document = read_document(file)
    if not isinstance(document, dict):
        raise InvalidDataset(f"{file.name}: wanted a JSON object with Definition, Positive Examples and Instances")
    return document


def _definition(task: Fields) -> str:
    if isinstance(value(task, "Definition"), list):
        return texts(task, "Definition")[0].strip()
    return text(task, "Definition").strip()


def _positive_examples(task: Fields) -> list[str]:
    """The texts of the first two positive examples."""
    found = checked(value(task, "Positive Examples"), list, "Positive Examples", "a list")
    rendered = []
    for number, item in enumerate(found[:NUM_POSITIVE_EXAMPLES], start=1):
        fields = checked(item, dict, f"Positive Examples[{number - 1}]", "an object")
        given = _with_full_stop(f"Input: {text(fields, 'input').strip()}")
        answer = _with_full_stop(f" Output: {text(fields, 'output').strip()}")
        rendered.append(f" Positive Example {number} -\n{given}\n{answer}\n\n")
    return rendered


def _meta(task: Fields, definition: str, split: str | None) -> dict[str, Any]:
    meta = {"definition": definition}
    if task.get("Categories") is not None:
        meta["category"] = texts(task, "Categories")[0]
    if split is not None:
        meta["split"] = split
    return meta


def _prompt(definition: str, positive_examples: list[str], given: str, count_tokens: TokenCounter | None) -> str:
    head = _with_full_stop(f"Definition: {definition}") + "\n\n"
    question = f"Now complete the following example -\n{_with_full_stop(f'Input: {given.strip()}')}\nOutput: "
    kept: list[str] = []
    for positive_example in positive_examples:
        # The collator measures the examples joined by a space, and then joins them by nothing.
        measured = f"{head}{' '.join(kept)}{positive_example}{question}"
        if count_tokens is not None and count_tokens(measured) > MAX_PROMPT_TOKENS:
            break
        kept.append(positive_example)
    return f"{head}{''.join(kept)}{question}"


def _with_full_stop(sentence: str) -> str:
    return sentence if sentence[-1] in string.punctuation else f"{sentence}."
