"""The page on a suite that runs: `nearfirst up`, its workers, a training that is watched."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect
from tests.support import browser as chromium
from tests.support.suite import free_port
from tests.support.tiny import make_tiny_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

START_S = 180
TRAINING_MS = 300_000
TEXTS = [(f"Which number follows {n}?", f"The number {n + 1} follows {n}.") for n in range(64)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the suite keeps everything."""
    return tmp_path_factory.mktemp("suite") / "home"


@pytest.fixture(scope="module")
def model(home: Path) -> str:
    """A folder for `init: random`."""
    texts = [text for pair in TEXTS for text in pair]
    return str(make_tiny_llama(home / "models" / "tiny", texts, vocab_size=300, hidden_size=32, layers=1, heads=2))


@pytest.fixture(scope="module")
def suite(home: Path, model: str) -> Iterator[httpx.Client]:
    """A client of a whole embedded suite."""
    folder, port = home.parent, free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEARFIRST_")}
    command = [sys.executable, "-m", "nearfirst.client", "up", "--home", str(home), "--port", str(port)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process, folder / "up.log")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_s = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_s, log.read_text()
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)


def test_a_training_is_watched_from_the_queue_to_its_verified_receipt(
    suite: httpx.Client, context: BrowserContext, model: str
) -> None:
    url = str(suite.base_url).rstrip("/")
    rows = "".join(json.dumps({"instruction": asked, "output": answer}) + "\n" for asked, answer in TEXTS)
    dataset = suite.post("/datasets", files={"file": ("numbers.jsonl", rows.encode())}).raise_for_status().json()["id"]
    sides = {"train": {"dataset": dataset}, "test": {"dataset": dataset}}
    with chromium.opened(context, url) as (page, _):
        page.goto(url)
        arrangement = suite.post("/arrangements", json=sides | {"method": "random"}).raise_for_status().json()["id"]
        body = {
            "arrangement": arrangement,
            "model": {"name_or_path": model, "init": "random"},
            "global_batch_size": 8,
            "max_length": 128,
            "epochs": 4,
            "optimizer": {"lr": 1e-3},
            "checkpoint": {"weights_every": 16},
            "evaluate": {"test": {"dataset": dataset}, "every": 8},
        }
        job = suite.post("/train-jobs", json=body).raise_for_status().json()["id"]
        changes = page.get_by_role("region", name="Recent changes")
        expect(changes.get_by_role("link", name=job).first).to_be_visible()
        changes.get_by_role("link", name=job).first.click()
        expect(page.get_by_role("img", name=re.compile("^Loss of"))).to_be_visible(timeout=TRAINING_MS)
        expect(page.locator("h1 .badge")).to_have_text("succeeded", timeout=TRAINING_MS)
        expect(page.get_by_role("img", name=re.compile("^Loss of .* at step 32"))).to_be_visible()
        receipt = page.get_by_role("region", name="Order receipt")
        expect(receipt).to_contain_text("Verified")
        head = suite.get(f"/train-jobs/{job}/receipt").json()["head"]
        expect(receipt.locator(f'code[title="{head}"]')).to_be_visible()
        checkpoints = page.get_by_role("region", name="Checkpoints", exact=True).last
        expect(checkpoints.get_by_role("rowheader").first).to_have_text("32")
        page.get_by_role("navigation", name="Views").get_by_role("link", name="Overview").click()
        expect(page.get_by_role("region", name="Workers")).to_contain_text("training")
