"""What made a checkpoint: a digest of the settings, the versions of packages, the revision of the source."""

import hashlib
import json
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nearfirst.contracts.problems import StateConflict

_PACKAGES = ("nearfirst", "nearfirst-training", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def spec_digest(identity: dict[str, Any]) -> str:
    """`sha256:<hex>` of the canonical JSON of a run's identity."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def refuse_other_identity(stored: dict[str, Any], current: dict[str, Any]) -> None:
    """Refuse to go on with a run under anything that would change its weights.

    Raises:
        StateConflict: the detail names each difference with both values: `settings.optimizer.lr`.
    """
    before, now = _flat(stored), _flat(current)
    absent = "nothing"
    differing = [
        f"{name} was {before.get(name, absent)!r}, now is {now.get(name, absent)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, absent) != now.get(name, absent)
    ]
    if differing:
        raise StateConflict("can't resume this run with other inputs: " + "; ".join(differing))


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dicts by their dotted path."""
    leaves: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            leaves.update(_flat(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; packages that aren't installed are absent."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@cache
def git_revision() -> str | None:
    """Commit of the checkout that this code runs from; None outside a checkout or without git."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
