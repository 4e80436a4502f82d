import hashlib
import json
import shutil
from pathlib import Path

import pytest

from nearfirst.contracts.problems import CorruptArtifact, OrderMismatch, StateConflict
from nearfirst.contracts.progress import Cancelled, Interrupted
from nearfirst.contracts.training import CheckpointSpec, OptimizerSpec
from nearfirst_training.checkpoints import list_checkpoints
from nearfirst_training.loop import train

EVERY_TWO = CheckpointSpec(weights_every=2, state_every=2, keep_state=2, initial_weights=True)


def stop_at(step, error):
    def progress(done, total, unit):
        if unit == "steps" and done == step:
            raise error

    return progress


def files_of(folder):
    """sha256 of what must not depend on interruptions: weights, consumed ids, losses, receipt."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("model.safetensors", "state.safetensors", "consumed.jsonl", "receipt.json"):
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            digests[name] = [line for line in lines if line["name"] not in ("tokens_per_s", "step_s", "memory_gib")]
    return digests


def make_stopped(make_job, out, step, error, **fields):
    """A run that was stopped after `step`."""
    job = make_job(out=str(out), checkpoint=EVERY_TWO, **fields)
    with pytest.raises(type(error)):
        train(job, progress=stop_at(step, error))
    return job.model_copy(update={"resume": True})


@pytest.mark.parametrize(
    ("step", "error", "resumed_from"),
    [
        (3, Interrupted(), 3),
        (3, Cancelled(), 2),
        (4, Cancelled(), 4),
        (1, Cancelled(), None),
        (0, Interrupted(), 0),
        (5, Interrupted(), 5),
    ],
    ids=["saved on interrupt", "killed", "killed after a save", "killed before any", "before the first", "at the last"],
)
def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    make_job, tmp_path, test_file, step, error, resumed_from
):
    measured = {"test_examples": str(test_file), "evaluate_every": 2}
    whole = train(make_job(out=str(tmp_path / "whole"), checkpoint=EVERY_TWO, **measured))
    resumed = train(make_stopped(make_job, tmp_path / "cut", step, error, **measured))
    assert resumed.resumed_from == resumed_from
    assert resumed.receipt == whole.receipt
    assert resumed.test_loss == whole.test_loss
    wanted, got = files_of(tmp_path / "whole"), files_of(tmp_path / "cut")
    kept_by_both = {name for name in wanted if "/state/" not in name}
    assert {name: got[name] for name in kept_by_both} == {name: wanted[name] for name in kept_by_both}
    last_state = "checkpoints/step-000005/state/state.safetensors"
    assert got[last_state] == wanted[last_state]


def test_resume_in_an_empty_folder_starts_at_the_beginning(make_job, tmp_path):
    result = train(make_job(out=str(tmp_path / "new"), resume=True, max_steps=1))
    assert (result.resumed_from, result.steps) == (None, 1)


def test_files_of_whoever_starts_the_job_may_be_there(make_job, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "job.json").write_text("{}")
    assert train(make_job(out=str(out), max_steps=1)).steps == 1


def test_resume_refuses_other_settings_by_name(make_job, tmp_path):
    job = make_stopped(make_job, tmp_path / "out", 2, Cancelled())
    other = job.settings.model_copy(update={"optimizer": OptimizerSpec(lr=1e-3)})
    with pytest.raises(StateConflict, match=r"settings\.optimizer\.lr was 0\.003, now is 0\.001"):
        train(job.model_copy(update={"settings": other}))


def test_resume_refuses_another_order(make_job, tmp_path, shuffled_order):
    job = make_stopped(make_job, tmp_path / "out", 2, Cancelled())
    with pytest.raises(StateConflict, match="arrangement_digest was 'sha256:"):
        train(job.model_copy(update={"order": str(shuffled_order)}))


def test_resume_refuses_another_model(make_job, tmp_path, model_folder):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    model = {"name_or_path": str(folder), "init": "random"}
    job = make_stopped(make_job, tmp_path / "out", 2, Cancelled(), model=model)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    with pytest.raises(StateConflict, match=r"model_config\.rms_norm_eps was 1e-05, now is 0\.001"):
        train(job)


def test_resume_may_write_checkpoints_at_other_steps(make_job, tmp_path):
    job = make_stopped(make_job, tmp_path / "out", 2, Cancelled())
    other = job.settings.model_copy(update={"checkpoint": CheckpointSpec()})
    assert train(job.model_copy(update={"settings": other})).resumed_from == 2


def test_a_damaged_state_is_refused(make_job, tmp_path):
    job = make_stopped(make_job, tmp_path / "out", 2, Cancelled())
    state = Path(job.out) / "checkpoints/step-000002/state/state.safetensors"
    raw = bytearray(state.read_bytes())
    raw[-1] ^= 1
    state.write_bytes(raw)
    with pytest.raises(CorruptArtifact, match=r"state\.safetensors"):
        train(job)


def test_a_log_that_lost_a_step_is_refused(make_job, tmp_path):
    job = make_stopped(make_job, tmp_path / "out", 3, Cancelled())
    log = Path(job.out) / "consumed.jsonl"
    log.write_text(log.read_text().splitlines(keepends=True)[0])
    with pytest.raises(OrderMismatch, match="step 2"):
        train(job)


def test_checkpoints_after_the_state_are_gone_until_they_are_made_again(make_job, tmp_path):
    job = make_stopped(make_job, tmp_path / "out", 4, Cancelled())
    shutil.rmtree(Path(job.out) / "checkpoints/step-000004/state")
    with pytest.raises(Cancelled):
        train(job, progress=stop_at(2, Cancelled()))
    assert {checkpoint.step for checkpoint in list_checkpoints(Path(job.out) / "checkpoints")} == {0, 2}


def test_only_the_newest_states_are_kept_and_all_weights(make_job, tmp_path):
    every = CheckpointSpec(weights_every=1, state_every=1, keep_state=2)
    result = train(make_job(out=str(tmp_path / "out"), checkpoint=every))
    steps = {tier: [c.step for c in result.checkpoints if c.tier == tier] for tier in ("weights", "state")}
    assert steps == {"weights": [1, 2, 3, 4, 5], "state": [4, 5]}
