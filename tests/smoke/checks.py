"""What must be true of a stack: of its images and containers, of who is let in, of its workers and logs."""

import json
import time
from collections.abc import Iterable
from typing import Any

from tests.smoke.job import settled
from tests.smoke.stack import SECRETS, Stack
from tests.smoke.stops import Stop

from nearfirst.client.api import Client
from nearfirst.client.errors import ApiError

IMAGES = ("nearfirst-core:smoke", "nearfirst-torch-cpu:smoke", "nearfirst-generation-cpu:smoke")
LABELS = ("title", "description", "version", "revision", "licenses")
FIND_TOOLS = """
command -v gcc cc g++ c++ ld as make cmake git cargo rustc pip pip3 uv
for python in python /usr/local/bin/python; do $python -c 'import pip' 2>/dev/null && echo "pip for $python"; done
exit 0
"""


def faults_of_access(url: str) -> list[str]:
    """Nobody is let in without a key."""
    with Client(url) as nobody:
        try:
            next(nobody.datasets(), None)
        except ApiError as error:
            return [] if error.answer.status == 401 else [f"without a key: {error.answer}"]
    return ["datasets are listed without a key"]


def faults_of_containers(stack: Stack) -> list[str]:
    """How the engine runs the containers, as far as compose.yaml promises it."""
    faults = []
    for service, one in stack.containers().items():
        host: dict[str, Any] = one["HostConfig"]
        holds = {
            "read-only": host["ReadonlyRootfs"],
            "no capabilities": host["CapDrop"] == ["ALL"],
            "no new privileges": host["SecurityOpt"] == ["no-new-privileges:true"],
            "memory limit": host["Memory"] > 0,
            "CPU limit": host["NanoCpus"] > 0,
            "not root": one["Config"]["User"] == "10001:10001" or service == "postgres",
        }
        faults += [f"{service}: not {promise}" for promise, is_kept in holds.items() if not is_kept]
    return faults


def faults_of_images(stack: Stack) -> list[str]:
    """They are run as the suite's user and say what they are; no build tool is left in them, and no secret."""
    faults = []
    for image in IMAGES:
        config = json.loads(stack.docker("inspect", "--format", "{{json .Config}}", image))
        holds = {
            "run as uid 10001": config["User"] == "10001:10001",
            "with a healthcheck": bool(config.get("Healthcheck")),
            "labelled": all(config["Labels"].get(f"org.opencontainers.image.{label}") for label in LABELS),
        }
        faults += [f"{image}: not {promise}" for promise, is_kept in holds.items() if not is_kept]
        found = stack.docker("run", "--rm", "--read-only", "--network", "none", image, "sh", "-c", FIND_TOOLS)
        if found.strip():
            faults.append(f"{image} has {' '.join(found.split())}")
        said = stack.docker("history", "--no-trunc", image) + stack.docker("inspect", image)
        faults += [f"{image}: {name} is in it" for name in SECRETS if stack.secrets[name] in said]
    return faults


def wait_for_health(stack: Stack, timeout_s: float = 900) -> list[str]:
    """Services that aren't healthy when time is up."""
    give_up = time.monotonic() + timeout_s
    while True:
        states = {name: one["State"] for name, one in stack.containers().items()}
        ill = {name for name, state in states.items() if state.get("Health", {}).get("Status", "healthy") != "healthy"}
        ended = {name for name, state in states.items() if not state["Running"] and name != "migrate"}
        if not ill | ended or time.monotonic() > give_up:
            return [f"{name} isn't healthy" for name in sorted(ill | ended)]
        time.sleep(1)


def faults_of_workers(client: Client) -> list[str]:
    """Every service has a living worker, and none has anything under way."""
    alive = [worker for worker in settled(lambda: list(client.workers())) if worker.is_alive]
    kinds = {str(kind) for worker in alive for kind in worker.kinds}
    expected = {
        "arrangement",
        "candidates",
        "embedding",
        "embedding_shard",
        "train_job",
        "loss",
        "generation",
        "text_metrics",
        "reward",
    }
    busy = [worker.id for worker in alive if worker.runs]
    faults = [] if expected <= kinds else [f"no living worker for {', '.join(sorted(expected - kinds))}"]
    return faults + [f"{worker} still has a run" for worker in busy]


def faults_of_logs(stack: Stack, key: str) -> list[str]:
    """No secret is in what the services print."""
    printed = stack.compose("logs", "--no-color")
    secrets = {**stack.secrets, "the key": key}
    return [f"{name} is in the logs" for name, value in secrets.items() if value in printed]


def faults_of_stops(stack: Stack, stops: Iterable[Stop]) -> list[str]:
    """Every service was told to end, once or more, and did so by itself within its grace."""
    stops = list(stops)
    missing = stack.containers().keys() - {stop.service for stop in stops}
    faults = [f"{service}: its end wasn't seen" for service in sorted(missing)]
    return faults + [stop.fault for stop in stops if stop.fault]


def image_sizes(stack: Stack) -> dict[str, float]:
    """Gigabytes on the disk, by image."""
    return {image: round(int(stack.docker("inspect", "--format", "{{.Size}}", image)) / 1e9, 2) for image in IMAGES}
