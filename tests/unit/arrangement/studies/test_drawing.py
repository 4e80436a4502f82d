"""A study's figure cut into the panels that its arrangements name."""

import csv
import io
from typing import Any

import pytest

from nearfirst.contracts.studies import StudySpec
from nearfirst_arrangement.studies.drawing import draw_figure


def spec_of(panels: dict[str, list[str]], **fields: Any) -> StudySpec:
    """A study with these arrangements and their panels."""
    return StudySpec.model_validate(
        {
            "name": "orders",
            "figure": "datasets",
            "train": "ds_1",
            "test": "ds_2",
            "arrangements": [{"label": label, "method": "as_is", "panels": of} for label, of in panels.items()],
            "training": {"model": {"name_or_path": "/m"}},
            **fields,
        }
    )


def shown(study: Any, spec: StudySpec) -> dict[str, list[str]]:
    """Arrangements by panel, as the CSV beside the figure has them."""
    found: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(draw_figure(study, spec).csv.decode())):
        names = found.setdefault(row["title"], [])
        names += [] if row["arrangement"] in names else [row["arrangement"]]
    return found


@pytest.mark.parametrize(
    ("panels", "wanted"),
    [
        (
            {"NFT of P3": ["P3"], "RT of P3": ["P3"], "NFT of Flan": ["Flan"], "RT of Flan": ["Flan"]},
            {"P3": ["NFT", "RT"], "Flan": ["NFT", "RT"]},
        ),
        ({"NFT of P3": ["P3"], "best": []}, {"P3": ["NFT", "best"]}),
        ({"NFT of P3": ["P3"], "NFT": ["P3"]}, {"P3": ["NFT of P3", "NFT"]}),
        ({"NFT of P3": ["P3", "all"], "RT": ["all"]}, {"P3": ["NFT"], "all": ["NFT of P3", "RT"]}),
    ],
    ids=["the same orders of two pools", "in every panel", "not distinct", "in two panels"],
)
def test_a_label_is_shown_without_the_panel_that_it_is_in(
    make_study: Any, panels: dict[str, list[str]], wanted: dict[str, list[str]]
) -> None:
    study = make_study(dict.fromkeys(panels, 1.0), baseline=next(iter(panels)))
    assert shown(study, spec_of(panels)) == wanted
