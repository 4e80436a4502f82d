import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nearfirst.contracts.problems import CheckpointNotWritten
from nearfirst.contracts.training import CheckpointSpec, CheckpointTier, ModelSpec
from nearfirst_training.checkpoints import (
    RunIdentity,
    damaged_files,
    list_checkpoints,
    read_checkpoint,
    retain,
    write_checkpoint,
)
from nearfirst_training.loop import train
from nearfirst_training.model import load_model
from nearfirst_training.verify import verify_run

IDENTITY = RunIdentity(spec_digest="sha256:a", arrangement_digest="sha256:b", dataset_digest="sha256:c")


def write(root, step=1, tier=CheckpointTier.STATE, text="weights", fill=None):
    fill = fill or (lambda folder: (folder / "data.bin").write_text(text) and None)
    return write_checkpoint(root, tier, step, receipt_head="00", identity=IDENTITY, fill=fill)


def test_the_manifest_has_the_digest_of_every_file_and_where_it_comes_from(make_job):
    result = train(make_job(max_steps=1))
    for checkpoint in result.checkpoints:
        folder = Path(checkpoint.path)
        raw = (folder / "manifest.json").read_bytes()
        manifest = json.loads(raw)
        files = {path.name for path in folder.iterdir()} - {"manifest.json"}
        assert set(manifest["files"]) == files
        for name in files:
            assert manifest["files"][name]["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert checkpoint.digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        assert checkpoint.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
        assert manifest["arrangement_digest"] == result.receipt.arrangement_digest
        assert (manifest["step"], manifest["receipt_head"]) == (1, result.receipt.head)
        assert manifest["packages"]["torch"] == torch.__version__
    assert {c.tier for c in result.checkpoints} == {"weights", "state"}


def test_nothing_is_pickled(make_job):
    result = train(make_job(max_steps=1))
    suffixes = {path.suffix for c in result.checkpoints for path in Path(c.path).iterdir()}
    assert suffixes <= {".safetensors", ".json", ".jinja"}


def test_weights_load_into_transformers_and_give_the_same_logits(make_job, monkeypatch):
    models = []

    def remembered(*args, **kwargs):
        models.append(load_model(*args, **kwargs))
        return models[-1]

    monkeypatch.setattr("nearfirst_training.setup.load_model", remembered)
    result = train(make_job())
    folder = next(c.path for c in result.checkpoints if c.tier == "weights")
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor([tokenizer.encode("red river sings", add_special_tokens=False)])
    with torch.no_grad():
        assert torch.equal(loaded.eval()(tokens).logits, models[0][0].eval()(tokens).logits)


def test_weights_are_a_model_to_train_on(make_job, tmp_path):
    folder = train(make_job(max_steps=1)).checkpoints[0].path
    again = make_job(out=str(tmp_path / "again"), max_steps=1, model=ModelSpec(name_or_path=folder))
    assert train(again).steps == 1


def test_the_weights_of_step_0_are_those_that_the_seed_draws_and_their_receipt_is_of_no_step(make_job, tmp_path):
    job = make_job(max_steps=1, checkpoint=CheckpointSpec(initial_weights=True))
    result = train(job)
    weights = {c.step: c for c in result.checkpoints if c.tier == "weights"}
    assert sorted(weights) == [0, 1]
    drawn, _ = load_model(job.settings.model, seed=job.settings.seed, max_length=64, device=torch.device("cpu"))
    stored = load_file(Path(weights[0].path) / "model.safetensors")
    assert all(torch.equal(tensor, drawn.state_dict()[name]) for name, tensor in stored.items())
    assert weights[0].receipt_head == hashlib.sha256(result.receipt.arrangement_digest.encode()).hexdigest()
    assert verify_run(Path(job.out)).checkpoints == result.checkpoints


def test_a_checkpoint_that_was_not_finished_is_not_listed(tmp_path):
    def fill(folder):
        (folder / "data.bin").write_text("half")
        raise OSError("disk full")

    with pytest.raises(CheckpointNotWritten, match="state checkpoint of step 1: disk full"):
        write(tmp_path, fill=fill)
    assert list(tmp_path.rglob("*.bin")) == []  # the space is given back
    assert list_checkpoints(tmp_path) == []
    assert write(tmp_path).step == 1
    assert [path.name for path in (tmp_path / "step-000001").iterdir()] == ["state"]


def test_a_new_attempt_removes_what_was_left_half_written_or_half_deleted(make_job):
    job = make_job(checkpoint=CheckpointSpec(state_every=2, keep_state=5))
    folder = Path(train(job).checkpoints[0].path).parents[1]
    (folder / "step-000002/state/manifest.json").unlink()  # killed while it was deleted
    left = folder / "step-000003/state.partial"  # killed just before the rename
    shutil.copytree(folder / "step-000004/state", left)
    assert train(job.model_copy(update={"resume": True})).resumed_from == 5
    assert sorted(path.name for path in folder.glob("*/*")) == ["state", "state", "weights"]
    assert not left.exists()


@pytest.mark.parametrize("damage", ["no manifest", "half a manifest", "short file", "no file"])
def test_a_broken_checkpoint_is_not_listed(tmp_path, damage):
    folder = Path(write(tmp_path).path)
    match damage:
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "half a manifest":
            (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:50])
        case "short file":
            (folder / "data.bin").write_text("weight")
        case "no file":
            (folder / "data.bin").unlink()
    assert read_checkpoint(folder) is None
    assert list_checkpoints(tmp_path) == []


def test_a_flipped_bit_is_found_by_the_digest(tmp_path):
    checkpoint = write(tmp_path, text="weights")
    assert list(damaged_files(checkpoint)) == []
    (Path(checkpoint.path) / "data.bin").write_text("weighty")
    assert list(damaged_files(checkpoint)) == ["data.bin"]


def test_checkpoints_are_listed_by_step_across_tiers(tmp_path):
    for step, tier in ((12, "state"), (2, "weights"), (2, "state"), (1_000_000, "weights")):
        write(tmp_path, step, CheckpointTier(tier))
    listed = [(c.step, c.tier.value) for c in list_checkpoints(tmp_path)]
    assert listed == [(2, "weights"), (2, "state"), (12, "state"), (1_000_000, "weights")]
    assert [c.step for c in list_checkpoints(tmp_path, CheckpointTier.STATE)] == [2, 12]


def test_writing_a_step_again_replaces_other_bytes(tmp_path):
    first = write(tmp_path, text="one")
    assert write(tmp_path, text="one") == first
    second = write(tmp_path, text="two")
    assert second.digest != first.digest
    assert (Path(second.path) / "data.bin").read_text() == "two"


def test_retention_keeps_the_newest_states_and_every_weights(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    write(tmp_path, 1, CheckpointTier.WEIGHTS)
    retain(tmp_path, CheckpointTier.STATE, keep=1)
    assert [(c.step, c.tier.value) for c in list_checkpoints(tmp_path)] == [(1, "weights"), (3, "state")]
    assert not (tmp_path / "step-000002").exists()
