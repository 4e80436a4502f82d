"""Trainings that can't go on, through the whole queue: each says why, and its last good checkpoint is kept and listed.

A job for more GPUs than any worker has is in test_gpu_queue.py.
"""

import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.suite import RunningSuite
from tests.support.trainers import ranks_of, wait_for_ranks

pytestmark = pytest.mark.slow

NUM_SHORT, NUM_LONG = 16, 8
"""Two steps of short rows, and one in which those of rank 1 are long."""
MEMORY_BYTES = 12 * 2**30
"""Of addresses, for each process: a rank has enough of them for any step but one whose logits are larger."""


@pytest.fixture(scope="module")
def suite(make_suite: Callable[..., RunningSuite]) -> RunningSuite:
    """API and one training worker, whose processes may have so much memory."""
    running = make_suite(NEARFIRST_MAX_CRASHES="1")
    running.start_api()
    running.start_worker("training")
    resource.prlimit(running.pid("training"), resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    return running


@pytest.fixture(scope="module")
def dataset(suite: RunningSuite) -> str:
    """Rows of a few words, and then, at every second place, some of a thousand."""
    short = [{"id": f"short-{n}", "prompt": "Say rain.", "completion": f"rain {n}"} for n in range(NUM_SHORT)]
    long = [
        {"id": f"long-{n}", "prompt": "Say chess.", "completion": "chess " * (1000 if n % 2 else 1)}
        for n in range(NUM_LONG)
    ]
    path = suite.home / "data" / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in short + long))
    return str(suite.upload(path)["id"])


@pytest.fixture
def submit(suite: RunningSuite, dataset: str) -> Callable[..., str]:
    """Queue a job with a state and weights after each step; returns its id."""

    def post(*, model: dict[str, Any] | None = None, **fields: Any) -> str:
        body = {
            "dataset": dataset,
            "model": {"name_or_path": str(suite.home / "models" / "tiny"), "init": "random", **(model or {})},
            "global_batch_size": 8,
            "max_length": 1000,
            "checkpoint": {"weights_every": 1, "state_every": 1, "keep_state": 1},
            **fields,
        }
        return suite.post("/train-jobs", body)

    return post


def failed(suite: RunningSuite, job_id: str) -> dict[str, Any]:
    """The error of a job that has ended."""
    done = suite.wait(f"/train-jobs/{job_id}")
    assert done["state"] == "failed", done
    return dict(done["error"])


def listed(suite: RunningSuite, job_id: str, tier: str) -> list[int]:
    """Steps of the checkpoints that the API lists; each of them is whole."""
    checkpoints = suite.get(f"/train-jobs/{job_id}/checkpoints")["items"]
    for checkpoint in checkpoints:
        files = json.loads((Path(checkpoint["path"]) / "manifest.json").read_text())["files"]
        assert {name: (Path(checkpoint["path"]) / name).stat().st_size for name in files} == {
            name: entry["size_bytes"] for name, entry in files.items()
        }
    return [checkpoint["step"] for checkpoint in checkpoints if checkpoint["tier"] == tier]


def test_a_rank_that_finds_no_memory_says_so_with_the_size_of_its_pass(
    suite: RunningSuite, submit: Callable[..., str]
) -> None:
    # 4 rows x 999 tokens x 2,000,000 words x 4 bytes = 30 GiB of logits, on one of two ranks
    job_id = submit(
        model={"config": {"vocab_size": 2_000_000, "hidden_size": 4, "num_attention_heads": 2}}, processes=2
    )
    error = failed(suite, job_id)
    assert error["code"] == "out_of_memory"
    assert error["detail"].startswith("step 3: ")
    assert "can't allocate memory" in error["detail"]
    assert "4 rows of 1000 tokens" in error["detail"]
    assert listed(suite, job_id, "state") == [2]
    assert listed(suite, job_id, "weights") == [1, 2]


def test_a_rank_that_is_killed_again_and_again_fails_the_job_with_what_happened_each_time(
    suite: RunningSuite, submit: Callable[..., str]
) -> None:
    worker = suite.pid("training")
    job_id = submit(processes=2, epochs=1000, checkpoint={"state_every": 20})
    suite.wait_for_metric(job_id, "train_loss", step=30)
    killed = ranks_of(worker)[1]
    killed.kill()
    killed.wait(10)
    suite.wait(f"/train-jobs/{job_id}", until=("queued", "running"))
    while suite.get(f"/train-jobs/{job_id}")["attempt"] < 2:
        time.sleep(0.05)
    wait_for_ranks(worker, 2)[1].kill()  # while it starts: it makes no step, so this is the second time in a row
    error = failed(suite, job_id)
    assert error["code"] == "training_process_died"
    assert error["detail"].startswith(
        "its process hung or vanished 2 times, the limit is 1: attempt 1: rank 1 was killed"
    )
    assert error["detail"].count("rank 1 was killed by SIGKILL (signal 9), probably because memory ran out") == 2
    steps = listed(suite, job_id, "state")
    assert steps
    assert all(step % 20 == 0 for step in steps)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "nearfirst-test", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_job_and_leaves_what_was_written_before(
    suite: RunningSuite, submit: Callable[..., str], small_disk: Path
) -> None:
    suite.stop("training")
    suite.start_worker("training", "on-small-disk", NEARFIRST_RUNS_DIR=str(small_disk))
    try:
        job_id = submit(processes=2, max_steps=100, checkpoint={"weights_every": 1, "state_every": 2})
        error = failed(suite, job_id)
    finally:
        suite.stop("on-small-disk")
        suite.start_worker("training")
    assert error["code"] == "checkpoint_not_written"
    assert "No space left on device" in error["detail"]
    weights, states = listed(suite, job_id, "weights"), listed(suite, job_id, "state")
    assert weights == list(range(1, len(weights) + 1))
    assert states[-1] in (weights[-1], weights[-1] - 1)


def test_a_file_that_grows_beyond_its_limit_ends_the_job_in_the_same_way(
    suite: RunningSuite, submit: Callable[..., str]
) -> None:
    job_id = submit(epochs=1000, checkpoint={"state_every": 20})
    suite.wait_for_metric(job_id, "train_loss", step=25)
    trainer = ranks_of(suite.pid("training"))[0]
    largest = 200_000  # bytes: less than a state has, more than the logs will
    resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (largest, largest))
    error = failed(suite, job_id)
    assert error["code"] == "checkpoint_not_written"
    assert "state checkpoint of step" in error["detail"]
    assert "File too large" in error["detail"]
    steps = listed(suite, job_id, "state")
    assert steps
    assert all(step % 20 == 0 for step in steps)
    refused = int(error["detail"].split("state checkpoint of step ")[1].split(":")[0])
    assert steps[-1] == refused - 20


def test_a_nan_in_the_weights_ends_the_job_at_the_step_that_meets_it(
    suite: RunningSuite, submit: Callable[..., str]
) -> None:
    first = submit(model={"config": {"tie_word_embeddings": False}}, max_steps=1)
    assert suite.wait(f"/train-jobs/{first}")["state"] == "succeeded"
    checkpoints = suite.get(f"/train-jobs/{first}/checkpoints")["items"]
    broken = suite.home / "models" / "broken"
    Path(next(each["path"] for each in checkpoints if each["tier"] == "weights")).rename(broken)
    tensors = load_file(broken / "model.safetensors")
    vocabulary = json.loads((broken / "tokenizer.json").read_text())["model"]["vocab"]
    chess = [number for piece, number in vocabulary.items() if "chess" in piece]
    assert chess
    tensors["model.embed_tokens.weight"][chess] = torch.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    job_id = submit(model={"name_or_path": str(broken), "init": "pretrained"})
    error = failed(suite, job_id)
    assert error["code"] == "non_finite_loss"
    assert error["detail"].startswith("step 3: train_loss is nan")
    assert "long-0, long-1" in error["detail"]
    assert listed(suite, job_id, "state") == [2]


def test_a_tokenizer_with_more_tokens_than_the_model_has_is_refused_with_both_numbers(
    suite: RunningSuite, submit: Callable[..., str]
) -> None:
    job_id = submit(model={"config": {"vocab_size": 50}})
    error = failed(suite, job_id)
    assert error["code"] == "invalid_model"
    assert "the model's vocabulary 50" in error["detail"]
    assert listed(suite, job_id, "weights") == []
