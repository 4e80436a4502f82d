"""Preset files: a study with the files that its data comes from, at one or several scales.

name: ...                        all fields of POST /studies, with names of `data` in place of dataset ids
data: {train: {path: bundled, split: train}, test: {...}}
tiny_model: {max_length: 640}    build a small model from the training texts, in place of training.model's name
sample: {train_tasks: 40, ...}   what `--data` draws of another dataset
scales: {demo: {...}, paper: {...}}   each replaces fields above; the first is the default
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from nearfirst.contracts.base import Contract
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.contracts.studies import StudySpec

BUNDLED = "bundled"
"""A `path` that means the data that Nearfirst carries."""
_OWN_FIELDS = ("data", "tiny_model", "sample")
_Count = Annotated[int, Field(ge=1)]


class PresetData(Contract):
    """Where a dataset comes from. With `--data` it is the sample's rows: the test rows for what the spec tests on."""

    path: str
    """`bundled`, or a file relative to the preset."""
    split: str | None = None
    """Keep rows whose `split` is this."""
    format: DatasetFormat | None = None
    note: str | None = None
    """Where the file comes from, for whoever doesn't have it yet."""
    part: tuple[int, int] | None = None
    """[k, n]: only every n-th task in the order of their first rows, from the k-th (counted from 0)."""


class TinyModel(Contract):
    """Sizes of a Llama with random weights, and of its tokenizer, which is trained on the training texts."""

    vocab_size: _Count = 2048
    hidden_size: _Count = 128
    intermediate_size: _Count = 344
    layers: _Count = 4
    heads: _Count = 4
    max_length: _Count = 1024


class PresetSample(Contract):
    """How much `--data` draws of another dataset (client/demo/sample.py)."""

    train_tasks: _Count = 40
    rows_per_task: _Count = 30
    test_rows_per_task: _Count = 6
    max_chars: _Count = 1500
    seed: int = Field(default=0, ge=0)


class Preset(Contract):
    """A preset at one scale."""

    spec: StudySpec
    """With names of `data` in place of dataset ids."""
    data: dict[str, PresetData] = Field(default_factory=dict)
    tiny_model: TinyModel | None = None
    sample: PresetSample = PresetSample()
    folder: Path
    """Of the file: paths are relative to it."""


def load_preset(path: Path, scale: str | None = None) -> Preset:
    """Read a preset.

    Args:
        path: a YAML file.
        scale: one of its `scales`; None: the first, or the file as it is when it has none.

    Raises:
        InvalidInput: no such file or scale, no YAML, or a field that is unknown, missing or wrong; the detail names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"preset {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"preset {path}: not YAML: {error}") from error
    return parse_preset(text, path.name, path.resolve().parent, scale)


def parse_preset(text: str, name: str, folder: Path, scale: str | None = None) -> Preset:
    """Read a preset's text.

    Args:
        text: YAML.
        name: what errors call it.
        folder: its paths are relative to it.
        scale: as in `load_preset`.

    Raises:
        InvalidInput: as `load_preset`.
    """
    fields = _scaled(_read(text, name), scale, name)
    own = {name: fields.pop(name) for name in _OWN_FIELDS if fields.get(name) is not None}
    fields = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    try:
        spec = StudySpec.model_validate(fields)
        preset = Preset(spec=spec, folder=folder, **own)
    except ValidationError as error:
        raise invalid_input_from_validation(error, f"preset {name}") from error
    _check_names(preset, name)
    return preset


def scale_names(text: str, name: str) -> list[str]:
    """The scales that a preset's text has; none: it has one, without a name.

    Raises:
        InvalidInput: it isn't YAML, or its scales aren't fields.
    """
    return list(_scales(_read(text, name), name))


def _read(text: str, name: str) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # its tags raise at will
        raise InvalidInput(f"preset {name}: not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"preset {name}: wanted fields and their values, got {type(fields).__name__}")
    return fields


def _scales(fields: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    scales = fields.get("scales") or {}
    if not isinstance(scales, dict) or not all(isinstance(each, dict) for each in scales.values()):
        raise InvalidInput(f"preset {name}: scales: wanted names, each with fields")
    return scales


def _scaled(fields: dict[str, Any], scale: str | None, name: str) -> dict[str, Any]:
    scales = _scales(fields, name)
    fields = {field: value for field, value in fields.items() if field != "scales"}
    chosen = next(iter(scales), None) if scale is None else scale
    if chosen is None:
        return fields
    if chosen not in scales:
        raise InvalidInput(f"scale: got {chosen!r}; preset {name} has {', '.join(map(str, scales)) or 'none'}")
    return _merged(fields, scales[chosen])


def _merged(fields: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with others in their place; objects field by field."""
    merged = dict(fields)
    for name, value in over.items():
        before = merged.get(name)
        merged[name] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def dataset_names(spec: StudySpec) -> list[str]:
    """The datasets that a spec names, each once."""
    selections = [spec.train, spec.test, *(each.train for each in spec.arrangements if each.train is not None)]
    return list(dict.fromkeys(selection.dataset for selection in selections))


def _check_names(preset: Preset, name: str) -> None:
    unknown = [each for each in dataset_names(preset.spec) if each not in preset.data and not each.startswith("ds_")]
    if unknown:
        raise InvalidInput(
            f"preset {name}: got the dataset {unknown[0]!r}, wanted one of data ({', '.join(preset.data)}) or an "
            "id (ds_...)"
        )
    for dataset, data in preset.data.items():
        if data.part is not None and not 0 <= data.part[0] < data.part[1]:
            raise InvalidInput(
                f"preset {name}: data.{dataset}.part: got {list(data.part)}, wanted [k, n] with 0 <= k < n"
            )
