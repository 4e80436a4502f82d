"""Every kind of arrangement through the HTTP API, and what is told of each: report, curve, figures, exports."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.suite.test_main_job import ENCODER, arrangement_body, order_rows
from tests.support.suite import RunningSuite

from nearfirst.client.api import Client
from nearfirst.contracts.arrangements import ArrangementSpec
from nearfirst.contracts.exports import ExportFormat
from nearfirst.data.dataset import load_dataset

NUM_TRAIN, NUM_TEST = 60, 9
MEASURES = ("avg", "min", "max", "centroid")


def finished(suite: RunningSuite, datasets: dict[str, str], **changes: Any) -> dict[str, Any]:
    body = {name: value for name, value in arrangement_body(datasets, **changes).items() if value is not None}
    done = suite.wait(f"/arrangements/{suite.post('/arrangements', body)}")
    assert done["state"] == "succeeded", (done["error"], suite.log("arrangement"))
    return done


@pytest.fixture(scope="module")
def arrangement(suite: RunningSuite, datasets: dict[str, str]) -> dict[str, Any]:
    return finished(suite, datasets)


@pytest.fixture(scope="module")
def vectors(suite: RunningSuite, arrangement: dict[str, Any], data_files: dict[str, Path]) -> dict[str, np.ndarray]:
    """The encoder's own vectors of both sides, in float64."""
    from sentence_transformers import SentenceTransformer

    from nearfirst_embedding.models import resolve_encoder

    encoder = SentenceTransformer(str(resolve_encoder(ENCODER, None).folder), device="cpu")
    texts = {
        side: [
            f"{row['inputs_pretokenized']} {row['targets_pretokenized']}"
            for row in map(json.loads, path.read_text().splitlines())
        ]
        for side, path in data_files.items()
    }
    return {side: encoder.encode(lines, normalize_embeddings=True).astype(np.float64) for side, lines in texts.items()}


@pytest.mark.parametrize(
    ("changes", "num_rows"),
    [
        ({"method": "wsd", "order": "nft", "similarity": "euclidean"}, 60),
        ({"method": "wsd", "order": "fft", "w_min": 0.5, "w_avg": 2.0, "limit": 11}, 11),
        ({"method": "wsd", "order": "nft", "granularity": "coarse"}, 60),
        ({"method": "wsd", "order": "rt", "select": {"per_task": 4, "how": "polar"}, "test_per_task": 2}, 24),
        ({"method": "tma", "order": "nft", "limit": 20}, 20),
        ({"method": "tma", "order": "max", "limit": 7, "fidelity": "paper"}, None),
        ({"method": "tma", "order": "nft", "rounds": [1, 3]}, None),
        ({"method": "ot", "order": "nft"}, 60),
        ({"method": "ot", "order": "fft", "similarity": "euclidean", "fidelity": "paper"}, 60),
        ({"method": "round_robin", "order": None, "select": {"per_task": 3, "how": "first"}}, 18),
        ({"method": "cluster", "order": None, "select": {"per_task": 3, "how": "uniform"}}, 18),
        ({"method": "random", "order": None, "seed": 3}, 60),
        ({"method": "as_is", "order": None, "representation": None}, 60),
    ],
    ids=lambda value: "-".join(str(v) for v in value.values()) if isinstance(value, dict) else "",
)
def test_every_method_orders_distinct_rows_and_reports_on_them(
    suite: RunningSuite, datasets: dict[str, str], changes: dict[str, Any], num_rows: int | None
) -> None:
    done = finished(suite, datasets, **changes)
    rows = order_rows(suite, done["id"])
    assert len({row["index"] for row in rows}) == len(rows) == done["num_rows"] == done["report"]["num_rows"]
    assert num_rows in (None, len(rows))
    has_vectors = changes.get("representation", "default") is not None
    assert (done["report"]["coverage"] is not None) == has_vectors
    assert all((row["nearest_test_id"] is not None) == has_vectors for row in rows)


def test_a_specialist_is_arranged_for_one_test_task(suite: RunningSuite, datasets: dict[str, str]) -> None:
    done = finished(
        suite, datasets, test={"dataset": datasets["test"], "tasks": ["test_chess"]}, method="wsd", order="nft"
    )
    rows = order_rows(suite, done["id"])
    assert {row["nearest_test_id"].split("-")[1] for row in rows} == {"chess"}
    assert {row["task"] for row in rows[:5]} == {"train_chess"}
    assert done["report"]["num_test"] == 3


def test_coarse_keeps_the_rows_of_a_task_together_in_dataset_order(
    suite: RunningSuite, datasets: dict[str, str]
) -> None:
    done = finished(suite, datasets, method="wsd", order="nft", granularity="coarse")
    rows = order_rows(suite, done["id"])
    blocks = [rows[start : start + 10] for start in range(0, 60, 10)]
    assert all(len({row["task"] for row in block}) == 1 for block in blocks)
    assert all(sorted(row["index"] for row in block) == [row["index"] for row in block] for block in blocks)
    assert {block[0]["task"] for block in blocks[:3]} == {"train_bread", "train_rain", "train_chess"}


def test_the_report_finds_what_is_there(suite: RunningSuite, arrangement: dict[str, Any]) -> None:
    report = arrangement["report"]
    # Rows 0, 1 and 2 of three topics are the same text on both sides.
    assert report["leaks"]["text"]["num_rows"] == report["leaks"]["instruction"]["num_rows"] == NUM_TEST
    assert report["near_duplicates"]["num_rows"] >= NUM_TEST
    assert report["truncation"] == {
        "train": {"num_rows": 0, "share": 0.0},
        "test": {"num_rows": 0, "share": 0.0},
    }
    assert sum(sum(counts) for counts in report["task_mix"]["counts"]) == NUM_TRAIN
    assert len(report["coverage"]["rows"]["ids"]) == NUM_TEST


def test_the_curve_equals_plain_float64_measures_of_the_encoders_vectors(
    suite: RunningSuite, arrangement: dict[str, Any], vectors: dict[str, np.ndarray]
) -> None:
    curve = suite.get(f"/arrangements/{arrangement['id']}/similarity-curve")
    index = [row["index"] for row in order_rows(suite, arrangement["id"])]
    cosine = vectors["train"] @ vectors["test"].T
    for place, num_rows in enumerate(curve["rows"]):
        prefix = index[:num_rows]
        pairs = -cosine[prefix]
        centroids = [vectors["train"][prefix].mean(axis=0), vectors["test"].mean(axis=0)]
        between = -(centroids[0] @ centroids[1]) / np.prod([np.linalg.norm(c) for c in centroids])
        expected = [pairs.mean(), pairs.min(), pairs.max(), between]
        assert [curve["cosine"][name][place] for name in MEASURES] == pytest.approx(expected, abs=1e-5)
        distances = np.sqrt(np.maximum(2 + 2 * pairs, 0))
        expected = [distances.mean(), distances.min(), distances.max(), np.linalg.norm(centroids[0] - centroids[1])]
        assert [curve["euclidean"][name][place] for name in MEASURES] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("place", ["figure", "similarity-curve/figure"])
def test_figures_come_as_svg_and_png(suite: RunningSuite, arrangement: dict[str, Any], place: str) -> None:
    svg = suite.client.get(f"/arrangements/{arrangement['id']}/{place}.svg")
    png = suite.client.get(f"/arrangements/{arrangement['id']}/{place}.png")
    assert (svg.status_code, svg.headers["content-type"]) == (200, "image/svg+xml")
    assert b"<svg" in svg.content
    assert (png.status_code, png.headers["content-type"]) == (200, "image/png")
    assert png.content.startswith(b"\x89PNG")
    assert suite.client.get(f"/arrangements/{arrangement['id']}/{place}.gif").status_code in (404, 422)


@pytest.mark.parametrize("format", list(ExportFormat))
def test_an_export_has_the_rows_in_their_order(
    suite: RunningSuite, arrangement: dict[str, Any], tmp_path: Path, format: ExportFormat
) -> None:
    path = tmp_path / "arranged.jsonl"
    with Client(suite.url) as client:
        manifest = client.download_export(arrangement["id"], path, format)
    assert manifest.file_digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert manifest.arrangement_digest == arrangement["digest"]
    read = load_dataset(path).examples
    assert [example.id for example in read] == [row["id"] for row in order_rows(suite, arrangement["id"])]


def test_the_python_client_arranges_and_fetches_everything(
    suite: RunningSuite, datasets: dict[str, str], tmp_path: Path
) -> None:
    with Client(suite.url) as client:
        spec = ArrangementSpec.model_validate(arrangement_body(datasets, method="wsd", order="nft", limit=30))
        run = client.wait(client.arrange(spec).id, timeout_s=120)
        shown = client.arrangement(run.id)
        assert shown.report is not None
        assert shown.report.num_rows == 30
        assert client.similarity_curve(run.id).rows[-1] == 30
        client.report_figure(run.id, tmp_path / "report.png")
        client.curve_figure(run.id, tmp_path / "curve.svg")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_lists_leave_the_reports_out(suite: RunningSuite, arrangement: dict[str, Any]) -> None:
    assert "report" not in suite.get("/arrangements")["items"][0]
    assert arrangement["computed"]["similarity_quantum"] == 2.0**-40


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"method": "wsd", "w_min": 0, "w_avg": 0}, 422, "both 0"),
        ({"granularity": "coarse"}, 422, "granularity coarse is for wsd"),
        ({"method": "ot", "fidelity": "paper"}, 422, "euclidean"),
        ({"select": {"per_task": 0, "how": "first"}}, 422, "per_task"),
        ({"select": {"per_task": 3, "how": "nearest"}}, 422, "how"),
        ({"test_per_task": 0}, 422, "test_per_task"),
        ({"representation": {"kind": "precomputed"}}, 422, "vectors"),
    ],
)
def test_rules_that_do_not_fit_are_refused_at_once(
    suite: RunningSuite, datasets: dict[str, str], changes: dict[str, Any], status: int, message: str
) -> None:
    answer = suite.client.post("/arrangements", json=arrangement_body(datasets, **changes))
    assert answer.status_code == status, answer.text
    assert message in answer.text


def test_a_task_that_is_not_there_is_refused_and_named(suite: RunningSuite, datasets: dict[str, str]) -> None:
    body = arrangement_body(datasets, test={"dataset": datasets["test"], "tasks": ["test_golf"]})
    answer = suite.client.post("/arrangements", json=body)
    assert answer.status_code == 422, answer.text
    assert "test_golf" in answer.json()["detail"]
