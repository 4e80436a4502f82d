"""Figures and tables: what they say, the same bytes each time, and something to see when parts are missing."""

import io
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from nearfirst.contracts.arrangements import Fidelity, Similarity
from nearfirst_arrangement.measures.curve_figure import draw_curve
from nearfirst_arrangement.measures.figure_style import TASK_COLOURS
from nearfirst_arrangement.measures.inputs import MeasuredOrder, MeasuredRows
from nearfirst_arrangement.measures.measure import measure_order
from nearfirst_arrangement.measures.report_figure import draw_report
from nearfirst_arrangement.measures.table import report_tables


@pytest.fixture
def measured(make_order):
    return measure_order(make_order(0))


def pixels(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def svg_text(svg):
    """The drawing's texts, which matplotlib leaves as comments beside their outlines."""
    ElementTree.fromstring(svg)
    return svg.decode()


def printed(report):
    console = Console(width=140, file=io.StringIO())
    for table in report_tables(report):
        console.print(table)
    return console.file.getvalue()


def test_svgs_are_the_same_bytes_each_time_from_any_thread(measured):
    report, curve = measured

    def draw(_):
        return draw_report(report, curve, format="svg"), draw_curve(curve, format="svg")

    with ThreadPoolExecutor(2) as pool:
        drawn = set(pool.map(draw, range(3)))
    assert len(drawn) == 1


def test_drawing_and_printing_need_no_torch():
    """The API process has none."""
    modules = ("report_figure", "curve_figure", "table")
    imports = ", ".join(f"nearfirst_arrangement.measures.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", f"import sys, {imports}; assert 'torch' not in sys.modules"], check=True)


def test_pngs_have_twice_the_resolution_of_a_screen(measured):
    report, curve = measured
    assert pixels(draw_report(report, curve, format="png"))[0] == 2200
    assert pixels(draw_curve(curve, format="png"))[0] == 2200


def test_the_report_shows_its_panels_and_key_numbers(measured):
    text = svg_text(draw_report(measured.report, measured.curve, format="svg"))
    leaks = measured.report.leaks
    for wanted in (
        "Distance to the nearest test row",
        "Task mix by tenth of the order",
        "Coverage of the test rows",
        "Cosine distance of training prefixes",
        "train rows",
        f"{leaks.instruction.share:.2%} of the rows",
        f"{measured.report.task_mix.num_tasks_total - len(TASK_COLOURS)} other tasks",
    ):
        assert wanted in text


def test_distances_are_named_by_their_kind(make_order):
    report, curve = measure_order(replace(make_order(0), similarity=Similarity.EUCLIDEAN))
    assert "distance (euclidean)" in svg_text(draw_report(report, curve, format="svg"))


def test_missing_parts_leave_panels_that_say_why(make_order):
    order = make_order(0)
    bare = replace(order, vectors=None, train=replace(order.train, tasks=None, truncated=None))
    report, curve = measure_order(bare)
    text = svg_text(draw_report(report, curve, format="svg"))
    assert text.count("<!-- no embeddings: not measured -->") == 3
    assert text.count("<!-- the rows have no tasks -->") == 1
    assert "not known" in text
    assert svg_text(draw_curve(curve, format="svg")).count("<!-- no embeddings: not measured -->") == 2
    assert "no similarity curve" in svg_text(draw_report(report, None, format="svg"))
    assert "not known" in printed(report)


def test_a_curve_without_test_bigrams_says_so_and_paper_weights_are_named(make_order):
    order = make_order(0)
    single = replace(order.test, texts=["word"] * len(order.test))
    assert "no test text has two words" in svg_text(
        draw_curve(measure_order(replace(order, test=single)).curve, format="svg")
    )
    paper = measure_order(order, fidelity=Fidelity.PAPER).curve
    assert "by occurrence (paper)" in svg_text(draw_curve(paper, format="svg"))


def test_one_row_with_an_odd_task_name_can_be_drawn_and_printed(make_vectors):
    side = MeasuredRows(["[bold]id"], ["a b"], ["a"], tasks=["_$x$ & <y>\n$z [red] --> "])
    vectors = make_vectors(np.eye(2)[:1], np.array([0]), np.eye(2)[:1])
    report, curve = measure_order(MeasuredOrder(side, side, vectors))
    text = svg_text(draw_report(report, curve, format="svg"))
    assert "_$x$ &amp;" in text or "_$x$ &" in text
    draw_curve(curve, format="png")
    assert "[bold]id is [bold]id" in printed(report)
    assert "_$x$ & <y> $z [red] -->" in printed(report)


def test_tables_have_the_reports_numbers(measured):
    report, text = measured.report, printed(measured.report)
    for found in (report.leaks.text, report.leaks.instruction):
        assert f"{found.share:.2%}" in text
    assert f"{report.near_duplicates.num_rows}" in text
    for share in report.coverage.shares:
        for covered in share.covered:
            assert f"{covered:.1%}" in text


@pytest.mark.parametrize("num_train", [110, 400])
def test_the_table_gives_the_mean_distance_of_each_tenth(make_order, num_train):
    order = make_order(1, num_train=num_train)
    tenths = np.array_split(-order.vectors.nearest_similarity, np.arange(1, 10) * len(order.train) // 10)
    text = printed(measure_order(order).report)
    for tenth in tenths:
        assert f"{tenth.mean():.4f}" in text


def test_names_in_scripts_that_the_typeface_lacks_are_drawn_without_a_warning_and_no_wider(make_order):
    order = make_order(0)
    tasks = [f"日本語の作業{number}の長い名前と説明と目的" for number in range(4)]
    order = replace(order, train=replace(order.train, tasks=[tasks[i % 4] for i in range(len(order.train.tasks))]))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        text = svg_text(draw_report(*measure_order(order), format="svg"))
    assert [str(warning.message) for warning in told] == []
    assert "日本語の作業0の…" in text
    assert tasks[0] not in text
