"""Preset files: read, refused by field, and turned into what a server is asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI, Request

from nearfirst.client import Client
from nearfirst.client.study.preparing import Preparation, study_key
from nearfirst.client.study.preset import load_preset
from nearfirst.contracts.problems import InvalidInput

PRESETS = Path(__file__).parents[3] / "presets"
FIELDS = {
    "name": "p",
    "data": {"train": {"path": "train.jsonl"}, "test": {"path": "test.jsonl"}},
    "train": "train",
    "test": "test",
    "arrangements": [{"label": "a", "method": "as_is"}],
    "training": {"model": {"name_or_path": "/m"}},
}


def write(folder: Path, **fields: Any) -> Path:
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump(FIELDS | fields, sort_keys=False))
    return path


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_read_at_each_of_its_scales(path: Path) -> None:
    fields = yaml.safe_load(path.read_text())
    for scale in fields.get("scales", {None: {}}):
        preset = load_preset(path, scale)
        assert preset.spec.name == path.stem
        assert preset.spec.baseline is not None
        assert preset.spec.training.checkpoint.weights_every is not None


def test_the_paper_scale_trains_as_the_paper_did() -> None:
    for number in range(1, 6):
        training = load_preset(PRESETS / f"figure{number}.yaml", "paper").spec.training
        assert (training.global_batch_size, training.optimizer.lr, training.gpus) == (16, 1e-6, 2)
        assert (training.max_length, training.schedule.final_ratio, training.max_steps) == (1024, 0.1, None)


def test_a_scale_replaces_fields_and_merges_objects(tmp_path: Path) -> None:
    scales = {
        "small": {"training": {"max_steps": 3}},
        "large": {"seeds": [1, 2], "tiny_model": {"layers": 2}, "data": {"test": {"split": "test"}}},
    }
    path = write(tmp_path, scales=scales)
    small, large = load_preset(path), load_preset(path, "large")
    assert (small.spec.training.max_steps, small.spec.training.model.name_or_path) == (3, "/m")
    assert (large.spec.training.max_steps, large.spec.seeds) == (None, [1, 2])
    assert large.tiny_model is not None
    assert (large.data["test"].path, large.data["test"].split) == ("test.jsonl", "test")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sedes": [1]}, "sedes: no such field is known"),
        ({"data": {"train": {"pth": "x"}}}, r"data\.train\.pth: no such field is known"),
        ({"tiny_model": {"layer": 2}}, r"tiny_model\.layer: no such field is known"),
        ({"train": "pool"}, "got the dataset 'pool', wanted one of data"),
        ({"seeds": [1, 1]}, "seeds: 1 is used twice"),
        ({"scales": ["demo"]}, "scales: wanted names"),
        (
            {"data": FIELDS["data"] | {"train": {"path": "x", "part": [3, 3]}}},  # type: ignore[operator]
            r"data\.train\.part: got \[3, 3\]",
        ),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        load_preset(write(tmp_path, **fields))


def test_a_scale_that_there_is_not_and_what_is_no_preset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"scale: got 'huge'; preset p\.yaml has none"):
        load_preset(write(tmp_path), "huge")
    with pytest.raises(InvalidInput, match="No such file"):
        load_preset(tmp_path / "none.yaml")
    for text in ("- a\n", "a: [\n", "!!python/none x\n"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InvalidInput, match=r"bad\.yaml"):
            load_preset(tmp_path / "bad.yaml")


Serve = Callable[[FastAPI], str]


def registering(uploads: dict[str, bytes], splits: dict[str, str | None]) -> FastAPI:
    """A server that takes datasets."""
    app = FastAPI()

    @app.post("/datasets", status_code=201)
    async def register(request: Request) -> dict[str, Any]:
        async with request.form() as form:
            name, file = str(form["name"]), form["file"]
            assert not isinstance(file, str)
            uploads[name] = await file.read()
            splits[name] = str(form["split"]) if "split" in form else None
        return {
            "id": f"ds_{len(uploads)}",
            "name": name,
            "digest": "sha256:00",
            "format": "examples",
            "split": None,
            "num_examples": 1,
            "num_tasks": 1,
            "created_at": "2026-01-01T00:00:00Z",
        }

    return app


def p3(task: str, number: int) -> str:
    return (
        f'{{"id": "{task}-{number}", "task": "{task}", "inputs_pretokenized": "Say {number} of {task}.", '
        f'"targets_pretokenized": "It is {number}."}}\n'
    )


def test_files_are_uploaded_and_their_ids_take_the_names_place(serve: Serve, tmp_path: Path) -> None:
    rows = [p3(task, number) for task in "abcde" for number in range(2)]
    (tmp_path / "train.jsonl").write_text("".join(rows))
    (tmp_path / "test.jsonl").write_text(p3("z", 0))
    data = FIELDS["data"] | {"some": {"path": "train.jsonl", "part": [1, 2]}}  # type: ignore[operator]
    arrangements = [{"label": "a", "method": "as_is"}, {"label": "b", "method": "as_is", "train": "some"}]
    uploads: dict[str, bytes] = {}
    splits: dict[str, str | None] = {}
    with Client(serve(registering(uploads, splits))) as client:
        preset = load_preset(write(tmp_path, data=data, arrangements=arrangements))
        spec = Preparation(preset, tmp_path / "home").register(client)
    assert (spec.train.dataset, spec.test.dataset) == ("ds_1", "ds_2")
    assert spec.arrangements[1].train is not None
    assert spec.arrangements[1].train.dataset == "ds_3"
    assert uploads["train.jsonl train"].decode() == "".join(rows)
    part = uploads["train.jsonl some"].decode()
    assert [task in part for task in ("a-0", "b-0", "c-0", "d-1", "e-0")] == [False, True, False, True, False]


def test_a_sample_of_other_data_takes_the_files_place_and_a_tiny_model_knows_its_words(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "other.jsonl").write_text("".join(p3(task, number) for task in "abcde" for number in range(30)))
    preset = load_preset(
        write(
            tmp_path,
            figure="tasks",
            figure_tasks=["not there"],
            tiny_model={"layers": 1, "hidden_size": 16, "heads": 2, "vocab_size": 300},
            sample={"train_tasks": 2, "rows_per_task": 5},
            data={"train": {"path": "not there", "part": [0, 1]}, "test": {"path": "not there"}},
            training={"model": {"name_or_path": "tiny", "init": "random"}},
        )
    )
    uploads: dict[str, bytes] = {}
    with Client(serve(registering(uploads, {}))) as client:
        spec = Preparation(preset, tmp_path / "home", tmp_path / "other.jsonl").register(client)
        again = Preparation(preset, tmp_path / "home", tmp_path / "other.jsonl").register(client)
    assert set(uploads) == {"other.jsonl train", "other.jsonl test"}
    assert uploads["other.jsonl train"].count(b"\n") == 10
    tasks = {name: {json.loads(line)["task"] for line in rows.splitlines()} for name, rows in uploads.items()}
    assert not tasks["other.jsonl train"] & tasks["other.jsonl test"]
    assert spec.name == "p (other.jsonl)"
    assert spec.figure_tasks is not None
    assert set(spec.figure_tasks) <= set("abcde")
    assert (Path(spec.training.model.name_or_path) / "tokenizer.json").is_file()
    assert study_key(spec) != study_key(spec.model_copy(update={"seeds": [4]}))
    assert again.training == spec.training


def test_all_files_that_are_not_there_are_named_before_anything_starts_and_where_they_come_from(
    tmp_path: Path,
) -> None:
    data = {"train": {"path": "pool.jsonl", "note": "from the moon"}, "test": {"path": "test.jsonl"}}
    words = r"no file .*pool\.jsonl \(from the moon\), .*test\.jsonl; --data FILE takes a sample"
    with pytest.raises(InvalidInput, match=words):
        Preparation(load_preset(write(tmp_path, data=data)), tmp_path / "home")


def test_a_natural_instructions_folder_is_uploaded_as_rows(serve: Serve, tmp_path: Path) -> None:
    for task, split in (("task1", "train"), ("task2", "test")):
        (tmp_path / "niv2" / "tasks").mkdir(parents=True, exist_ok=True)
        (tmp_path / "niv2" / "splits" / "default").mkdir(parents=True, exist_ok=True)
        (tmp_path / "niv2" / "splits" / "default" / f"{split}_tasks.txt").write_text(f"{task}\n")
        content = {"Definition": ["Say it."], "Positive Examples": [], "Negative Examples": [], "Categories": ["Talk"]}
        instances = [{"id": f"{task}-1", "input": "moon", "output": ["The moon."]}]
        (tmp_path / "niv2" / "tasks" / f"{task}.json").write_text(json.dumps(content | {"Instances": instances}))
    data = {"train": {"path": "niv2", "split": "train"}, "test": {"path": "niv2", "split": "test"}}
    uploads: dict[str, bytes] = {}
    with Client(serve(registering(uploads, {}))) as client:
        Preparation(load_preset(write(tmp_path, data=data)), tmp_path / "home").register(client)
    assert {name: json.loads(rows)["task"] for name, rows in uploads.items()} == {
        "niv2 train": "task1",
        "niv2 test": "task2",
    }
