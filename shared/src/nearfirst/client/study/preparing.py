"""From a preset to a study's spec: its data is registered, and its model made."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nearfirst.client.api import Client
from nearfirst.client.demo.data import sampled_data
from nearfirst.client.demo.model import ModelShape, build_model
from nearfirst.client.demo.sample import Sampling
from nearfirst.client.study.preset import BUNDLED, Preset, PresetData, dataset_names
from nearfirst.contracts.arrangements import TextRule
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.studies import StudySpec
from nearfirst.data.bundled import bundled_path
from nearfirst.data.dataset import load_dataset, write_canonical
from nearfirst.data.example import Example, embedded_text

NUM_FIGURE_TASKS = 3
"""Test tasks that figure 2 shows of other data than the preset's own."""


class Preparation:
    """A preset's files on their way to a server.

    Args:
        preset: what to run.
        home: folder for samples and models; a server that trains a `tiny_model` must read it.
        data: a dataset in place of the preset's own, of which a sample is drawn; None: its own.

    Raises:
        InvalidInput: files of the preset aren't there, or nothing is left of `data`.
        InvalidDataset: `data` can't be read.
    """

    def __init__(self, preset: Preset, home: Path, data: Path | None = None) -> None:
        self._preset = preset
        self._home = home
        self._examples: dict[str, Sequence[Example]] = {}
        self._sample = None
        if data is None:
            self._refuse_missing_files()
        else:
            self._sample = sampled_data(data, Sampling(**preset.sample.model_dump()), home / "samples" / data.name)

    def register(self, client: Client) -> StudySpec:
        """Upload the data, make the model, and put what the server calls them into the spec.

        Raises:
            InvalidInput: a part without a row.
            InvalidDataset: a file can't be read.
        """
        names = [name for name in dataset_names(self._preset.spec) if name in self._preset.data]
        ids = {name: self._upload(client, name, self._preset.data[name]) for name in names}
        fields = self._preset.spec.model_dump(exclude_unset=True)
        for selection in selections(fields):
            selection["dataset"] = ids.get(selection["dataset"], selection["dataset"])
        if self._preset.tiny_model is not None:
            fields["training"]["model"]["name_or_path"] = self._tiny_model()
        if self._sample is not None:
            fields["name"] = f"{self._preset.spec.name} ({self._sample.name})"
            if self._preset.spec.figure == "tasks":
                tasks = Counter(example.task for example in self._sample.test)
                fields["figure_tasks"] = [task for task, _ in tasks.most_common(NUM_FIGURE_TASKS)]
        return StudySpec.model_validate(fields)

    def _upload(self, client: Client, name: str, data: PresetData) -> str:
        path = self._path(data)
        if data.part is None and self._sample is None and path.is_file():
            return client.register_dataset(path, split=data.split, format=data.format, name=self._name(name)).id
        file = self._home / "samples" / f"{self._name(name)}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            write_canonical(self._rows(name), stream)
        return client.register_dataset(file, name=self._name(name)).id

    def _name(self, name: str) -> str:
        """What lists call a dataset."""
        source = self._sample.name if self._sample is not None else Path(self._preset.data[name].path).name
        return f"{source} {name}"

    def _path(self, data: PresetData) -> Path:
        return bundled_path() if data.path == BUNDLED else self._preset.folder / data.path

    def _refuse_missing_files(self) -> None:
        missing = {
            str(path): data.note
            for name, data in self._preset.data.items()
            if name in dataset_names(self._preset.spec) and not (path := self._path(data)).exists()
        }
        if missing:
            named = ", ".join(path if note is None else f"{path} ({note})" for path, note in missing.items())
            raise InvalidInput(f"data: there is no file {named}; --data FILE takes a sample of another dataset instead")

    def _rows(self, name: str) -> Sequence[Example]:
        """A dataset's rows, of its part alone."""
        if name not in self._examples:
            data = self._preset.data[name]
            if self._sample is None:
                rows: Sequence[Example] = load_dataset(self._path(data), format=data.format, split=data.split).examples
            else:
                rows = self._sample.test if name == self._preset.spec.test.dataset else self._sample.train
            self._examples[name] = part_of(rows, name, data.part)
        return self._examples[name]

    def _tiny_model(self) -> str:
        """The folder of a model whose tokenizer knows all training texts."""
        assert self._preset.tiny_model is not None
        spec = self._preset.spec
        names = [spec.train.dataset, *(each.train.dataset for each in spec.arrangements if each.train is not None)]
        rows = [row for name in dict.fromkeys(names) if name in self._preset.data for row in self._rows(name)]
        texts = dict.fromkeys(embedded_text(row, TextRule.ALL_TURNS) for row in rows)
        shape = ModelShape(**self._preset.tiny_model.model_dump())
        return str(build_model(self._home / "models", texts, shape).folder)


def study_key(spec: StudySpec) -> str:
    """The Idempotency-Key of a study that is run from a file: run again, it is found and goes on."""
    return f"study-{hashlib.sha256(spec.model_dump_json().encode()).hexdigest()}"


def selections(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Where a spec's fields name datasets."""
    own = [arrangement["train"] for arrangement in fields["arrangements"] if arrangement.get("train") is not None]
    return [fields["train"], fields["test"], *own]


def part_of(rows: Sequence[Example], name: str, part: tuple[int, int] | None) -> Sequence[Example]:
    """The rows of a preset's `part` of tasks.

    Raises:
        InvalidInput: none is left.
    """
    if part is None:
        return rows
    first, every = part
    kept = set(list(dict.fromkeys(row.task for row in rows))[first::every])
    found = [row for row in rows if row.task in kept]
    if not found:
        raise InvalidInput(f"data.{name}.part: no task is left of {len({row.task for row in rows})} with {list(part)}")
    return found
