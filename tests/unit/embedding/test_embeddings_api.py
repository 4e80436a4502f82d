"""POST /v1/embeddings and the probes, through the real application and its lifespan."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.problems import InvalidModel
from nearfirst.settings import Settings
from nearfirst_embedding.app import make_app
from nearfirst_embedding.encoder import TransformerEncoder
from nearfirst_embedding.representations import embed_texts
from nearfirst_embedding.settings import EmbeddingSettings
from nearfirst_embedding.tokens import TokenizedTexts

TEXTS = ["a cat sits", "the dog runs this dog", "a bird"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def client(settings: Settings, tiny_encoder: Path) -> Iterator[TestClient]:
    served = EmbeddingSettings(model=str(tiny_encoder), max_inputs=5, max_batch_tokens=40)
    with TestClient(make_app(settings, served)) as client:
        yield client


@pytest.fixture
def expected(tiny_encoder: Path) -> np.ndarray:
    return embed_texts(Representation(model=str(tiny_encoder)), TEXTS).vectors


def test_a_list_of_texts_is_answered_in_its_order(client: TestClient, tiny_encoder: Path, expected: np.ndarray) -> None:
    answer = client.post("/v1/embeddings", json={"input": TEXTS, "model": str(tiny_encoder)})
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "list"
    assert body["model"] == str(tiny_encoder)
    assert [(item["object"], item["index"]) for item in body["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
        ("embedding", 2),
    ]
    np.testing.assert_array_equal(np.array([item["embedding"] for item in body["data"]], dtype=np.float32), expected)


def test_usage_counts_the_tokens_that_the_model_sees(client: TestClient, tiny_encoder: Path) -> None:
    words_and_special_tokens = (3 + 2) + (5 + 2) + (2 + 2)
    usage = client.post("/v1/embeddings", json={"input": TEXTS, "model": str(tiny_encoder)}).json()["usage"]
    assert usage == {"prompt_tokens": words_and_special_tokens, "total_tokens": words_and_special_tokens}
    cut = client.post("/v1/embeddings", json={"input": "cat " * 100, "model": str(tiny_encoder)}).json()["usage"]
    assert cut["total_tokens"] == 16


def test_base64_holds_the_same_numbers(client: TestClient, tiny_encoder: Path, expected: np.ndarray) -> None:
    body = {"input": TEXTS[0], "model": str(tiny_encoder), "encoding_format": "base64"}
    (item,) = client.post("/v1/embeddings", json=body).json()["data"]
    vector = np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4")
    np.testing.assert_allclose(vector, expected[0], atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "status", "code", "message"),
    [
        ({"model": "text-embedding-3-small"}, 404, "not_found", "'text-embedding-3-small' isn't served here"),
        ({"input": []}, 422, "invalid_input", "texts is empty"),
        ({"input": ["a cat", " "]}, 422, "invalid_input", "row 1"),
        ({"input": ["a"] * 6}, 413, "body_too_large", "6 texts; at most 5"),
        ({"input": ["cat " * 20] * 3}, 413, "body_too_large", "input has 48 tokens; at most 40"),
        (
            {"input": ["a", "cat " * 20], "truncate": False},
            413,
            "body_too_large",
            "row 1 has 22 tokens; the model takes 16",
        ),
        ({"input": [[1, 2], [3, 99_999]]}, 422, "invalid_input", "row 1: token 99999; wanted 0 to"),
        ({"input": [-1]}, 422, "invalid_input", "row 0: token -1"),
        ({"input": [5] * 17}, 413, "body_too_large", "row 0 has 17 tokens; the model takes 16"),
        ({"input": [[1]] * 6}, 413, "body_too_large", "6 texts; at most 5"),
        ({"input": [[]]}, 422, "invalid_input", "input"),
        ({"input": ["a", 5]}, 422, "invalid_input", "input"),
        ({"input": [True]}, 422, "invalid_input", "input"),
        ({"dimensions": 16}, 422, "invalid_input", "dimensions is 16; vectors of"),
        ({"encoding_format": "int8"}, 422, "invalid_input", "encoding_format"),
        ({"prompt": "x"}, 422, "invalid_input", "prompt"),
    ],
)
def test_what_is_not_served_is_refused_as_a_problem(
    client: TestClient, tiny_encoder: Path, changed: dict[str, object], status: int, code: str, message: str
) -> None:
    answer = client.post("/v1/embeddings", json={"input": "a cat", "model": str(tiny_encoder)} | changed)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert message in answer.json()["detail"]


def test_a_body_that_is_not_utf8_is_refused(client: TestClient) -> None:
    body = b'{"input": "caf\xe9", "model": "m"}'
    answer = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "byte 14 is 0xe9" in answer.json()["detail"]


def test_half_of_a_surrogate_pair_is_refused_with_its_row(client: TestClient, tiny_encoder: Path) -> None:
    body = json.dumps({"input": ["a cat", "half \ud83d"], "model": str(tiny_encoder)}).encode()
    answer = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "row 1: character 5" in answer.json()["detail"]


def test_token_ids_are_taken_as_the_model_sees_them(
    client: TestClient, tiny_encoder: Path, expected: np.ndarray
) -> None:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(tiny_encoder)(TEXTS)["input_ids"]
    body = client.post("/v1/embeddings", json={"input": ids, "model": str(tiny_encoder)}).json()
    vectors = np.array([item["embedding"] for item in body["data"]], dtype=np.float32)
    assert np.array_equal(vectors, expected)
    assert body["usage"]["total_tokens"] == sum(map(len, ids))
    single = client.post("/v1/embeddings", json={"input": ids[1], "model": str(tiny_encoder)}).json()["data"]
    assert np.array_equal(np.array(single[0]["embedding"], dtype=np.float32), expected[1])


def test_a_text_within_the_limit_needs_no_truncation(client: TestClient, tiny_encoder: Path) -> None:
    body = {"input": " ".join(["cat"] * 14), "model": str(tiny_encoder), "truncate": False}
    answer = client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()["usage"]["total_tokens"]) == (200, 16)


def test_dimensions_of_the_model_are_taken(client: TestClient, tiny_encoder: Path) -> None:
    body = {"input": "a cat", "model": str(tiny_encoder), "dimensions": 32, "user": "someone"}
    assert client.post("/v1/embeddings", json=body).status_code == 200


def test_a_configured_key_is_asked_for(tmp_path: Path, tiny_encoder: Path) -> None:
    settings = Settings(home=tmp_path, api_keys=[SecretStr("open sesame")])
    body = {"input": "a cat", "model": str(tiny_encoder)}
    with TestClient(make_app(settings, EmbeddingSettings(model=str(tiny_encoder)))) as client:
        assert client.post("/v1/embeddings", json=body).status_code == 401
        headers = {"Authorization": "Bearer open sesame"}
        assert client.post("/v1/embeddings", json=body, headers=headers).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_requests_beyond_the_places_are_told_to_come_back(
    settings: Settings, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()
    encode = TransformerEncoder.encode

    def slow_encode(self: TransformerEncoder, tokenized: TokenizedTexts) -> np.ndarray:
        entered.set()
        assert leave.wait(10)
        return encode(self, tokenized)

    monkeypatch.setattr(TransformerEncoder, "encode", slow_encode)
    body = {"input": "a cat", "model": str(tiny_encoder)}
    served = EmbeddingSettings(model=str(tiny_encoder), max_requests=1, retry_after_s=7)
    with TestClient(make_app(settings, served)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/embeddings", json=body)
        assert entered.wait(10)
        refused = client.post("/v1/embeddings", json=body)
        leave.set()
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "7"
        assert first.result(10).status_code == 200
        assert client.post("/v1/embeddings", json=body).status_code == 200


def test_a_request_over_as_many_as_there_are_places_is_refused_and_the_probes_answer_meanwhile(
    settings: Settings, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_places = 64  # the default, and more than the threads that the web server has of its own accord
    entered, leave = threading.Semaphore(0), threading.Event()
    encode = TransformerEncoder.encode

    def slow_encode(self: TransformerEncoder, tokenized: TokenizedTexts) -> np.ndarray:
        entered.release()
        assert leave.wait(30)
        return encode(self, tokenized)

    monkeypatch.setattr(TransformerEncoder, "encode", slow_encode)
    body = {"input": "a cat", "model": str(tiny_encoder)}
    with (
        TestClient(make_app(settings, EmbeddingSettings(model=str(tiny_encoder)))) as client,
        ThreadPoolExecutor(num_places) as pool,
    ):
        accepted = [pool.submit(client.post, "/v1/embeddings", json=body) for _ in range(num_places)]
        are_all_in_progress = all(entered.acquire(timeout=10) for _ in range(num_places))
        answers = (client.post("/v1/embeddings", json=body), client.get("/healthz")) if are_all_in_progress else None
        leave.set()
        assert answers is not None, "fewer requests run than there are places"
        assert [answer.status_code for answer in answers] == [429, 200]
        assert {done.result(30).status_code for done in accepted} == {200}


def test_many_threads_get_what_one_would(client: TestClient, tiny_encoder: Path, expected: np.ndarray) -> None:
    def ask(row: int) -> np.ndarray:
        answer = client.post("/v1/embeddings", json={"input": TEXTS[row], "model": str(tiny_encoder)})
        return np.array(answer.json()["data"][0]["embedding"])

    rows = [number % 3 for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for row, vector in zip(rows, pool.map(ask, rows), strict=True):
            assert np.array_equal(vector.astype(np.float32), expected[row])


def test_probes_answer_once_the_encoder_is_loaded(client: TestClient, tiny_encoder: Path) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/v1/embeddings", json={"input": "a cat", "model": str(tiny_encoder)})
    assert 'route="/v1/embeddings",status="200"} 1.0' in client.get("/metrics").text


def test_a_model_that_can_not_be_loaded_ends_the_start(settings: Settings, tmp_path: Path) -> None:
    served = EmbeddingSettings(model=str(tmp_path / "nothing"))
    with pytest.raises(InvalidModel, match="no such folder"), TestClient(make_app(settings, served)):
        pass


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIRST_EMBEDDING_MODEL", "package:all-MiniLM-L6-v2")
    monkeypatch.setenv("NEARFIRST_EMBEDDING_MAX_LENGTH", "128")
    expected = Representation(model="package:all-MiniLM-L6-v2", max_length=128)
    assert EmbeddingSettings().representation == expected
