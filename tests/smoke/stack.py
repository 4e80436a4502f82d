"""The Compose stack under a name, ports, secrets and volumes of its own, so that one in use is left alone."""

import json
import os
import secrets
import socket
import subprocess
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
_OURS = ("STACK_", "COMPOSE_", "NEARFIRST_")
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "INTERNAL_KEY")


class StackFailed(Exception):
    """A command of docker failed; the message has what it printed."""


class Stack:
    """Runs `docker compose` on compose.yaml."""

    def __init__(self, models: Path, *, reward_model: str, engine: str) -> None:
        """Starts nothing yet.

        Args:
            models: folder of this machine that services see as /models.
            reward_model: what the scoring server loads, as services see it.
            engine: of generation: vllm or transformers.
        """
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.secrets = {name: secrets.token_hex(24) for name in SECRETS}
        self._project = f"nearfirst-smoke-{os.getpid()}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            **self.secrets,
            "COMPOSE_PROJECT_NAME": self._project,
            "COMPOSE_PROFILES": "rewards",
            "COMPOSE_ENV_FILES": os.devnull,
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "plain",
            "NEARFIRST_REWARD_MODEL": reward_model,
            "NEARFIRST_SCORING_URL": "http://scoring:8000",
            "STACK_API_PORT": self.url.rsplit(":", 1)[1],
            "STACK_EMBEDDING_PORT": str(_free_port()),
            "STACK_GENERATION_ENGINE": engine,
            "STACK_MODELS": str(models),
            "STACK_VERSION": "smoke",
        }

    def compose(self, *arguments: str, timeout_s: float = 3600) -> str:
        """What `docker compose` prints.

        Raises:
            StackFailed: it failed.
        """
        return self._run(["docker", "compose", "--file", str(REPOSITORY / "compose.yaml"), *arguments], timeout_s)

    def docker(self, *arguments: str) -> str:
        """What `docker` prints.

        Raises:
            StackFailed: it failed.
        """
        return self._run(["docker", *arguments], 600)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What `docker inspect` says of each container, by service; those that have ended too."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(self.docker("inspect", *ids))
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def events_command(self, *events: str) -> list[str]:
        """A command that prints these events of the stack's containers as they happen, one JSON object a line."""
        wanted = [argument for event in events for argument in ("--filter", f"event={event}")]
        # Images that Compose built have its labels of project and service, and so has whatever is run on them.
        for label in (f"com.docker.compose.project={self._project}", "com.docker.compose.container-number"):
            wanted += ["--filter", f"label={label}"]
        return ["docker", "events", "--format", "{{json .}}", "--filter", "type=container", *wanted]

    def _run(self, command: list[str], timeout_s: float) -> str:
        done = subprocess.run(
            command, env=self._environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode:
            raise StackFailed(f"{' '.join(command)}: {done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
