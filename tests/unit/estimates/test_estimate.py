"""Estimates put together, and jobs that don't fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nearfirst.client.estimate_table import estimate_table
from nearfirst.contracts.estimates import Available, TokenEstimate, TrainEstimate
from nearfirst.contracts.problems import DoesNotFit
from nearfirst.contracts.training import TrainSettings
from nearfirst.estimates.estimate import MeasuredRate, estimate_training, refuse_what_does_not_fit
from nearfirst.estimates.model_files import read_model_folder

GB = 10**9
LLAMA_7B = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
PARAMETERS = 6_738_415_616
TOKENS = TokenEstimate(
    tokens=6_000_000,
    padded_tokens=6_400_000,
    is_exact=False,
    num_rows_read=2048,
    standard_error=50_000,
    longest_row=1024,
    largest_pass=8192,
)


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_7B))
    return tmp_path


Estimate = Callable[..., tuple[TrainSettings, TrainEstimate]]


@pytest.fixture
def estimate(large_folder: Path) -> Estimate:
    """The paper's job on 28,751 rows."""

    def make(
        available: Available | None = None, rate: MeasuredRate | None = None, **fields: Any
    ) -> tuple[TrainSettings, TrainEstimate]:
        model = {"name_or_path": str(large_folder), "init": "random"}
        settings = TrainSettings.model_validate({"model": model, "preset": "paper"} | fields)
        found = estimate_training(
            settings,
            28_751,
            read_model_folder(settings.model),
            tokens=TOKENS,
            rate=rate,
            available=available or Available(),
            remarks=[],
        )
        return settings, found

    return make


def test_the_papers_job_has_its_steps_and_its_checkpoints(estimate: Estimate) -> None:
    _, found = estimate()
    assert (found.steps, found.rows, found.tokens) == (1797, 28_751, 6_000_000)
    checkpoints, memory = found.estimates.checkpoints, found.estimates.memory
    assert checkpoints is not None
    assert memory is not None
    # Every 10 steps and after the last; 2 bytes a weight. States: 12 bytes a weight, two kept, three for a moment.
    assert (checkpoints.num_weights, checkpoints.num_states) == (180, 2)
    assert checkpoints.weights_bytes == pytest.approx(2 * PARAMETERS, rel=1e-4)
    assert checkpoints.state_bytes == pytest.approx(12 * PARAMETERS, rel=1e-4)
    assert found.checkpoint_bytes == 180 * checkpoints.weights_bytes + 2 * checkpoints.state_bytes
    assert checkpoints.peak_bytes == checkpoints.kept_bytes + checkpoints.state_bytes
    assert memory.certain_bytes == 8 * PARAMETERS  # 16 bytes over two processes
    assert found.gpu_memory_bytes == memory.total_bytes


def test_the_papers_job_fits_two_gpus_of_80_gb(estimate: Estimate) -> None:
    settings, found = estimate(Available(gpu_memory_bytes=80 * GB, disk_bytes=4000 * GB))
    refuse_what_does_not_fit(settings, found.estimates)
    assert found.gpu_memory_bytes is not None
    assert found.gpu_memory_bytes < 80 * GB


def test_a_job_whose_weights_alone_are_too_large_is_refused_with_the_numbers(estimate: Estimate) -> None:
    settings, found = estimate(Available(gpu_memory_bytes=80 * GB), gpus=1)
    with pytest.raises(DoesNotFit, match=r"gpus 1: .* take 107\.8 GB of each GPU \(single\).* has 80\.0 GB"):
        refuse_what_does_not_fit(settings, found.estimates)


@pytest.mark.parametrize("remedy", [{"tuning": "lora"}, {"gpus": 4}, {"strategy": "fsdp", "offload_optimizer": True}])
def test_what_the_refusal_recommends_helps(estimate: Estimate, remedy: dict[str, Any]) -> None:
    available = Available(gpu_memory_bytes=40 * GB)
    settings, found = estimate(available)
    with pytest.raises(DoesNotFit):
        refuse_what_does_not_fit(settings, found.estimates)
    settings, found = estimate(available, **remedy)
    refuse_what_does_not_fit(settings, found.estimates)


def test_checkpoints_that_are_more_than_the_disk_has_free_are_refused(estimate: Estimate) -> None:
    settings, found = estimate(Available(disk_bytes=2000 * GB))
    with pytest.raises(DoesNotFit, match=r"180 weights of 13\.5 GB and 2 states of 80\.9 GB .* 2,000\.0 GB are free"):
        refuse_what_does_not_fit(settings, found.estimates)
    settings, found = estimate(Available(disk_bytes=2000 * GB), checkpoint={"keep_weights": 100})
    refuse_what_does_not_fit(settings, found.estimates)


def test_tight_memory_is_a_remark(estimate: Estimate) -> None:
    _, found = estimate(Available(gpu_memory_bytes=60 * GB))
    assert any("memory is tight" in remark and "60.0 GB" in remark for remark in found.remarks)


def test_what_is_not_known_is_said(estimate: Estimate) -> None:
    _, found = estimate()
    assert any("no worker has announced a GPU's memory" in remark for remark in found.remarks)
    assert any("no run of this size" in remark for remark in found.remarks)


def test_the_time_comes_from_a_run_that_is_named(estimate: Estimate) -> None:
    _, found = estimate(rate=MeasuredRate("job_1", 12_000.0, 40))
    assert found.estimates.time is not None
    assert found.estimates.time.seconds == pytest.approx(500)
    assert found.estimates.time.run == "job_1"


def test_a_model_of_unknown_size_leaves_the_parts_that_need_it_out(estimate: Estimate) -> None:
    _, found = estimate(model={"name_or_path": "owner/name"})
    assert found.steps == 1797
    assert (found.checkpoint_bytes, found.gpu_memory_bytes, found.estimates.parameters) == (None, None, None)


def test_without_tokens_the_largest_pass_is_what_the_settings_allow(large_folder: Path) -> None:
    def pass_tokens(**fields: Any) -> int:
        model = {"name_or_path": str(large_folder), "init": "random"}
        settings = TrainSettings.model_validate({"model": model, "preset": "paper"} | fields)
        found = estimate_training(
            settings,
            100,
            read_model_folder(settings.model),
            tokens=None,
            rate=None,
            available=Available(),
            remarks=[],
        )
        assert found.estimates.memory is not None
        return found.estimates.memory.pass_tokens

    assert pass_tokens() == 8 * 1024
    assert pass_tokens(micro_batch_size=3) == 3 * 1024
    assert pass_tokens(micro_batch_tokens=2500) == 2 * 1024
    assert pass_tokens(micro_batch_tokens=100) == 1024


def test_the_table_shows_every_number(estimate: Estimate) -> None:
    _, found = estimate(Available(gpu_memory_bytes=80 * GB, disk_bytes=4000 * GB), MeasuredRate("job_1", 100.0, 40))
    console = Console(width=120)
    with console.capture() as capture:
        console.print(estimate_table(found, "spec.yaml"))
    text = capture.get()
    for shown in (
        "1,797",
        "6,000,000 (± 50,000 standard error, 2,048 rows read)",
        "6,400,000 (+ 6.7%)",
        "6,738,415,616 (from the model's config)",
        "180 of 13.5 GB",
        "2 of 80.9 GB",
        "16 h 40 min (100 tokens/s, median of 40 steps of job_1)",
        "4,000.0 GB",
    ):
        assert shown in text
