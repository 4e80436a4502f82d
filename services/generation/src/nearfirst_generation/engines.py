"""The engine that a worker uses: a server's when one is named, else one in this process."""

import threading
from pathlib import Path

from nearfirst_generation.engine import Engine
from nearfirst_generation.settings import GenerationServerSettings


def open_engine(settings: GenerationServerSettings, stopping: threading.Event | None = None) -> Engine:
    """The engine behind NEARFIRST_GENERATION_URL, which outlives this process; without it transformers, in process.

    `stopping`: set when this process shall end, so that it doesn't wait for a server.
    """
    if settings.generation_url is not None:
        from nearfirst_generation.remote_engine import RemoteEngine

        return RemoteEngine.from_settings(settings, stopping)
    from nearfirst_generation.transformers_engine import TransformersEngine

    # Checkpoints were looked at when they were asked for: a unit names none that lies outside the allowed roots.
    return TransformersEngine([Path("/")])
