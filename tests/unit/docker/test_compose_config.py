"""What Compose itself makes of the files, where it is at hand; no engine is asked."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
PLAIN, GPU = ("--file", "compose.yaml"), ("--file", "compose.yaml", "--file", "compose.gpu.yaml")
SECRETS = {"POSTGRES_PASSWORD": "one", "REDIS_PASSWORD": "two", "INTERNAL_KEY": "three"}
GPUS = {"STACK_TRAINING_GPUS": "0,1", "STACK_OTHER_GPU": "2"}


@pytest.fixture(scope="module")
def compose() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            continue
        if done.returncode == 0 and done.stdout.strip().lstrip("v")[:2] != "1.":
            return command
    pytest.skip("Docker Compose v2 isn't on this machine")


def ask(compose: Sequence[str], files: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    own = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    command = [*compose, "--env-file", os.devnull, *files, "--profile", "rewards", "config", "--format", "json"]
    return subprocess.run(command, cwd=REPOSITORY, env=own | environment, capture_output=True, text=True, timeout=60)


def services(compose: Sequence[str], files: Sequence[str], environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    done = ask(compose, files, environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def test_compose_reads_the_stack(compose: list[str]) -> None:
    found = services(compose, PLAIN, SECRETS)
    assert found["api"]["environment"]["NEARFIRST_BROKER_URL"] == "redis://:two@redis:6379/0"
    assert found["api"]["ports"][0]["host_ip"] == "127.0.0.1"
    assert found["migrate"]["build"]["args"]["PYTHON_IMAGE"] == "python:3.11-slim-bookworm"
    assert not any("devices" in service["deploy"]["resources"].get("reservations", {}) for service in found.values())


def test_compose_reads_the_stack_with_gpus_and_keeps_its_limits(compose: list[str]) -> None:
    plain, found = services(compose, PLAIN, SECRETS), services(compose, GPU, SECRETS | GPUS)
    assert found.keys() == plain.keys()
    assert found["training-worker"]["environment"]["NEARFIRST_GPUS"] == "0,1"
    assert found["training-worker"]["image"] == "nearfirst-torch-cuda:0.1.0"
    assert found["generation"]["build"]["dockerfile"] == "docker/generation-cuda.Dockerfile"
    for name, service in found.items():
        assert service["deploy"]["resources"]["limits"] == plain[name]["deploy"]["resources"]["limits"], name
        assert service["healthcheck"] == plain[name]["healthcheck"], name


@pytest.mark.parametrize("missing", SECRETS)
def test_a_missing_secret_is_refused_by_name(compose: list[str], missing: str) -> None:
    done = ask(compose, PLAIN, {name: value for name, value in SECRETS.items() if name != missing})
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value: set it in .env" in done.stderr


@pytest.mark.parametrize("missing", GPUS)
def test_gpus_that_nobody_named_are_refused(compose: list[str], missing: str) -> None:
    done = ask(compose, GPU, SECRETS | {name: value for name, value in GPUS.items() if name != missing})
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value: set it in .env" in done.stderr


def test_bases_can_be_named_by_digest(compose: list[str]) -> None:
    digest = f"sha256:{'0' * 64}"
    bases = {
        "STACK_PYTHON_IMAGE": f"python:3.11-slim-bookworm@{digest}",
        "STACK_POSTGRES_IMAGE": f"postgres:16-bookworm@{digest}",
        "STACK_REDIS_IMAGE": f"redis:7-bookworm@{digest}",
        "STACK_VLLM_IMAGE": f"vllm/vllm-openai:v0.32.0@{digest}",
    }
    found = services(compose, GPU, SECRETS | GPUS | bases)
    for name in ("migrate", "embedding"):
        assert found[name]["build"]["args"]["PYTHON_IMAGE"] == bases["STACK_PYTHON_IMAGE"]
    assert found["generation"]["build"]["args"]["VLLM_IMAGE"] == bases["STACK_VLLM_IMAGE"]
    assert found["postgres"]["image"] == bases["STACK_POSTGRES_IMAGE"]
    assert found["redis"]["image"] == bases["STACK_REDIS_IMAGE"]
