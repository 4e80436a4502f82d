"""What a study's spec takes, and which orders its seeds give."""

from typing import Any

import pytest
from pydantic import ValidationError

from nearfirst.contracts.studies import StudyArrangement, StudySpec

SEEDED = [
    {"method": "random"},
    {"method": "tma", "order": "rt"},
    {"method": "wsd", "order": "rt"},
    {"method": "wsd", "order": "nft", "select": {"per_task": 2, "how": "random"}},
    {"method": "cluster", "select": {"per_task": 2, "how": "random"}},
]
UNSEEDED = [
    {"method": "tma", "order": "nft"},
    {"method": "cluster"},
    {"method": "wsd", "order": "fft", "select": {"per_task": 2, "how": "polar"}},
]


def spec_of(**fields: Any) -> StudySpec:
    given = {
        "name": "n",
        "train": "ds_1",
        "test": "ds_2",
        "arrangements": [{"label": "a", "method": "as_is"}, {"label": "b", "method": "random"}],
        "training": {"model": {"name_or_path": "/m"}},
    }
    return StudySpec.model_validate(given | fields)


@pytest.mark.parametrize("rules", SEEDED)
def test_an_order_that_is_drawn_takes_the_seed_of_its_run(rules: dict[str, Any]) -> None:
    arrangement = StudyArrangement(label="a", **rules)
    assert [arrangement.rules(seed).seed for seed in (3, 4)] == [3, 4]
    fixed = StudyArrangement(label="a", follows_seeds=False, seed=7, **rules)
    assert [fixed.rules(seed).seed for seed in (3, 4)] == [7, 7]


@pytest.mark.parametrize("rules", UNSEEDED)
def test_an_order_that_is_not_drawn_is_one_for_all_seeds(rules: dict[str, Any]) -> None:
    arrangements = [StudyArrangement(label="a", seed=seed, **rules) for seed in (0, 9)]
    assert len({each.rules(seed).model_dump_json() for each in arrangements for seed in (3, 4)}) == 1


def test_a_seed_that_the_studys_seeds_would_replace_is_refused() -> None:
    with pytest.raises(ValidationError, match="seed 7 goes with follows_seeds: false"):
        StudyArrangement(label="a", method="random", seed=7)
    with pytest.raises(ValidationError, match=r"training\.seed: got 5"):
        spec_of(training={"model": {"name_or_path": "/m"}, "seed": 5})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seeds": [1, 2, 1]}, "seeds: 1 is used twice"),
        ({"seeds": []}, "at least 1"),
        (
            {"arrangements": [{"label": " a", "method": "as_is"}, {"label": "a", "method": "random"}]},
            "label 'a' is used",
        ),
        ({"baseline": "c"}, "got 'c', wanted one of the labels"),
        ({"arrangements": [{"label": "a", "method": "as_is", "baseline": "c"}]}, "got 'c', wanted one of the labels"),
        ({"figure": "tasks"}, "figure_tasks go with figure: tasks"),
        ({"figure_tasks": ["t"]}, "figure_tasks go with figure: tasks"),
        ({"figure": "similarity", "evaluation": {"metrics": ["rouge1"]}}, "draws the loss"),
        ({"arrangements": [{"label": "a", "method": "as_is", "panels": ["p"]}]}, "panels go with the figures"),
        (
            {"figure": "rounds", "arrangements": [{"label": "a", "method": "as_is", "panels": ["p", "q", "r"]}]},
            "at most 2 panels",
        ),
        (
            {"seeds": list(range(64)), "arrangements": [{"label": str(n), "method": "as_is"} for n in range(9)]},
            "576 train jobs, a study has at most 512",
        ),
        ({"none_such": 1}, "none_such"),
    ],
)
def test_a_spec_that_does_not_fit_together_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec_of(**fields)


def test_a_spec_reads_back_as_it_was_written() -> None:
    spec = spec_of(evaluation={"fidelity": "paper", "metrics": ["loss", "rouge1"]}, seeds=[0, 1])
    assert StudySpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.evaluation.num_examples == 120
