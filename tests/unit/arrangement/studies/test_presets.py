"""Presets over HTTP: listed, made into specs with their data and model, and refused by field."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from nearfirst.client.demo.model import ModelShape, build_model
from nearfirst.contracts.arrangements import TextRule
from nearfirst.data.bundled import bundled_path
from nearfirst.data.dataset import load_dataset
from nearfirst.data.example import embedded_text
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst_arrangement.app import make_app
from nearfirst_arrangement.studies.presets import models_folder

ROWS = "".join(
    json.dumps({"instruction": f"Say {n}.", "output": f"It is {n}.", "task": f"t{n % 5}"}) + "\n" for n in range(40)
)


@pytest.fixture(scope="module", autouse=True)
def root_logging() -> Iterator[None]:
    """The API configures the root logger of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(home=tmp_path_factory.mktemp("home"), sweep_s=600)
    for folder in (found.home, *found.allowed_roots, found.runs_dir):
        folder.mkdir(parents=True, exist_ok=True)
    upgrade(found.database_url)
    return found


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[TestClient]:
    with TestClient(make_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def own_data(api: TestClient) -> str:
    """The id of a dataset that a user has registered."""
    return str(api.post("/datasets", files={"file": ("mine.jsonl", ROWS)}, data={"name": "mine"}).json()["id"])


def make(api: TestClient, **request: Any) -> dict[str, Any]:
    answer = api.post("/studies/specs", json=request)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refused(api: TestClient, **request: Any) -> dict[str, Any]:
    answer: Response = api.post("/studies/specs", json=request)
    assert answer.status_code == 422, answer.text
    return dict(answer.json())


def plain(dataset: str, **fields: Any) -> str:
    """The text of a study without a preset's own fields."""
    given = {
        "name": "mine",
        "train": dataset,
        "test": dataset,
        "arrangements": [{"label": "as it is", "method": "as_is"}],
        "training": {"model": {"name_or_path": "owner/model"}},
    }
    return json.dumps(given | fields)


def test_every_packaged_preset_is_offered_at_its_scales_and_quickstart_first(api: TestClient) -> None:
    presets = {each["name"]: each["scales"] for each in api.get("/studies/presets").json()["items"]}
    assert list(presets) == ["quickstart", *(f"figure{number}" for number in range(1, 6))]
    (quickstart,) = presets.pop("quickstart")
    assert (quickstart["num_runs"], quickstart["seeds"], quickstart["model"]) == (12, [0, 1, 2], None)
    assert all(dataset["is_bundled"] for dataset in quickstart["datasets"])
    for demo, paper in presets.values():
        assert (demo["name"], paper["name"]) == ("demo", "paper")
        assert all(dataset["is_bundled"] for dataset in demo["datasets"])
        assert not any(dataset["is_bundled"] for dataset in paper["datasets"])
        assert paper["model"] == "meta-llama/Llama-2-7b-hf"


def test_a_presets_spec_can_be_submitted_as_it_is(api: TestClient) -> None:
    spec = make(api, preset="quickstart")
    estimate = api.post("/studies", params={"dry_run": True}, json=spec).json()
    assert (estimate["num_train_jobs"], estimate["train_job"]["steps"], estimate["warnings"]) == (12, 80, [])
    accepted = api.post("/studies", json=spec)
    assert accepted.status_code == 202, accepted.text
    assert len(api.get(f"/studies/{accepted.json()['id']}/nodes").json()["items"]) == 36


def test_a_presets_data_and_model_are_made_once_and_as_the_command_makes_them(
    api: TestClient, settings: Settings, tmp_path: Path
) -> None:
    first, second = make(api, preset="quickstart"), make(api, preset="quickstart")
    assert first == second
    rows = load_dataset(bundled_path(), split="train").examples
    texts = dict.fromkeys(embedded_text(row, TextRule.ALL_TURNS) for row in rows)
    built = build_model(tmp_path, texts, ModelShape(max_length=640))
    folder = Path(first["training"]["model"]["name_or_path"])
    assert folder == settings.home / "models" / built.folder.name
    assert (folder / "tokenizer.json").read_bytes() == (built.folder / "tokenizer.json").read_bytes()


def test_parts_of_the_bundled_data_are_disjoint_and_make_up_the_whole(api: TestClient) -> None:
    spec = make(api, preset="figure4")
    ids = {arrangement["train"]["dataset"] for arrangement in spec["arrangements"]}
    parts = [api.get(f"/datasets/{each}/examples", params={"limit": 1000}).json()["items"] for each in ids]
    counts = [api.get(f"/datasets/{each}").json()["num_examples"] for each in ids]
    assert len(ids) == 3
    assert sum(counts) == len(load_dataset(bundled_path(), split="train").examples)
    first, second, third = ({row["task"] for row in part} for part in parts)
    assert len(first | second | third) == len(first) + len(second) + len(third)


def test_chosen_data_takes_the_place_of_a_presets_own(api: TestClient, own_data: str) -> None:
    spec = make(api, preset="figure2", scale="demo", datasets={"train": own_data, "test": own_data})
    assert (spec["train"]["dataset"], spec["test"]["dataset"], spec["name"]) == (own_data, own_data, "figure2 (mine)")
    assert set(spec["figure_tasks"]) <= {f"t{number}" for number in range(5)}


def test_a_scale_whose_files_are_elsewhere_says_which_data_to_choose(api: TestClient, own_data: str) -> None:
    assert (
        "datasets.train: the preset names the file flan-mini.json"
        in refused(api, preset="figure3", scale="paper")["detail"]
    )
    spec = make(api, preset="figure3", scale="paper", datasets={"train": own_data, "test": own_data})
    assert spec["training"]["model"]["name_or_path"] == "meta-llama/Llama-2-7b-hf"


def test_a_plain_spec_passes_as_it_is(api: TestClient, own_data: str) -> None:
    spec = make(api, text=plain(own_data))
    assert spec["train"] == {"dataset": own_data}
    assert set(spec) == {"name", "train", "test", "arrangements", "training"}


def test_wrong_specs_are_refused_by_field(api: TestClient, own_data: str) -> None:
    twice = refused(api, text=plain(own_data, seeds=[3, 3]))
    assert [error["wanted"] for error in twice["errors"]] == ["seeds: 3 is used twice"]
    unknown = refused(api, text=plain(own_data, colour="red"))
    assert [error["field"] for error in unknown["errors"]] == ["colour"]
    assert "not YAML" in refused(api, text="a: [")["detail"]
    assert "has an alias" in refused(api, text="a: &a [1]\nb: *a")["detail"]
    assert "wanted names among train, test" in refused(api, preset="quickstart", datasets={"tset": own_data})["detail"]
    assert "not both" in refused(api, preset="quickstart", text="name: x")["detail"]
    assert api.post("/studies/specs", json={"preset": "figure9"}).status_code == 404
    assert api.post("/studies/specs", json={"text": plain("ds_0000000000000000")}).status_code == 404


def test_no_file_of_the_server_is_read_by_its_name(api: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text(ROWS)
    text = plain("train", test="train", data={"train": {"path": str(secret)}})
    assert "which this server doesn't have" in refused(api, text=text)["detail"]


def test_a_study_without_a_baseline_is_warned_of_and_allowed(api: TestClient, own_data: str) -> None:
    arrangements = [{"label": "as it is", "method": "as_is"}, {"label": "shuffled", "method": "random"}]
    fields: dict[str, Any] = {"arrangements": arrangements, "tiny_model": {"layers": 1}, "seeds": [0, 1, 2]}
    training = {"model": {"name_or_path": "tiny", "init": "random"}, "checkpoint": {"weights_every": 1}}
    spec = make(api, text=plain(own_data, **fields, training=training))
    warnings = api.post("/studies", params={"dry_run": True}, json=spec).json()["warnings"]
    assert [warning.split(":")[0] for warning in warnings] == ["baseline"]
    assert api.post("/studies", json=spec).status_code == 202


def test_models_are_made_where_training_workers_read_them(tmp_path: Path) -> None:
    embedded = Settings(home=tmp_path / "home")
    assert models_folder(embedded) == embedded.home / "models"
    stack = Settings(home=tmp_path / "home", runs_dir=tmp_path / "shared" / "runs", data_roots=[tmp_path / "shared"])
    assert models_folder(stack) == tmp_path / "shared" / "runs" / "models"
