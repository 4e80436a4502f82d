"""Reports: one structure, three files with the same numbers, and warnings about what can't be trusted."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.study_reports import StudyReport
from nearfirst_arrangement.studies.figures.layouts import study_figure
from nearfirst_arrangement.studies.figures.render import render
from nearfirst_arrangement.studies.report.build import build_report
from nearfirst_arrangement.studies.report.html import inline_svg, to_html
from nearfirst_arrangement.studies.report.markdown import to_markdown
from nearfirst_arrangement.studies.report.write import write_report
from nearfirst_arrangement.studies.results import RunCost
from nearfirst_arrangement.studies.statistics.curves import mean_curve
from nearfirst_arrangement.studies.statistics.effects import compare

LOSS = MetricName.LOSS
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tables as lists of rows, all attributes, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.attributes, self.tags, self.ids = [], [], [], set(), []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def markdown_tables(text):
    tables, previous = [], ""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [re.sub(r"\\(.)", r"\1", cell).replace("&amp;", "&") for cell in line[2:-2].split(" | ")]
            if not previous.startswith("|"):
                tables.append([])
            if not all(re.fullmatch("-+:?", cell) for cell in cells):
                tables[-1].append(cells)
        previous = line
    return tables


def codes(report):
    return [warning.code for warning in report.warnings]


def changed(study, label, **fields):
    return replace(
        study,
        arrangements=tuple(replace(each, **fields) if each.label == label else each for each in study.arrangements),
    )


@pytest.fixture
def study(make_study):
    return make_study({"Nearest first": 1.0, "Random": 1.1, "Farthest first": 1.2}, baseline="Random")


@pytest.fixture
def report(study):
    return build_report(study, num_resamples=400)


def test_json_round_trips(report):
    assert StudyReport.model_validate_json(report.model_dump_json()) == report
    assert report.schema_version == 1


def test_numbers_are_those_of_the_statistics(study, report):
    effect = next(each for each in report.effects if each.arrangement == "Farthest first")
    found = compare(study, "Farthest first", "Random", LOSS, num_resamples=400)
    assert effect.end.mean == pytest.approx(found.end.mean)
    assert (effect.area.low, effect.area.high) == pytest.approx((found.area.low, found.area.high))
    assert effect.end.verdict == effect.area.verdict == "worse"
    assert report.effects[0].area.verdict == "better"
    curve = mean_curve(study.run_values("Random", LOSS))
    outcome = next(each for each in report.outcomes if each.arrangement == "Random")
    np.testing.assert_allclose(outcome.mean, curve.mean, atol=1e-9)
    assert outcome.steps_to.threshold == pytest.approx(curve.mean[-1])
    assert report.cost.seconds == 9 * 60 + 3 * (0 + 1 + 2)
    assert report.cost.tokens == 9000


def test_a_higher_score_is_better_and_a_higher_loss_worse(make_study):
    study = make_study({"Nearest first": 1.0, "Random": 1.1}, baseline="Random", metrics=(LOSS, MetricName.ROUGE1))
    loss, rouge = build_report(study, num_resamples=200).effects
    assert (loss.metric, loss.end.verdict) == (LOSS, "better")
    assert (rouge.metric, rouge.end.verdict) == (MetricName.ROUGE1, "better")
    assert loss.end.mean < 0 < rouge.end.mean


def test_an_arrangement_is_compared_with_its_own_baseline_and_with_none_where_that_is_itself(study):
    nearest, _, farthest = study.labels
    own = {nearest: farthest, farthest: farthest}
    arrangements = tuple(replace(each, baseline=own.get(each.label)) for each in study.arrangements)
    report = build_report(replace(study, arrangements=arrangements), num_resamples=200)
    ends = {outcome.arrangement: outcome.mean[-1] for outcome in report.outcomes if outcome.metric is LOSS}
    found = [(effect.arrangement, effect.reference) for effect in report.effects if effect.metric is LOSS]
    assert found == [(nearest, farthest)]
    assert report.effects[0].end.mean == pytest.approx(ends[nearest] - ends[farthest])
    assert report.warnings == []
    with pytest.raises(InvalidInput, match="'none' is none of the arrangements"):
        replace(study, baseline=None, arrangements=(replace(study.arrangements[0], baseline="none"),))


def test_steps_at_which_an_effect_is_clear_are_those_whose_interval_leaves_0_out(report):
    for effect in report.effects:
        sides = {
            step: "better" if high < 0 else "worse"
            for step, low, high in zip(effect.steps, effect.low, effect.high, strict=True)
            if low > 0 or high < 0
        }
        listed = {
            step: clear.verdict for clear in effect.clear for step in effect.steps if clear.first <= step <= clear.last
        }
        assert listed == sides
    assert report.effects[0].clear[-1].last == 100
    assert "; step by step better from " in to_markdown(report)


def test_html_and_markdown_have_the_same_tables(report):
    html, markdown = Page(to_html(report, {})).tables, markdown_tables(to_markdown(report))
    assert html == markdown
    assert len(html) >= 6
    effects = html[0]
    for row, found in zip(effects[1::2], report.effects, strict=True):
        assert row[5] == f"{found.area.mean:+.4f}".replace("-", "−")
        assert row[4] == found.area.verdict


def test_the_page_asks_no_other_host_and_runs_nothing(study, report):
    text = to_html(report, {"figure": render(study_figure(study), [study]).svg})
    page = Page(text)
    assert "script" not in page.tags
    assert "<metadata" not in text
    linked = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "data")]
    assert all(value.startswith("#") for value in linked)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_two_figures_of_a_page_share_no_id(study, report):
    svg = render(study_figure(study), [study]).svg
    page = Page(to_html(report, {"figure": svg, "figure3": svg}))
    assert len(page.ids) == len(set(page.ids)) > 0
    used = [value for name, value in page.attributes if name == "xlink:href"]
    assert {value.removeprefix("#") for value in used} <= set(page.ids)


def test_figures_on_the_page_follow_its_theme_and_are_described(study, report):
    text = to_html(report, {"figure": render(study_figure(study), [study]).svg})
    assert "var(--c0072b2, #0072B2)" in text
    assert "--c0072b2: #3f9ce0;" in text
    described = dict(Page(text).attributes)["aria-label"]
    assert described
    assert 'role="img"' in text
    assert 'aria-label="Test loss over optimizer steps by arrangement: Nearest first ends at ' in text
    assert "width=" not in inline_svg(render(study_figure(study), [study]).svg, "figure").split(">")[0]


def test_a_study_with_all_as_it_should_be_has_no_warnings(report):
    assert report.warnings == []
    assert "Warning" not in to_markdown(report)


def test_no_baseline_is_warned_of(make_study):
    report = build_report(make_study({"a": 1.0, "b": 1.1}), num_resamples=50)
    assert codes(report) == ["no_baseline"]
    assert "first arrangement, a" in report.warnings[0].detail
    assert report.design.baseline is None
    assert "No baseline was given" in to_html(report, {})
    assert "No baseline was given" in to_markdown(report)


def test_a_seed_used_twice_counts_once_and_is_warned_of(study):
    first, second, third = study.arrangement("Random").runs
    report = build_report(
        changed(study, "Random", runs=(first, second, third, replace(first, id="again"))), num_resamples=50
    )
    assert codes(report) == ["seed_used_twice"]
    assert "Random: seed 0 was used 2 times" in report.warnings[0].detail
    assert report.effects[0].seeds == [0, 1, 2]
    assert len(report.runs) == 10


def test_a_failed_run_is_left_out_and_warned_of_with_its_reason(study):
    first, second, third = study.arrangement("Random").runs
    cut = replace(third, steps=third.steps[:3], values={LOSS: third.values[LOSS][:3]}, failure="loss is not finite")
    report = build_report(changed(study, "Random", runs=(first, second, cut)), num_resamples=50)
    assert codes(report) == ["few_seeds", "failed_run"]
    assert "loss is not finite" in report.warnings[1].detail
    assert report.effects[0].seeds == [0, 1]
    assert report.effects[0].end_step == 100
    assert [run.last_step for run in report.runs if run.failure] == [20]


def test_runs_that_end_at_different_steps_are_warned_of(study):
    first, second, third = study.arrangement("Random").runs
    short = replace(third, steps=third.steps[:8], values={LOSS: third.values[LOSS][:8]})
    report = build_report(changed(study, "Random", runs=(first, second, short)), num_resamples=50)
    assert codes(report) == ["different_steps", "different_steps"]
    assert "seed 2 at step 70" in report.warnings[0].detail
    assert "Nearest first at step 100, Random at step 70" in report.warnings[1].detail
    assert report.effects[0].end_step == 70


def test_leaks_are_warned_of_and_counted(study, make_leak_report):
    report = build_report(changed(study, "Nearest first", report=make_leak_report(3, 7)), num_resamples=50)
    assert codes(report) == ["leaks"]
    assert "3 of 100 rows" in report.warnings[0].detail
    assert report.arrangements[0].leaks.instruction_rows == 7


def test_a_receipt_that_is_not_verified_is_warned_of(study, make_receipt):
    first, *others = study.arrangement("Random").runs
    report = build_report(
        changed(study, "Random", runs=(replace(first, receipt=make_receipt(False)), *others)), num_resamples=50
    )
    assert codes(report) == ["receipt_not_verified"]
    assert "NOT verified" in to_markdown(report)


def test_an_arrangement_without_any_measurement_is_warned_of_and_left_out(study):
    runs = tuple(replace(run, failure="out of memory") for run in study.arrangement("Random").runs)
    report = build_report(changed(study, "Random", runs=runs), num_resamples=50)
    assert {"not_measured", "not_comparable", "failed_run"} <= set(codes(report))
    assert report.effects == []
    assert "Nothing could be compared" in to_markdown(report)
    to_html(report, {})


def test_few_examples_and_one_seed_are_warned_of(make_study):
    report = build_report(make_study({"a": 1.0, "b": 1.1}, baseline="a", seeds=(0,), num_examples=4), num_resamples=50)
    assert codes(report) == ["few_seeds", "few_examples"]
    assert report.effects[0].end.low is None
    assert report.effects[0].end.verdict == "not clear"
    assert "–" in to_markdown(report)


def test_examples_that_are_never_counted_leave_gaps_and_no_nan(make_study):
    study = make_study({"a": 1.0, "b": 1.1}, baseline="a")
    for arrangement in study.arrangements:
        for run in arrangement.runs:
            run.values[LOSS][:, :20] = np.nan
            run.values[LOSS][3] = np.nan
    report = build_report(study, num_resamples=50)
    assert "NaN" not in report.model_dump_json()
    assert report.effects[0].end.num_examples == 40
    assert 30 not in report.effects[0].steps


def test_what_is_not_known_of_the_cost_is_said(study):
    first, *others = study.arrangement("Random").runs
    report = build_report(changed(study, "Random", runs=(replace(first, cost=RunCost()), *others)), num_resamples=50)
    assert report.cost.num_unknown == 1
    assert "not counting runs whose time isn't known: 1" in to_html(report, {}).replace("&#x27;", "'")


def test_a_training_that_two_arrangements_share_is_counted_and_paid_once(study):
    first, *others = study.arrangements
    shared = tuple(replace(run, id=f"job_{run.seed}") for run in first.runs)
    twin = replace(first, label="twin", runs=shared)
    doubled = replace(study, arrangements=(replace(first, runs=shared), twin, *others))
    report, alone = build_report(doubled, num_resamples=200), build_report(study, num_resamples=200)
    assert report.design.num_runs == alone.design.num_runs
    assert report.cost == alone.cost


def test_names_that_are_markup_are_shown_as_they_are(make_study):
    name = "<script>alert(1)</script>|a*b_c[d](e)"
    report = build_report(make_study({name: 1.0, "b & c": 1.1}, baseline="b & c"), num_resamples=50)
    page = Page(to_html(report, {}))
    assert "script" not in page.tags
    assert page.tables[0][1][1] == name
    assert r"\<script\>alert(1)\</script\>\|a\*b\_c\[d\](e)" in to_markdown(report)
    assert re.search(r"(?<!\\)<script", to_markdown(report).split("```")[0]) is None
    assert markdown_tables(to_markdown(report).replace("\\|", "¦"))[0][1][1].replace("¦", "|") == name


def test_sudden_drops_are_listed_by_task(make_study):
    study = make_study({"cluster": 1.0, "random": 1.0}, baseline="random", steps=np.arange(0, 600, 10))
    for run in study.arrangement("cluster").runs:
        run.values[LOSS][run.steps > 300] -= 0.5
    report = build_report(study, num_resamples=50)
    assert {(drop.arrangement, drop.step) for drop in report.drops} == {("cluster", 305.0)}
    assert {drop.task for drop in report.drops} == set(study.examples.tasks)


def test_a_folder_has_the_report_three_times_and_its_figures(study, report, tmp_path):
    figure = render(study_figure(study), [study])
    names = [path.name for path in write_report(report, [figure], tmp_path / "out")]
    assert names == [
        "report.html", "report.md", "report.json", "figure.svg", "figure.png", "figure.csv", "figure.json",
    ]  # fmt: skip
    assert "](figure.svg)" in (tmp_path / "out" / "report.md").read_text()
    assert StudyReport.model_validate_json((tmp_path / "out" / "report.json").read_text()) == report


def test_progress_is_told_and_may_stop(study):
    told = []
    build_report(study, num_resamples=20, progress=lambda done, total, unit: told.append((done, total, unit)))
    assert told == [(1, 3, "curves"), (2, 3, "curves"), (3, 3, "curves")]
