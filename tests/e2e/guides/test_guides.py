"""Each guide is run as it is written, in a folder that holds what its first lines say, against a suite of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.guides.pages import GUIDES, Block, announced, blocks_of, normalised
from tests.support.helm import provide_helm
from tests.support.suite import free_port

pytestmark = pytest.mark.slow

REPOSITORY = GUIDES.parents[1]
FOLDERS = {"figure3.md": ["presets"], "laptop-to-cluster.md": ["helm"]}
"""Of the checkout that a page says it is run in."""
TIMEOUT_S = 3000
_MARK = "@@ block of line "


def program(blocks: list[Block], port: int) -> str:
    """One bash program of a page's shell blocks, which says before each where it is. The API's port is a free one."""
    parts = [f'echo "{_MARK}{block.line}"\n{block.body}' for block in blocks if block.kind == "sh"]
    return "set -euo pipefail\n" + "\n".join(parts).replace("8000", str(port))


def environment(folder: Path) -> dict[str, str]:
    """A user's, whose `nearfirst` and `python3` are this interpreter's, with a Helm."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEARFIRST_")}
    programs = [str(Path(sys.executable).parent), kept["PATH"]]
    if "helm" in {each.name for each in folder.iterdir()}:
        programs.insert(0, str(provide_helm().parent))
    return kept | {"PATH": os.pathsep.join(programs), "COLUMNS": "100"}


@contextmanager
def ended_with_its_children(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """What a page starts in the background ends with it."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def run(page: str, folder: Path) -> dict[int, str]:
    """Run a page's blocks; what each printed, stderr too, by the line where it begins."""
    log = folder.parent / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", program(blocks_of(page), free_port())],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with ended_with_its_children(process):
            code = process.wait(TIMEOUT_S)
    text = log.read_text(encoding="utf-8", errors="replace")
    assert code == 0, f"a block exited {code}:\n{text[-4000:]}"
    parts = text.split(_MARK)[1:]
    return {int(part.partition("\n")[0]): part.partition("\n")[2] for part in parts}


def missing_lines(block: Block, printed: str) -> list[str]:
    """Lines that a page announces and that weren't printed; exit codes to the digit."""
    found = [normalised(line) for line in printed.splitlines()]
    codes = [line.strip() for line in block.body.splitlines() if line.startswith("exit code")]
    missing = [line for line in codes if line not in printed]
    return missing + [line for line in announced(block) if not any(line in each for each in found)]


@pytest.mark.timeout(TIMEOUT_S + 120)
@pytest.mark.parametrize("name", sorted(path.name for path in GUIDES.glob("*.md")))
def test_a_guide_does_what_it_says(name: str, tmp_path: Path) -> None:
    page = (GUIDES / name).read_text(encoding="utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    for needed in FOLDERS.get(name, []):
        shutil.copytree(REPOSITORY / needed, folder / needed)
    printed = run(page, folder)
    last_line, checked = 0, 0
    for block in blocks_of(page):
        if block.kind == "sh":
            last_line = block.line
        elif block.kind == "text":
            assert missing_lines(block, printed[last_line]) == [], printed[last_line]
            checked += 1
    assert checked > 0
