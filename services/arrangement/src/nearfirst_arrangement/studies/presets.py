"""Presets on the server: what comes with Nearfirst, and a preset turned into the body of POST /studies."""

import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from nearfirst.client.demo.model import ModelShape, build_model
from nearfirst.client.study.preparing import NUM_FIGURE_TASKS, part_of, selections
from nearfirst.client.study.preset import BUNDLED, Preset, PresetData, dataset_names, parse_preset, scale_names
from nearfirst.contracts.arrangements import TextRule
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.presets import PresetDataset, PresetScale, SpecRequest, StudyPreset
from nearfirst.contracts.problems import InvalidInput, NotFound, NotReady
from nearfirst.contracts.studies import StudySpec
from nearfirst.data.bundled import bundled_path
from nearfirst.data.dataset import load_dataset, read_canonical, write_canonical
from nearfirst.data.example import embedded_text
from nearfirst.presets import packaged_presets
from nearfirst.registry import records
from nearfirst.registry.database import Database
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.datasets import service as datasets

MOST_TOKENIZER_TEXTS = 20_000
"""A tokenizer of some thousand tokens learns nothing from further ones."""
_TEXT_NAME = "(text)"
_NOWHERE = Path("/nonexistent")
"""No file of the server is read by name: a preset's own files stay with whoever has them."""


@lru_cache(maxsize=1)
def offered_presets() -> list[StudyPreset]:
    """The presets that come with Nearfirst, at each of their scales. Kept: packaged files don't change."""
    return [_offered(name, text) for name, text in packaged_presets().items()]


def _offered(name: str, text: str) -> StudyPreset:
    names: list[str | None] = [*scale_names(text, name)] or [None]
    scales = {scale: parse_preset(text, name, _NOWHERE, scale) for scale in names}
    first = next(iter(scales.values()))
    return StudyPreset(
        name=name,
        question=first.spec.question,
        scales=[_scale(scale, preset) for scale, preset in scales.items()],
    )


def _scale(name: str | None, preset: Preset) -> PresetScale:
    spec = preset.spec
    return PresetScale(
        name=name,
        datasets=[
            PresetDataset(name=each, source=data.path, is_bundled=data.path == BUNDLED)
            for each, data in preset.data.items()
        ],
        model=None if preset.tiny_model is not None else spec.training.model.name_or_path,
        arrangements=[arrangement.label for arrangement in spec.arrangements],
        seeds=list(spec.seeds),
        num_runs=spec.num_runs,
        max_steps=spec.training.max_steps,
        gpus=spec.training.gpus,
        metrics=list(spec.evaluation.metrics),
    )


def make_spec(request: SpecRequest, settings: Settings, database: Database, store: Store) -> StudySpec:
    """Turn a preset into the body of POST /studies: its data is registered and its small model made, each once.

    Raises:
        NotFound: no such preset or dataset.
        InvalidInput: the text isn't a preset, has no such scale or dataset, or names a file.
        NotReady: the model can't be written where training workers would read it.
    """
    preset = _requested(request)
    found = {
        name: _dataset(name, preset.data.get(name), request.datasets.get(name), settings, database, store)
        for name in dataset_names(preset.spec)
    }
    fields = preset.spec.model_dump(exclude_unset=True)
    for selection in selections(fields):
        selection["dataset"] = found[selection["dataset"]].id
    if preset.tiny_model is not None:
        shape = ModelShape(**preset.tiny_model.model_dump())
        fields["training"]["model"]["name_or_path"] = _tiny_model(_training_sets(preset, found), shape, settings, store)
    if request.datasets:
        fields |= _of_other_data(preset, found, database)
    return StudySpec.model_validate(fields)


def _requested(request: SpecRequest) -> Preset:
    if request.text is not None:
        _refuse_aliases(request.text)
        preset = parse_preset(request.text, _TEXT_NAME, _NOWHERE, request.scale)
    else:
        texts = packaged_presets()
        if request.preset not in texts:
            raise NotFound(f"preset: got {request.preset!r}, wanted one of {', '.join(texts)}")
        preset = parse_preset(texts[request.preset], request.preset, _NOWHERE, request.scale)
    if unknown := [name for name in request.datasets if name not in preset.data]:
        raise InvalidInput(f"datasets: got {unknown[0]!r}, wanted names among {', '.join(preset.data) or 'none'}")
    return preset


def _refuse_aliases(text: str) -> None:
    """Refuse YAML's `*name`: a few of them in each other stand for more than any memory holds."""
    try:
        has_alias = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # parse_preset says what is wrong
    if has_alias:
        raise InvalidInput("text: has an alias (*name); write out what it stands for")


def _dataset(
    name: str, data: PresetData | None, chosen: str | None, settings: Settings, database: Database, store: Store
) -> Dataset:
    """The registered dataset behind a preset's name: the chosen one, else the bundled one, else the name is an id."""
    if chosen is not None or data is None:
        with database.read() as session:
            return records.get_dataset(session, chosen or name)
    if data.path != BUNDLED:
        raise InvalidInput(
            f"datasets.{name}: the preset names the file {data.path}, which this server doesn't have; register it, and "
            f"give its id as datasets.{name}"
        )
    shown = f"{BUNDLED} {name}" if data.part is None else f"{BUNDLED} {name}, part {data.part[0] + 1} of {data.part[1]}"
    if data.part is None:
        return datasets.register_file(
            bundled_path(), split=data.split, name=shown, settings=settings, database=database, store=store
        )
    rows = part_of(load_dataset(bundled_path(), split=data.split).examples, name, data.part)
    with tempfile.NamedTemporaryFile(prefix="nearfirst-part-", suffix=".jsonl") as file:
        write_canonical(rows, file)
        file.flush()
        return datasets.register_file(
            Path(file.name), split=None, name=shown, settings=settings, database=database, store=store
        )


def _training_sets(preset: Preset, found: Mapping[str, Dataset]) -> list[Dataset]:
    spec = preset.spec
    own = [arrangement.train.dataset for arrangement in spec.arrangements if arrangement.train is not None]
    return [found[name] for name in dict.fromkeys([spec.train.dataset, *own])]


def _tiny_model(training: Iterable[Dataset], shape: ModelShape, settings: Settings, store: Store) -> str:
    """The folder of a model whose tokenizer knows the training texts."""
    rows = (row for dataset in training for row in read_canonical(store.local_path(dataset.digest, verify=False)))
    texts = dict.fromkeys(embedded_text(row, TextRule.ALL_TURNS) for row in islice(rows, MOST_TOKENIZER_TEXTS))
    folder = models_folder(settings)
    try:
        return str(build_model(folder, texts, shape).folder)
    except OSError as error:
        raise NotReady(f"the preset's model can't be written to {folder}: {error.strerror}") from error


def models_folder(settings: Settings) -> Path:
    """Where a model is written for all training workers to read: beside their runs, which they share; in an embedded
    suite, where requests may not name files among the runs, in `home`/models."""
    runs = settings.runs_dir.resolve()
    is_allowed = any(runs.is_relative_to(root) for root in settings.allowed_roots)
    return (runs if is_allowed else settings.home) / "models"


def _of_other_data(preset: Preset, found: Mapping[str, Dataset], database: Database) -> dict[str, Any]:
    """What a spec says otherwise when datasets were chosen: its name, and the tasks of its figure."""
    spec = preset.spec
    fields: dict[str, Any] = {"name": f"{spec.name} ({found[spec.train.dataset].name})"[:200]}
    if spec.figure == "tasks":
        with database.read() as session:
            sizes = records.task_sizes(session, found[spec.test.dataset].id) or {}
        largest = sorted(sizes, key=lambda task: -sizes[task])[:NUM_FIGURE_TASKS]
        fields |= {"figure_tasks": largest} if largest else {"figure": "study", "figure_tasks": None}
    return fields
