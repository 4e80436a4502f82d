"""Training by several ranks, against one rank that makes whole steps."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.support.ranks import outcomes, run
from transformers import AutoModelForCausalLM

from nearfirst.contracts.problems import OrderMismatch, StateConflict
from nearfirst.contracts.progress import Interrupted
from nearfirst.contracts.training import CheckpointSpec, LoraSpec, ModelSpec, OptimizerSpec


def metrics_of(job, name):
    lines = [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]
    return [line["value"] for line in lines if line["name"] == name]


def last_weights(result):
    return [Path(each.path) for each in result.checkpoints if each.tier == "weights"][-1]


WORLDS = {
    "two ranks, ddp": {"processes": 2},
    "two ranks, fsdp": {"processes": 2, "strategy": "fsdp"},
    "three ranks, uneven": {"processes": 3, "micro_batch_size": 2},
    "three ranks, uneven, fsdp": {"processes": 3, "micro_batch_size": 2, "strategy": "fsdp"},
    "one rank, fsdp": {"strategy": "fsdp"},
    "fsdp, activations computed again": {"processes": 2, "strategy": "fsdp", "activation_checkpointing": True},
    "losses looked at every third step": {"processes": 2, "log_every": 3},
    "rows one by one": {"micro_batch_size": 1},
    "eight rows at once": {"micro_batch_size": 8, "micro_batch_tokens": 10_000},
    "few tokens at once": {"micro_batch_tokens": 60},
}


@pytest.fixture(scope="module")
def alone():
    """What one rank gives in whole steps; filled in by the first test that asks."""
    return {}


@pytest.mark.parametrize("world", WORLDS)
def test_ranks_and_micro_batches_change_rounding_only(make_job, tmp_path, shuffled_order, test_file, alone, world):
    fields = {
        "order": str(shuffled_order),
        "test_examples": str(test_file),
        "evaluate_every": 2,
        "max_length": 128,
        "optimizer": OptimizerSpec(lr=1e-3),
    }
    names = ("train_loss", "grad_norm", "test_loss")
    if not alone:
        job = make_job(out=str(tmp_path / "alone"), **fields)
        alone["result"] = run(job)
        alone.update({name: metrics_of(job, name) for name in names})
        alone["weights"] = load_file(last_weights(alone["result"]) / "model.safetensors")
    job = make_job(out=str(tmp_path / "shared"), **fields, **WORLDS[world])
    result = run(job)
    assert result.receipt == alone["result"].receipt
    assert result.num_tokens == alone["result"].num_tokens
    for name in names:
        assert metrics_of(job, name) == pytest.approx(alone[name], rel=2e-6)
    assert len(metrics_of(job, "train_loss")) == 5
    weights = AutoModelForCausalLM.from_pretrained(last_weights(result)).state_dict()
    for name, tensor in alone["weights"].items():
        assert (weights[name] - tensor).abs().max() < 2e-5


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_interrupted_and_resumed_give_the_bytes_of_an_uninterrupted_run(make_job, tmp_path, strategy):
    fields = {"processes": 2, "strategy": strategy, "checkpoint": CheckpointSpec(state_every=4, weights_every=4)}
    whole, stopped = (make_job(out=str(tmp_path / name), **fields) for name in ("whole", "stopped"))
    expected = run(whole)
    assert [type(error) for _, error in outcomes(stopped, "told to stop")] == [Interrupted] * 2
    result = run(stopped.model_copy(update={"resume": True}))
    assert (result.resumed_from, result.receipt) == (2, expected.receipt)
    names = {path.relative_to(whole.out) for path in Path(whole.out).rglob("*.safetensors")}
    assert {path.name for path in names} == {
        "model.safetensors",
        "state-00000-of-00002.safetensors",
        "state-00001-of-00002.safetensors",
    }
    for name in names:
        assert (Path(whole.out) / name).read_bytes() == (Path(stopped.out) / name).read_bytes(), name


def test_a_run_of_another_number_of_processes_is_refused_by_name(make_job):
    job = make_job(processes=2, max_steps=1)
    run(job)
    settings = job.settings.model_copy(update={"processes": 1})
    with pytest.raises(StateConflict, match=r"settings\.processes was 2, now is 1"):
        run(job.model_copy(update={"settings": settings, "resume": True}))


@pytest.mark.parametrize("trouble", ["shuffle", "drop", "repeat"])
def test_every_rank_refuses_the_step_at_which_one_rank_loses_the_order(make_job, trouble):
    job = make_job(processes=2)
    found = outcomes(job, trouble)
    assert [type(error) for _, error in found] == [OrderMismatch] * 2
    assert all(error.detail.startswith("step 3: row") for _, error in found)
    assert [json.loads(line)["step"] for line in (Path(job.out) / "consumed.jsonl").read_text().splitlines()] == [1, 2]


def test_a_rank_that_cannot_write_fails_the_checkpoint_on_all_and_names_itself(make_job):
    job = make_job(processes=2, strategy="fsdp", checkpoint=CheckpointSpec(state_every=1, keep_state=5))
    found = outcomes(job, "full disk")
    assert {error.code for _, error in found} == {"checkpoint_not_written"}
    assert all("step 2" in e.detail and "No space left on device (on rank 1)" in e.detail for _, e in found)
    resumed = run(job.model_copy(update={"resume": True}))
    assert (resumed.resumed_from, resumed.steps) == (1, 5)


@pytest.mark.parametrize("processes", [1, 2])
def test_lora_trains_adapters_only_and_writes_them(make_job, tmp_path, processes):
    base = last_weights(run(make_job(out=str(tmp_path / "base"), max_steps=1)))
    job = make_job(
        model=ModelSpec(name_or_path=str(base)),
        tuning="lora",
        lora=LoraSpec(rank=4, alpha=8),
        processes=processes,
        optimizer=OptimizerSpec(lr=3e-2),
        epochs=2,
    )
    result = run(job)
    losses = metrics_of(job, "train_loss")
    assert sum(losses[-5:]) < sum(losses[:5])
    folder = last_weights(result)
    adapters = load_file(folder / "adapter_model.safetensors")
    assert {name.split(".lora_")[1][0] for name in adapters} == {"A", "B"}
    plain = AutoModelForCausalLM.from_pretrained(base)
    tokens = torch.arange(3, 20)[None]
    before = plain(tokens).logits
    adapted = PeftModel.from_pretrained(plain, folder)
    assert (adapted(tokens).logits - before).abs().max() > 0.01
