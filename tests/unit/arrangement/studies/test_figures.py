"""Figures: numbers that are those of the statistics, the same bytes each time, colours that can be told apart."""

import csv
import io
import json
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.problems import InvalidInput
from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.studies.figures import layouts
from nearfirst_arrangement.studies.figures.geometry import lay_out, spread, text_width
from nearfirst_arrangement.studies.figures.render import render
from nearfirst_arrangement.studies.figures.spec import FigureSpec, Panel
from nearfirst_arrangement.studies.report.html import DARK_COLOURS
from nearfirst_arrangement.studies.statistics.curves import mean_curve
from nearfirst_arrangement.studies.statistics.effects import compare

SVG = "{http://www.w3.org/2000/svg}"
TEXT_COLOURS = 4
"""Ink and its lighter shades, which aren't lines, at the end of DARK_COLOURS."""
MACHADO = {  # Machado, Oliveira & Fernandes 2009, severity 1, for linear RGB
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def linear(colour):
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    scaled = np.array(TO_XYZ) @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(colour, page):
    darker, lighter = sorted(np.array(TO_XYZ)[1] @ linear(each) for each in (colour, page))
    return (lighter + 0.05) / (darker + 0.05)


def texts(svg):
    return ["".join(found.itertext()) for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def pixels(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def rows(files):
    return list(csv.DictReader(io.StringIO(files.csv.decode())))


@pytest.fixture
def study(make_study):
    return make_study({"Nearest first": 1.0, "Random": 1.1, "Farthest first": 1.2}, baseline="Random")


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_line_colours_can_be_told_apart_by_colour_blind_readers(vision, theme):
    colours = style.LINE_COLOURS if theme == "light" else [DARK_COLOURS[colour] for colour in style.LINE_COLOURS]
    seen = [lab(np.array(MACHADO[vision]) @ linear(colour)) for colour in colours]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 12


def test_ink_can_be_read_on_either_page():
    for colour in (style.INK, style.QUIET):
        assert contrast(colour, "#ffffff") > 4.5
        assert contrast(DARK_COLOURS[colour], "#0d1117") > 4.5


def test_lines_differ_by_dashes_as_well():
    assert len(set(style.LINE_DASHES)) == len(style.LINE_COLOURS)


@pytest.mark.parametrize(("width", "wanted"), [("column", 660), ("page", 1380)])
def test_pngs_are_as_wide_as_a_column_or_page_at_200_dots_an_inch(study, width, wanted):
    assert pixels(render(layouts.study_figure(study, width=width), [study]).png)[0] == wanted


def test_the_same_arguments_give_the_same_bytes_from_any_thread(study):
    with ThreadPoolExecutor(2) as pool:
        drawn = set(pool.map(lambda _: render(layouts.study_figure(study), [study]), range(3)))
    assert len(drawn) == 1


def test_text_is_text(study):
    found = texts(render(layouts.study_figure(study), [study]).svg)
    for wanted in ("Test loss", "Test loss minus Random", "Nearest first", "nats per token", "optimizer step"):
        assert wanted in found
    assert "nats per token; below 0: better than Random" in found
    assert any("lowest to highest seed" in text for text in found)


def test_the_csv_has_the_curves_and_differences(study):
    table = rows(render(layouts.study_figure(study), [study]))
    curve = mean_curve(study.run_values("Nearest first", MetricName.LOSS))
    drawn = [row for row in table if row["panel"] == "1" and row["arrangement"] == "Nearest first"]
    np.testing.assert_array_equal([int(row["step"]) for row in drawn], curve.steps)
    for column in ("mean", "low", "high"):
        np.testing.assert_allclose([float(row[column]) for row in drawn], getattr(curve, column), atol=1e-9)
    assert {row["band"] for row in drawn} == {"lowest to highest seed"}
    effect = compare(study, "Farthest first", "Random", MetricName.LOSS).at_steps
    drawn = [row for row in table if row["panel"] == "2" and row["arrangement"] == "Farthest first"]
    for column in ("mean", "low", "high"):
        np.testing.assert_allclose([float(row[column]) for row in drawn], getattr(effect, column), atol=1e-9)
    assert "Random" not in {row["arrangement"] for row in table if row["panel"] == "2"}


def test_a_figure_can_be_drawn_again_from_its_json(study):
    files = render(layouts.study_figure(study), [study])
    again = render(FigureSpec.model_validate_json(files.json), [study])
    assert again == files
    assert json.loads(files.json)["panels"][1]["show"] == "difference"


def test_files_lie_side_by_side(study, tmp_path):
    paths = render(layouts.study_figure(study), [study]).write(tmp_path)
    assert [path.name for path in paths] == ["figure.svg", "figure.png", "figure.csv", "figure.json"]
    assert all(path.stat().st_size for path in paths)


def test_figure_1_has_a_panel_for_each_metric_and_starts_at_step_0_on_a_logarithmic_axis(make_study):
    study = make_study({"P3": 1.0, "NIV2": 1.1}, metrics=tuple(MetricName))
    found = texts(render(layouts.metrics_figure(study), [study]).svg)
    for wanted in ("Test loss", "ROUGE-1", "ROUGE-L", "Exact match", "Reward", "0", "10", "30", "100"):
        assert wanted in found


@pytest.mark.parametrize(("num_metrics", "num_columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3)])
def test_panels_of_a_page_fill_their_rows(make_study, num_metrics, num_columns):
    study = make_study({"Random": 1.0}, metrics=tuple(MetricName)[:num_metrics])
    assert layouts.metrics_figure(study).num_columns == num_columns


def test_a_score_that_stays_at_0_has_an_axis_that_a_score_may_rise_on(make_study):
    study = make_study({"Random": 1.0}, metrics=(MetricName.EXACT_MATCH,))
    runs = [
        replace(run, values={MetricName.EXACT_MATCH: np.zeros_like(run.values[MetricName.EXACT_MATCH])})
        for run in study.arrangements[0].runs
    ]
    flat = replace(study, arrangements=(replace(study.arrangements[0], runs=tuple(runs)),), baseline=None)
    shown = texts(render(layouts.metrics_figure(flat), [flat]).svg)
    assert "0.02" not in shown
    assert not [text for text in shown if text.startswith("\N{MINUS SIGN}")]


def test_figure_2_marks_sudden_drops_with_their_steps(make_study):
    study = make_study({"cluster": 1.0, "random": 1.0}, seeds=(0,), steps=np.arange(0, 600, 10))
    fallen = study.arrangement("cluster").runs[0]
    fallen.values[MetricName.LOSS][fallen.steps > 300] -= 0.5
    files = render(layouts.tasks_figure(study, ["task-0", "task-2"]), [study])
    drops = [row for row in rows(files) if row["drop_size"]]
    assert [(row["panel"], row["arrangement"], row["step"]) for row in drops] == [
        ("1", "cluster", "305"),
        ("2", "cluster", "305"),
    ]
    assert float(drops[0]["drop_size"]) == pytest.approx(0.5, abs=0.05)
    assert "305" in texts(files.svg)
    calm = layouts.tasks_figure(study, ["task-0"]).panels[0].model_copy(update={"arrangements": ["random"]})
    assert any("No sudden drops" in text for text in texts(render(FigureSpec(name="f", panels=[calm]), [study]).svg))


def test_figures_3_to_5_take_their_panels_from_several_studies(make_study):
    left = make_study({"NFT": 1.0, "RT": 1.1}, name="left")
    right = make_study({f"[{i}, {i + 5})": 1 + i / 50 for i in range(0, 30, 5)}, name="right")
    for spec in (
        layouts.similarity_figure(left, right),
        layouts.datasets_figure([left, right]),
        layouts.rounds_figure(right, left),
    ):
        files = render(spec, [left, right])
        assert {row["arrangement"] for row in rows(files)} == {*left.labels, *right.labels}
        assert set(left.labels) <= set(texts(files.svg))


def test_an_arrangement_has_one_colour_in_all_panels(study):
    svg = ElementTree.fromstring(render(layouts.study_figure(study), [study]).svg)
    for axes, labels in (("axes_1", {0, 1, 2}), ("axes_2", {0, 2})):  # Random, the second, is the reference
        panel = next(group for group in svg.iter(f"{SVG}g") if group.get("id") == axes)
        styles = " ".join(element.get("style", "") for element in panel.iter()).lower()
        assert {place for place, colour in enumerate(style.LINE_COLOURS) if colour.lower() in styles} == labels


def test_names_at_line_ends_become_a_legend_where_they_do_not_fit():
    panels = [Panel(study="s", metric=MetricName.LOSS, title="t")]
    spec = FigureSpec(name="f", panels=panels)
    short, long = lay_out(spec, [["NFT", "RT"]], ""), lay_out(spec, [["a name of many words and more", "RT"]], "")
    assert (short.is_labelled, short.legend) == (True, ())
    assert not long.is_labelled
    assert [entry.label for entry in long.legend] == ["a name of many words and more", "RT"]
    assert long.axes[0].right <= long.width
    assert all(text_width(entry.label) + entry.left < long.width for entry in long.legend)


def test_names_are_moved_apart_within_the_axes():
    heights = spread([0.0, 0.01, 0.02, 0.97, 0.99], 0.1, 0.0, 1.0)
    assert heights == pytest.approx([0.0, 0.1, 0.2, 0.9, 1.0])
    assert spread([], 0.1, 0, 1) == []


def test_what_was_not_measured_leaves_an_empty_panel_that_says_so(study):
    spec = FigureSpec(name="f", panels=[Panel(study=study.name, metric=MetricName.REWARD, title="Reward")])
    files = render(spec, [study])
    assert "not measured" in texts(files.svg)
    assert rows(files) == []


def test_one_seed_has_no_band_and_intervals_over_examples(make_study):
    study = make_study({"a": 1.0, "b": 1.1}, seeds=(4,))
    files = render(layouts.study_figure(study), [study])
    first, *_, last = rows(files)
    assert (first["low"], first["band"]) == ("", "")
    assert last["band"].endswith("over test examples (one seed)")


def test_names_that_are_markup_are_drawn_as_they_are(make_study):
    study = make_study({"<b>&$x_1$": 1.0, "日本語": 1.1})
    files = render(layouts.study_figure(study), [study])
    assert "<b>&$x_1$" in texts(files.svg)


def test_only_some_steps_can_be_shown(study):
    spec = layouts.study_figure(study).model_copy(update={"max_step": 50})
    found = texts(render(spec, [study]).svg)
    assert "100" not in found
    assert "40" in found


def test_a_run_of_one_measurement_can_be_drawn(make_study):
    study = make_study({"a": 1.0, "b": 1.1}, steps=np.array([0]))
    for x in ("linear", "log"):
        render(layouts.study_figure(study).model_copy(update={"x": x}), [study])


def test_what_a_spec_names_must_be_there(study):
    spec = layouts.study_figure(study)
    with pytest.raises(InvalidInput, match="no study 'orders' among"):
        render(spec, [replace(study, name="other")])
    for change in ({"arrangements": ["nobody"]}, {"task": "nothing"}):
        panel = spec.panels[0].model_copy(update=change)
        with pytest.raises(InvalidInput, match=r"nobody|nothing"):
            render(spec.model_copy(update={"panels": [panel]}), [study])
    with pytest.raises(ValidationError, match="at most 2 fit"):
        FigureSpec(name="f", panels=spec.panels, columns=3)


def test_importing_needs_no_matplotlib_and_no_torch():
    """The API process imports all of it at its start."""
    modules = ("figures.render", "figures.layouts", "report.build", "report.write", "statistics.effects")
    imports = ", ".join(f"nearfirst_arrangement.studies.{module}" for module in modules)
    check = f"import sys, {imports}; assert not {{'matplotlib', 'torch', 'scipy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
