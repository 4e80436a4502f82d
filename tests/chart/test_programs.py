"""What the chart says of the suite's programs agrees with the programs."""

import ast
import importlib
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from pydantic import AliasChoices
from pydantic_settings import BaseSettings
from tests.support.chart import CHART, Manifest, containers, of_kind, variables

from nearfirst.contracts.queues import ROUTES
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.telemetry.counters import RUN_SECONDS, RUNS_IN_PROGRESS, STEP_SECONDS, TOKENS_PER_SECOND
from nearfirst.web.app import create_app
from nearfirst.web.registry_metrics import RegistryMetrics
from nearfirst_generation.service import GenerationMetrics

REPOSITORY = CHART.parents[1]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "files" / "services.yaml").read_text())
SETTINGS_MODULES = (
    "nearfirst.settings",
    "nearfirst_embedding.settings",
    "nearfirst_generation.settings",
    "nearfirst_scoring.settings",
)
OTHERS = {
    "FORWARDED_ALLOW_IPS": "uvicorn",
    "HOME": "where libraries keep their caches",
    "PGHOST": "libpq",
    "PGPORT": "libpq",
    "PGDATABASE": "libpq",
    "PGUSER": "libpq",
    "PGPASSWORD": "libpq",
    "PGSSLMODE": "libpq",
    "PGSSLROOTCERT": "libpq",
    "AWS_DEFAULT_REGION": "botocore",
    "AWS_ENDPOINT_URL": "botocore",
    "AWS_ACCESS_KEY_ID": "botocore",
    "AWS_SECRET_ACCESS_KEY": "botocore",
    "HF_HOME": "huggingface-hub",
    "HF_HUB_OFFLINE": "huggingface-hub",
    "HF_TOKEN": "huggingface-hub",
}
"""Variables that libraries read."""


def entry_points(group: str) -> dict[str, str]:
    """What the services' distributions declare under a group, by name."""
    found: dict[str, str] = {}
    for path in REPOSITORY.glob("services/*/pyproject.toml"):
        found |= tomllib.loads(path.read_text())["project"].get("entry-points", {}).get(group, {})
    return found


def names_in(module: str) -> Iterator[str]:
    """The variables that the settings classes of a module read."""
    for settings in vars(importlib.import_module(module)).values():
        if isinstance(settings, type) and issubclass(settings, BaseSettings):
            prefix = settings.model_config["env_prefix"]
            for name, field in settings.model_fields.items():
                match field.validation_alias:
                    case AliasChoices(choices=choices):
                        yield from (choice for choice in choices if isinstance(choice, str))
                    case alias:
                        assert alias is None or isinstance(alias, str)
                        yield alias or f"{prefix}{name}".upper()


def test_every_worker_that_a_service_declares_is_in_the_chart_with_its_application() -> None:
    declared = {
        name: application.removesuffix(":app") for name, application in entry_points("nearfirst.workers").items()
    }
    known = {name: program["application"] for name, program in SERVICES["workers"].items()}
    assert declared.items() <= known.items()


def test_every_server_that_a_service_declares_is_in_the_chart_with_its_application() -> None:
    known = {name: program["application"] for name, program in SERVICES["servers"].items()}
    assert entry_points("nearfirst.servers").items() <= known.items()


@pytest.mark.parametrize("role", ["servers", "workers"])
def test_every_application_of_the_chart_is_there(role: str) -> None:
    for program in SERVICES[role].values():
        module, _, factory = program["application"].partition(":")
        service = module.partition(".")[0].removeprefix("nearfirst_")
        source = REPOSITORY / "services" / service / "src" / Path(*module.split(".")).with_suffix(".py")
        names = {node.name for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert not factory or factory in names, module


def test_every_kind_of_run_is_counted_for_the_worker_that_listens_to_its_queue() -> None:
    """Queues and workers have the same names; that of `metrics` is the generation worker's second one."""
    listening = {"metrics": "generation"}
    expected: dict[str, set[str]] = {}
    for kind, (_, queue) in ROUTES.items():
        name = queue.removeprefix("nearfirst.")
        expected.setdefault(listening.get(name, name), set()).add(kind.value)
    assert {name: set(program["kinds"]) for name, program in SERVICES["workers"].items()} == expected


def test_every_variable_is_one_that_a_program_reads(manifests: list[Manifest]) -> None:
    known = OTHERS.keys() | {name for module in SETTINGS_MODULES for name in names_in(module)}
    for name, container in containers(manifests):
        assert {entry["name"] for entry in container["env"]} <= known, name


def test_the_values_that_processes_share_are_accepted(cluster: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    for _, container in containers(cluster):
        with monkeypatch.context() as patch:
            for name, value in variables(container).items():
                patch.setenv(name, value)
            patch.setenv("NEARFIRST_API_KEYS", '["one", "two"]')
            settings = Settings()
        assert settings.database_url == "postgresql+psycopg://" or container["name"] == "server"
        assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]


def test_a_worker_saves_its_state_within_the_time_that_torchrun_waits(cluster: list[Manifest]) -> None:
    torchrun = importlib.import_module("nearfirst_training.torchrun")
    limit = json.loads((CHART / "values.schema.json").read_text())["definitions"]["worker"]["properties"]
    assert limit["saveGraceSeconds"]["maximum"] == torchrun.SAVING_STATE_S


def test_the_dashboard_asks_for_metrics_and_labels_that_programs_have(cluster: list[Manifest], tmp_path: Path) -> None:
    (config_map,) = of_kind(cluster, "ConfigMap")
    dashboard = json.loads(config_map["data"]["nearfirst.json"])
    url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    upgrade(url)
    app = create_app("test", Settings(home=tmp_path, database_url=url))
    app.state.metrics.register(RegistryMetrics(Database(url), alive_s=30, max_age_s=0))
    RUN_SECONDS.labels(RunKind.TRAIN_JOB, RunState.SUCCEEDED).observe(1)
    RUNS_IN_PROGRESS.labels(RunKind.TRAIN_JOB).set(0)
    STEP_SECONDS.labels(RunKind.TRAIN_JOB).observe(1)
    TOKENS_PER_SECOND.labels(RunKind.TRAIN_JOB).set(1)
    GenerationMetrics(app.state.metrics).swaps.labels("done").inc()
    with TestClient(app) as client:
        client.get("/healthz")
        exposed = client.get("/metrics").text
    metrics = set(re.findall(r"^(nearfirst_\w+)[{ ]", exposed, re.MULTILINE))
    labels = set(re.findall(r"[{,](\w+)=", exposed)) | {"service", "pod"}  # Prometheus's own
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) == len(dashboard["panels"])
    for query in queries:
        assert set(re.findall(r"nearfirst_\w+", query)) <= metrics, query
        grouped = {label.strip() for group in re.findall(r"(?:by|on) \(([^)]*)\)", query) for label in group.split(",")}
        matched = set(re.findall(r"(\w+)=~", query))
        assert grouped | matched <= labels, query
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
