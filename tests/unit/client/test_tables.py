"""Tables of the client: as pandas frames, as lists, and in a notebook."""

import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from fastapi import FastAPI

from nearfirst.client import Client
from nearfirst.client.errors import NotInstalled
from nearfirst.client.rows import Rows
from nearfirst.contracts.training import MetricRow

Serve = Callable[[FastAPI], str]
TIME = "2026-01-01T00:00:00Z"
STUDY_SPEC = {
    "name": "s <b>",
    "train": "ds_1",
    "test": "ds_2",
    "arrangements": [{"label": "near", "method": "as_is"}, {"label": "<i>far</i>", "method": "random"}],
    "baseline": "near",
    "seeds": [0, 1],
    "training": {"model": {"name_or_path": "m"}},
}
DIFFERENCE = {
    "mean": -0.25, "low": -0.5, "high": -0.125, "low_examples": -0.4, "high_examples": -0.2, "by_seed": [-0.2, -0.3],
    "num_examples": 7, "verdict": "better",
}  # fmt: skip
REPORT = {
    "name": "s",
    "question": "",
    "warnings": [{"code": "few_seeds", "detail": "two <seeds>"}],
    "design": {
        "metrics": ["loss"], "baseline": "near", "reference": "near", "seeds": [0, 1], "num_runs": 4,
        "num_test_examples": 7, "num_tasks": 1,
    },
    "arrangements": [],
    "outcomes": [
        {
            "metric": "loss", "arrangement": "near", "num_seeds": 2, "num_examples": 7, "steps": [5, 10],
            "mean": [3.0, 2.0], "low": [2.5, None], "high": [3.5, None], "area": 2.5, "steps_to": None,
        }
    ],
    "effects": [
        {
            "metric": "loss", "arrangement": "<i>far</i>", "reference": "near", "seeds": [0, 1], "end_step": 10,
            "end": DIFFERENCE | {"verdict": "not clear", "mean": 0.0}, "area": DIFFERENCE, "steps": [], "mean": [],
            "low": [], "high": [], "clear": [],
        }
    ],
    "drops": [],
    "drops_of_tasks": 0,
    "runs": [],
    "cost": {"seconds": None, "tokens": None, "num_unknown": 4},
    "versions": {},
    "method": {"level": 0.95, "num_resamples": 100, "seed": 0},
}  # fmt: skip
MEASURES = {name: [0.5, 0.25] for name in ("avg", "min", "max", "centroid")}
ANSWERS: dict[str, Any] = {
    "/train-jobs/job_1/metrics": [{"step": 1, "name": "train_loss", "value": 2.5}],
    "/evaluations/evl_1/curve": [
        {
            "step": 5, "metric": "loss", "value": 1.5, "by_task": {"a": 1.0}, "num_examples": 3, "unit": "u",
            "checkpoint_digest": "sha256:00",
        }
    ],
    "/evaluations/evl_1/examples": [
        {"step": 5, "index": 0, "id": "r", "task": "a", "instruction": "<script>", "references": ["x"], "loss": 0.5}
    ],
    "/studies": [
        {
            "id": "std_1", "state": "running", "is_paused": False, "spec": STUDY_SPEC, "created_at": TIME,
            "progress": {"done": 3, "total": 12, "unit": "runs"}, "warnings": ["w < v"],
        }
    ],
    "/datasets": [],
}  # fmt: skip


@pytest.fixture
def client(serve: Serve) -> Any:
    app = FastAPI()
    for path, items in ANSWERS.items():
        app.add_api_route(path, lambda items=items: {"items": items, "next_cursor": None})
    app.add_api_route("/studies/std_1", lambda: ANSWERS["/studies"][0])
    app.add_api_route("/studies/std_1/report", lambda: REPORT)
    curve = {
        "rows": [16, 20], "steps": [1, 2], "rows_per_step": 16, "every_steps": 1, "num_test": 3,
        "fidelity": "corrected", "cosine": MEASURES, "euclidean": None, "kl": [None, 1.5], "by_task": [],
    }  # fmt: skip
    app.add_api_route("/arrangements/arr_1/similarity-curve", lambda: curve)
    with Client(serve(app)) as client:
        yield client


def test_metrics_and_curves_are_frames_with_a_column_for_each_field(client: Client) -> None:
    metrics = client.metrics("job_1").to_pandas()
    assert metrics.to_dict("records") == [{"step": 1, "name": "train_loss", "value": 2.5}]
    curve = client.evaluation_curve("evl_1").to_pandas()
    assert (curve.loc[0, "metric"], curve.loc[0, "value"], curve.loc[0, "by_task"]) == ("loss", 1.5, {"a": 1.0})
    assert type(curve.loc[0, "metric"]) is str


def test_a_listing_is_a_frame_whose_inner_models_are_columns_of_their_own(client: Client) -> None:
    studies = client.studies().to_pandas()
    assert studies.loc[0, "progress.done"] == 3
    assert studies.loc[0, "spec.training.model.name_or_path"] == "m"
    assert studies.loc[0, "spec.arrangements"][0]["label"] == "near"
    examples = client.evaluation_examples("evl_1").to_pandas()
    assert (examples.loc[0, "references"], examples.loc[0, "loss"]) == (["x"], 0.5)


def test_a_listing_without_rows_keeps_its_columns(client: Client) -> None:
    frame = client.datasets().to_pandas()
    assert len(frame) == 0
    assert {"id", "digest", "num_examples"} <= set(frame.columns)


def test_a_similarity_curve_has_a_line_for_each_prefix_and_gaps_where_nothing_was_measured(client: Client) -> None:
    frame = client.similarity_curve("arr_1").to_pandas()
    assert frame["rows"].tolist() == [16, 20]
    assert frame["cosine_centroid"].tolist() == [0.5, 0.25]
    assert frame["euclidean_avg"].isna().all()
    assert pd.isna(frame.loc[0, "kl"])
    assert frame.loc[1, "kl"] == 1.5


def test_a_studys_effects_and_curves_are_frames(client: Client) -> None:
    results = client.study_results("std_1")
    effects = results.effects.to_pandas().set_index("of")
    assert (effects.loc["area", "mean"], effects.loc["area", "verdict"]) == (-0.25, "better")
    assert (effects.loc["end", "step"], effects.loc["end", "verdict"]) == (10, "not clear")
    curves = results.curves.to_pandas()
    assert curves["step"].tolist() == [5, 10]
    assert curves["high"].tolist()[0] == 3.5
    assert pd.isna(curves.loc[1, "high"])


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NotInstalled, match=r"pip install 'nearfirst\[pandas\]'"):
        client.metrics("job_1").to_pandas()
    assert client.metrics("job_1")[0].value == 2.5


class Page(HTMLParser):
    """What a piece of HTML holds."""

    VOID = ("br", "hr", "img", "input", "link", "meta")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.open, self.references = "", [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "data", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_a_notebook_shows_is_escaped_well_formed_and_refers_to_nothing_outside(client: Client) -> None:
    shown = {
        "study": client.study("std_1"),
        "results": client.study_results("std_1"),
        "examples": client.evaluation_examples("evl_1").all(),
        "curve": client.similarity_curve("arr_1"),
    }
    pages = {name: Page(each._repr_html_()) for name, each in shown.items()}
    for page in pages.values():
        assert page.open == []
        assert page.references == []
        assert not {"script", "i", "b"} & set(page.tags)
    for words in ("std_1", "running", "3/12 runs", "<i>far</i>", "w < v"):
        assert words in pages["study"].text
    assert "progress" in pages["study"].tags
    for words in ("<i>far</i>", "better", "not clear", "-0.25", "-0.5000 to -0.1250", "two <seeds>"):
        assert words in pages["results"].text
    assert "<script>" in pages["examples"].text
    assert "0.25" in pages["curve"].text


def test_a_long_table_shows_its_first_rows_and_says_how_many_there_are() -> None:
    rows = Rows((MetricRow(step=step, name="lr", value=0.5) for step in range(1000)), MetricRow)
    page = Page(rows._repr_html_())
    assert page.tags.count("tr") == 11
    assert "10 of 1,000 rows" in page.text
    assert repr(rows) == "<1,000 rows of MetricRow>"


def test_reprs_say_state_progress_and_key_numbers_on_one_line(client: Client) -> None:
    text = repr(client.study("std_1"))
    assert text.startswith("<std_1 running, 3/12 runs; ")
    assert "arrangements: near, <i>far</i>" in text
    assert "seeds: 0, 1" in text
    assert "\n" not in text
    assert repr(client.study_results("std_1")) == "<results of std_1 running; <i>far</i> against near: better (loss)>"
