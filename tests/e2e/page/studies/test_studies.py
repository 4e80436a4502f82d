"""The views of studies."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Request, expect
from tests.support import browser as chromium
from tests.support.page_studies import Seeded

from nearfirst.contracts.runs import RunKind

SERIOUS = {"serious", "critical"}
LOOKS: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 400)]
VISIBLE_WAIT_S = 5.0
"""Of the whole view, on a machine that does other things too; alone it is a tenth of it."""
FIRST_FIGURE_MS = 120_000
"""A process's first figure imports matplotlib, which looks for fonts."""
VIEWS = {
    "list": "#/studies",
    "done": "#/studies/{seeded.done}",
    "differences": "#/studies/{seeded.done}?chart=effects&metric=rougeL",
    "under way": "#/studies/{seeded.under_way}",
    "failed": "#/studies/{seeded.failed}",
    "paused": "#/studies/{seeded.sweeps[0]}",
    "new": "#/studies/new",
    "own": "#/studies/new?source=own",
    "evaluations": "#/evaluations",
    "evaluation": "#/evaluations/{evaluation}",
    "new evaluation": "#/evaluations/new",
}


@contextmanager
def asked(page: Page) -> Iterator[list[str]]:
    """The paths of the API that the page asks meanwhile."""
    found: list[str] = []

    def note(request: Request) -> None:
        path = urlsplit(request.url).path
        if "/assets/" not in path and path not in ("/", "/events"):
            found.append(path)

    page.on("request", note)
    yield found
    page.remove_listener("request", note)


def open_study(page: Page, url: str, study: str) -> None:
    page.goto(f"{url}/#/studies/{study}")
    expect(page.locator(".skeleton")).to_have_count(0)


def test_ten_studies_of_twelve_runs_are_listed_filtered_and_opened_with_few_requests(
    page: Page, url: str, seeded: Seeded
) -> None:
    page.goto(f"{url}/#/nowhere")
    expect(page.get_by_text("This address belongs to none")).to_be_visible()
    with asked(page) as paths:
        started_s = time.monotonic()
        page.get_by_role("link", name="Studies").click()
        expect(page.get_by_role("row", name=re.compile(r"sweep \d"))).to_have_count(10)
        listed_s = time.monotonic() - started_s
        assert paths == ["/studies"]
        page.get_by_label("Find by name").fill("sweep 7")
        expect(page.get_by_role("row", name=re.compile(r"sweep \d"))).to_have_count(1)
        del paths[:]
        started_s = time.monotonic()
        page.get_by_role("link", name="sweep 7").click()
        expect(page.locator(".track")).to_have_count(12)
        opened_s = time.monotonic() - started_s
        expect(page.locator(".skeleton")).to_have_count(0)
        study = f"/studies/{seeded.sweeps[7]}"
        assert set(paths) == {study, f"{study}/nodes", f"{study}/report", "/queue"}
        assert len(paths) <= 6
    print(f"listed in {listed_s:.2f} s, opened in {opened_s:.2f} s")
    assert max(listed_s, opened_s) < VISIBLE_WAIT_S


def test_a_finished_study_says_in_words_what_helped_and_how_sure_one_can_be(
    page: Page, url: str, seeded: Seeded
) -> None:
    open_study(page, url, seeded.done)
    answers = page.locator(".answer")
    expect(answers).to_have_count(2)
    expect(answers.first).to_contain_text(
        re.compile(
            r"nearest first is better: at step 60 its loss is 0\.\d{3} lower than that of random, 95 % interval −0"
        )
    )
    expect(answers.last).to_contain_text("farthest first is worse")
    expect(page.get_by_role("img", name=re.compile("Loss over steps.*nearest first: from"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("random 2 .* to ")).first).to_be_visible()  # steps, area
    expect(page.get_by_text("verified")).to_have_count(6)
    page.get_by_role("button", name="ROUGE-L").first.press("Enter")
    expect(page.get_by_role("img", name=re.compile("ROUGE-L over steps"))).to_be_visible()
    page.get_by_role("button", name="Figure").press("Enter")
    figure = page.get_by_role("img", name=re.compile("The figure of the study"))
    expect(figure).to_be_visible(timeout=FIRST_FIGURE_MS)
    with page.expect_download() as download:
        page.get_by_role("group", name="Report").get_by_role("button", name="Markdown").click()
    assert download.value.suggested_filename == "which-order-first.md"
    assert "nearest first" in download.value.path().read_text()


def test_a_study_under_way_shows_what_runs_what_waits_and_grows(page: Page, url: str, seeded: Seeded) -> None:
    open_study(page, url, seeded.under_way)
    expect(page.get_by_text("baseline: none is given")).to_be_visible()
    expect(page.get_by_role("link", name="Training of random, seed 0: running, 75 %")).to_be_visible()
    expect(page.get_by_text("45 of 60 steps, 45 s left")).to_be_visible()
    expect(page.get_by_text("no training worker is known")).to_be_visible()
    chart = page.get_by_role("img", name=re.compile("Loss over steps"))
    expect(chart).to_have_accessible_name(re.compile(r"nearest first: from \S+ to \S+ at step 40"))
    seeded.maker.measure(seeded.under_way)
    expect(chart).to_have_accessible_name(re.compile(r"nearest first: from \S+ to \S+ at step 60"), timeout=30_000)


def test_a_failed_run_is_named_and_its_study_can_be_resumed(page: Page, url: str, seeded: Seeded) -> None:
    open_study(page, url, seeded.failed)
    expect(page.get_by_text("step 41: the loss is not a finite number").first).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("Training of farthest first, seed 0: failed"))).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_a_study_is_paused_resumed_given_seeds_and_cancelled(page: Page, url: str, seeded: Seeded) -> None:
    open_study(page, url, seeded.sweeps[1])
    for button, confirm, state in (("Pause", "Pause", "paused"), ("Resume", "Resume", "queued")):
        page.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name=confirm).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile(state + "|running"))
    page.get_by_role("button", name="Add seeds").click()
    seeds = page.get_by_role("dialog").get_by_label("Seeds")
    seeds.fill("two")
    seeds.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("wanted whole numbers with commas between, got two")
    seeds.fill("7, 8")
    seeds.press("Enter")
    expect(page.locator(".track")).to_have_count(20)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the study").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")


def test_quickstart_is_chosen_estimated_and_run_with_the_keyboard(page: Page, url: str) -> None:
    page.goto(f"{url}/#/studies/new")
    expect(page.get_by_role("radio", name=re.compile("quickstart"))).to_be_checked()
    page.get_by_role("radio", name=re.compile("quickstart")).press("ArrowDown")
    expect(page.get_by_role("button", name="paper scale")).to_be_visible()
    page.get_by_role("radio", name=re.compile("figure1")).press("ArrowUp")
    page.get_by_role("button", name="What would it take?").press("Enter")
    panel = page.get_by_role("region", name="What it would take")
    expect(panel).to_contain_text("12 80 steps each", timeout=60_000)
    expect(panel).to_contain_text("1,315,968")
    page.get_by_role("button", name="Run study").press("Enter")
    expect(page).to_have_title("quickstart · Nearfirst", timeout=60_000)
    expect(page.locator(".track")).to_have_count(12)


def test_the_paper_scale_says_which_data_it_needs(page: Page, url: str) -> None:
    page.goto(f"{url}/#/studies/new?preset=figure3&scale=paper")
    expect(page.get_by_text("This scale needs data of yours")).to_be_visible()
    expect(page.get_by_text("In place of flan-mini.json")).to_be_visible()
    expect(page.get_by_role("button", name="Run study")).to_be_disabled()


def test_a_spec_of_ones_own_is_refused_at_its_fields_and_warned_of(
    context: BrowserContext, url: str, seeded: Seeded
) -> None:
    with chromium.opened(context, url, "422") as (page, _):
        page.goto(f"{url}/#/studies/new?source=own")
        train, test = (seeded.maker.dataset(f"instructions, {part}", 0) for part in ("train", "test"))
        text = "\n".join(
            (
                "name: own",
                f"train: {train}",
                f"test: {test}",
                "colour: red",
                "arrangements: [{label: a, method: as_is}, {label: b, method: random}]",
                "seeds: [1, 1]",
                f"training: {{model: {{name_or_path: {seeded.maker.settings.home}/models/tiny-llama, init: random}}}}",
            )
        )
        spec = page.get_by_role("textbox", name="Spec")
        spec.fill(text)
        page.get_by_role("button", name="Run study").click()
        expect(page.get_by_role("alert").filter(has_text="no such field is known")).to_be_visible()
        expect(page.get_by_text("line 4: colour")).to_be_visible()
        spec.fill(text.replace("colour: red\n", ""))
        page.get_by_role("button", name="Run study").click()
        expect(page.get_by_text("seeds: 1 is used twice").first).to_be_visible()
        expect(page.get_by_text("line 5: seeds")).to_be_visible()
        spec.fill(text.replace("colour: red\n", "").replace("[1, 1]", "[1, 2, 3]"))
        page.get_by_role("button", name="Run study").click()
        expect(page).to_have_title("own · Nearfirst")
        expect(page.get_by_text("baseline: none is given")).to_be_visible()


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(
    page: Page, url: str, seeded: Seeded, view: str
) -> None:
    evaluation = seeded.run_of(seeded.done, RunKind.EVALUATION, "random")
    page.goto(f"{url}/{VIEWS[view].format(seeded=seeded, evaluation=evaluation)}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".skeleton")).to_have_count(0)
    for theme, width in LOOKS:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], [node["target"] for node in each["nodes"]]) for each in found if each["impact"] in SERIOUS
        ]
        assert serious == [], theme
        assert page.evaluate("document.documentElement.scrollWidth") <= width
