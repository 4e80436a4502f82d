"""The generation server around a transformers engine: the rules that are the same for every engine."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.keys import Role
from nearfirst.registry.api_keys import create_key
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst_generation.app import make_app
from nearfirst_generation.settings import GenerationServerSettings


@pytest.fixture(scope="module")
def folders(make_checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: make_checkpoint(root / name, seed) for seed, name in enumerate(["one", "two"])}


def settings(folders: dict[str, Path], home: Path, **more: Any) -> Settings:
    return Settings(home=home, data_roots=[folders["one"].parent], **more)


@pytest.fixture
def client(folders: dict[str, Path], tmp_path: Path) -> Iterator[TestClient]:
    app = make_app(settings(folders, tmp_path), GenerationServerSettings(generation_engine="transformers"))
    with TestClient(app) as client:
        yield client


def body(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"path": str(folder), "version": folder.name, "digest": open_checkpoint(folder).digest} | changes


GREEDY = {"temperature": 0, "max_tokens": 6, "return_token_ids": True}


def tokens(client: TestClient, prompt: Any, **fields: Any) -> list[list[int]]:
    answer = client.post("/v1/completions", json=GREEDY | {"prompt": prompt} | fields)
    assert answer.status_code == 200, answer.text
    return [choice["token_ids"] for choice in answer.json()["choices"]]


def test_a_server_is_ready_once_weights_are_loaded(client: TestClient, folders: dict[str, Path]) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.get("/weights").json()["code"] == "not_ready"
    result = client.post("/weights", json=body(folders["one"])).json()
    assert (result["previous"], result["loaded"]["version"], result["loaded"]["engine"]) == (
        "none",
        "one",
        "transformers",
    )
    assert client.get("/readyz").status_code == 200


def test_answers_name_their_weights_and_follow_a_swap(client: TestClient, folders: dict[str, Path]) -> None:
    found = {}
    for name in ("one", "two", "one"):
        client.post("/weights", json=body(folders[name]))
        answer = client.post("/v1/completions", json=GREEDY | {"prompt": [[3, 9, 12], [3, 20]]})
        assert answer.headers["Nearfirst-Weight-Version"] == name
        assert answer.headers["Nearfirst-Weight-Digest"] == body(folders[name])["digest"]
        answered = [choice["token_ids"] for choice in answer.json()["choices"]]
        assert found.setdefault(name, answered) == answered
    assert found["one"] != found["two"]


def test_prompts_come_as_text_or_token_ids_alone_or_in_lists(client: TestClient, folders: dict[str, Path]) -> None:
    client.post("/weights", json=body(folders["one"]))
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folders["one"]).encode("red apple")
    for prompt in ("red apple", ["red apple"], ids, [ids]):
        assert tokens(client, prompt) == tokens(client, "red apple")
    assert len(tokens(client, ["red", "blue river"])) == 2


def test_other_weights_or_an_unknown_model_are_refused(client: TestClient, folders: dict[str, Path]) -> None:
    client.post("/weights", json=body(folders["one"]))
    wanted = {"Nearfirst-Weight-Digest": body(folders["two"])["digest"]}
    answer = client.post("/v1/completions", json=GREEDY | {"prompt": "red"}, headers=wanted)
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
    answer = client.post("/v1/completions", json=GREEDY | {"prompt": "red", "model": "gpt"})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "model 'gpt' isn't loaded; loaded: 'one', 'nearfirst'",
    )
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["one", "nearfirst"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": []}, "prompt"),
        ({}, "prompt: a value is required"),
        ({"prompt": "red", "stream": True}, "stream"),
        ({"prompt": "red", "logit_bias": {}}, "logit_bias: no such field is known"),
        ({"prompt": "red", "temperature": 1}, "give a seed"),
        ({"prompt": [[3] * 100]}, "has 100 tokens"),
        ({"prompt": [[3, 5000]]}, "has token 5000, wanted 0 to 299"),
        ({"prompt": [-1]}, "has token -1, wanted 0 to 299"),
        ({"prompt": "red", "max_tokens": "3"}, "max_tokens"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    fields: dict[str, Any], reason: str, client: TestClient, folders: dict[str, Path]
) -> None:
    client.post("/weights", json=body(folders["one"]))
    answer = client.post("/v1/completions", json=GREEDY | fields)
    assert (answer.status_code, reason in answer.json()["detail"]) == (422, True), answer.text


def test_half_of_a_surrogate_pair_is_refused_with_its_place(client: TestClient, folders: dict[str, Path]) -> None:
    client.post("/weights", json=body(folders["one"]))
    sent = json.dumps({"prompt": "half \ud83d"}).encode()
    answer = client.post("/v1/completions", content=sent, headers={"content-type": "application/json"})
    assert (answer.status_code, "character 5 is half" in answer.json()["detail"]) == (422, True), answer.text


def test_messages_that_the_chat_template_refuses_are_the_senders_error(make_checkpoint, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "chat", 5)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    app = make_app(Settings(home=tmp_path), GenerationServerSettings(generation_engine="transformers"))
    with TestClient(app) as client:
        assert client.post("/weights", json=body(folder)).status_code == 200
        answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "red"}], "seed": 1})
    assert (answer.status_code, "roles must alternate" in answer.json()["detail"]) == (422, True), answer.text


def test_a_swap_needs_a_key_of_an_admin_and_an_answer_one_to_submit(folders: dict[str, Path], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    upgrade(url)
    database = Database(url)
    with database.write() as session:
        keys = {role: {"Authorization": f"Bearer {create_key(session, role, role).key}"} for role in Role}
    database.close()
    app = make_app(
        settings(folders, tmp_path, database_url=url), GenerationServerSettings(generation_engine="transformers")
    )
    with TestClient(app) as client:
        swaps = [client.post("/weights", json=body(folders["one"]), headers=keys[role]).status_code for role in Role]
        asked = [client.post("/v1/completions", json=GREEDY | {"prompt": "red"}, headers=keys[r]) for r in Role]
        looks = [client.get("/weights", headers=keys[role]).status_code for role in Role]
    assert (swaps, [answer.status_code for answer in asked], looks) == ([403, 403, 200], [403, 200, 200], [200] * 3)


def test_a_refused_swap_leaves_the_old_weights(client: TestClient, folders: dict[str, Path]) -> None:
    client.post("/weights", json=body(folders["one"]))
    before = tokens(client, "red apple")
    for changes, code in (
        ({"digest": "sha256:" + "0" * 64}, "invalid_model"),
        ({"path": "/etc"}, "path_not_allowed"),
        ({"path": str(folders["one"].parent / "gone")}, "invalid_model"),
        ({"colour": "red"}, "invalid_input"),
    ):
        assert client.post("/weights", json=body(folders["two"], **changes)).json()["code"] == code
    assert tokens(client, "red apple") == before
    assert 'nearfirst_weight_swaps_total{outcome="invalid_model"} 2.0' in client.get("/metrics").text


def test_an_adapter_can_t_be_called_like_the_weights(client: TestClient, folders: dict[str, Path]) -> None:
    client.post("/weights", json=body(folders["one"]))
    for name in ("one", "nearfirst"):
        answer = client.post(
            "/weights/adapters", json={"name": name, "path": "/a", "digest": body(folders["two"])["digest"]}
        )
        assert (answer.status_code, "means the loaded weights" in answer.json()["detail"]) == (422, True)


def test_changes_and_answers_want_a_key_when_keys_are_configured(folders: dict[str, Path], tmp_path: Path) -> None:
    keyed = settings(folders, tmp_path, api_keys=[SecretStr("k")])
    with TestClient(make_app(keyed, GenerationServerSettings(generation_engine="transformers"))) as client:
        for path, sent in (
            ("/weights", body(folders["one"])),
            ("/weights/adapters", {"name": "a", "path": "/a", "digest": "sha256:" + "0" * 64}),
            ("/v1/completions", {"prompt": "red"}),
            ("/v1/chat/completions", {"messages": []}),
        ):
            assert client.post(path, json=sent).status_code == 401
        headers = {"Authorization": "Bearer k"}
        assert client.post("/weights", json=body(folders["one"]), headers=headers).status_code == 200


def test_a_swap_waits_for_answers_and_answers_wait_for_a_swap(client: TestClient, folders: dict[str, Path]) -> None:
    client.post("/weights", json=body(folders["one"]))
    found: list[tuple[str, list[list[int]]]] = []
    expected = {}
    for name in ("two", "one"):
        client.post("/weights", json=body(folders[name]))
        expected[name] = tokens(client, [3, 9, 12])

    def ask() -> None:
        for _ in range(12):
            answer = client.post("/v1/completions", json=GREEDY | {"prompt": [3, 9, 12]})
            answered = [choice["token_ids"] for choice in answer.json()["choices"]]
            found.append((answer.headers["Nearfirst-Weight-Version"], answered))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(6):
        assert client.post("/weights", json=body(folders[("two", "one")[number % 2]])).status_code == 200
    for thread in threads:
        thread.join()
    assert len(found) == 48
    assert all(answered == expected[version] for version, answered in found)
