"""Each distribution imports where only what it declares is installed, and the API needs no torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.distributions import PROMISES, REPOSITORY, SOURCES, Promise, declared_closure, link_closure

IMPORTER = REPOSITORY / "tests/support/import_modules.py"


def import_alone(requirement: str, packages: tuple[str, ...], folder: Path) -> dict[str, dict[str, str]]:
    """Import packages in an interpreter that sees the standard library and the requirement's closure."""
    site = folder / "site"
    site.mkdir()
    path = link_closure(declared_closure(requirement), site)
    options = [part for entry in path for part in ("--path", str(entry))]
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(IMPORTER), *options, *packages],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.requirement)
def test_a_distribution_imports_with_nothing_but_what_it_declares(promise: Promise, tmp_path: Path) -> None:
    outcome = import_alone(promise.requirement, promise.packages, tmp_path)
    assert outcome["errors"] == {}
    assert set(promise.packages) <= set(outcome["imported"])


def test_a_dependency_that_is_not_declared_is_missed(tmp_path: Path) -> None:
    outcome = import_alone("nearfirst", ("nearfirst.web",), tmp_path)
    assert any("fastapi" in error for error in outcome["errors"].values()), outcome


def test_every_distribution_has_a_promise() -> None:
    assert {promise.project for promise in PROMISES} == set(SOURCES)
    assert {folder.name for folder in (REPOSITORY / "services").iterdir() if folder.is_dir()} == {
        folder.name for name, folder in SOURCES.items() if name != "nearfirst"
    }


def test_services_declare_no_service() -> None:
    services = set(SOURCES) - {"nearfirst"}
    for name in services:
        assert set(declared_closure(name)) & services == {name}


def test_the_api_process_imports_nothing_heavy(tmp_path: Path) -> None:
    program = "import json, sys, nearfirst_arrangement.app; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not {"torch", "transformers", "sentence_transformers", "vllm"} & set(json.loads(ended.stdout))
