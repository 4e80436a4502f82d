"""GET /models: what a job may name on this server."""

import json
from pathlib import Path

from tests.support.tiny import make_tiny_llama

from nearfirst.settings import Settings
from nearfirst_arrangement.train_jobs import models


def test_model_folders_are_listed_with_their_size_and_whether_they_have_weights(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    tiny = make_tiny_llama(tmp_path / "models" / "tiny", ["one text", "another"], layers=1)
    owned = tmp_path / "models" / "owner" / "name"
    owned.mkdir(parents=True)
    (owned / "config.json").write_text("not JSON")
    (owned / "model.safetensors").write_bytes(b"")
    (tmp_path / "models" / "no model").mkdir()
    found = {each.name_or_path: each for each in models.list_models(settings)}
    assert set(found) == {str(tiny), str(owned)}
    assert (found[str(owned)].has_weights, found[str(owned)].num_parameters) == (True, None)
    config = json.loads((tiny / "config.json").read_text())
    hidden, inner, vocabulary = (config[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    one_layer = 4 * hidden**2 + 3 * hidden * inner + 2 * hidden
    assert found[str(tiny)].num_parameters == vocabulary * hidden + one_layer + hidden
    assert not found[str(tiny)].has_weights


def test_without_folders_there_are_no_models(tmp_path: Path) -> None:
    assert models.list_models(Settings(home=tmp_path / "nowhere")) == []
