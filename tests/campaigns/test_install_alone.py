"""Each distribution, really installed into an environment of its own and imported there: `make test-distributions`.

Slow: six environments, two of them with torch. `TORCH_INDEX` may name an index with CPU wheels of torch, as in the
Makefile.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.distributions import PROMISES, REPOSITORY, SOURCES, Promise, declared_closure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONSTRAINTS = REPOSITORY / "constraints.txt"
IMPORTER = REPOSITORY / "tests/support/import_modules.py"


def _run(*command: str | Path, cwd: Path) -> str:
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def _torch_pin() -> str:
    pin = re.search(r"^torch==\S+$", CONSTRAINTS.read_text(), flags=re.MULTILINE)
    assert pin is not None, f"{CONSTRAINTS} pins no torch"
    return pin.group()


def _install(python: Path, requirement: str, cwd: Path) -> None:
    """Torch first and alone, so that no resolver brings CUDA packages with it; then the rest, ours from here."""
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    closure = declared_closure(requirement)
    if "torch" in closure:
        index = (
            ("--retries", "0", "--extra-index-url", os.environ["TORCH_INDEX"]) if "TORCH_INDEX" in os.environ else ()
        )
        _run(*pip, "--no-deps", *index, _torch_pin(), cwd=cwd)
    extras = requirement[requirement.index("[") :] if "[" in requirement else ""
    project = requirement.removesuffix(extras)
    ours = [f"{source}{extras if name == project else ''}" for name, source in SOURCES.items() if name in closure]
    _run(*pip, "-c", CONSTRAINTS, *ours, cwd=cwd)


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Path]:
    """The interpreter of an empty environment, which is removed after the test: with torch it is over 1 GB."""
    environment = tmp_path / "venv"
    _run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    yield environment / "bin/python"
    shutil.rmtree(environment)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.requirement)
def test_a_distribution_installs_and_imports_in_a_fresh_environment(
    promise: Promise, python: Path, tmp_path: Path
) -> None:
    _install(python, promise.requirement, tmp_path)
    _run(python, "-m", "pip", "check", cwd=tmp_path)
    outcome = json.loads(_run(python, "-I", IMPORTER, *promise.packages, cwd=tmp_path))
    assert outcome["errors"] == {}
    assert set(promise.packages) <= set(outcome["imported"])
