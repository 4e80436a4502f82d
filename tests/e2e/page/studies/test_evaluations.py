"""The views of evaluations."""

import re

from playwright.sync_api import BrowserContext, Page, expect
from tests.support import browser as chromium
from tests.support.page_studies import Seeded

from nearfirst.contracts.runs import RunKind


def test_evaluations_are_listed_and_their_curves_laid_over_each_other(page: Page, url: str, seeded: Seeded) -> None:
    page.goto(f"{url}/#/evaluations?state=succeeded")
    near, random = (seeded.run_of(seeded.done, RunKind.EVALUATION, label) for label in ("nearest first", "random"))
    page.get_by_role("checkbox", name=f"Compare {near}").check()
    page.get_by_role("checkbox", name=f"Compare {random}").check()
    chart = page.get_by_role("img", name=re.compile("Loss over checkpoints"))
    expect(chart).to_have_accessible_name(re.compile(f"{near} of job_.*: from .*{random} of job_.*: from "))
    assert re.search(r"compare=\w+%2C\w+", page.url)
    page.get_by_role("button", name=f"Take {near} out of the comparison").click()
    expect(chart).not_to_have_accessible_name(re.compile(near))


def test_an_evaluation_shows_units_curves_and_tasks(page: Page, url: str, seeded: Seeded) -> None:
    evaluation = seeded.run_of(seeded.done, RunKind.EVALUATION, "nearest first")
    page.goto(f"{url}/#/evaluations/{evaluation}")
    units = page.get_by_role("region", name="Units of each checkpoint")
    expect(units.get_by_text("succeeded")).to_have_count(9)  # three checkpoints: loss, answers, text metrics
    page.get_by_role("button", name="ROUGE-L").press("Enter")
    expect(page.get_by_role("img", name=re.compile("ROUGE-L over checkpoints"))).to_be_visible()
    page.get_by_label("Of which examples").select_option("Each task for itself")
    chart = page.get_by_role("img", name=re.compile("ROUGE-L over checkpoints"))
    expect(chart).to_have_accessible_name(re.compile("entailment: from .*translation: from"))


def test_one_test_row_is_shown_at_each_checkpoint_and_the_arrow_keys_go_on(
    page: Page, url: str, seeded: Seeded
) -> None:
    evaluation = seeded.run_of(seeded.done, RunKind.EVALUATION, "nearest first")
    page.goto(f"{url}/#/evaluations/{evaluation}")
    cards = page.locator(".answer-card")
    expect(cards).to_have_count(3)
    expect(page.get_by_text("Entailment, instructions, test, number 0.")).to_be_visible()
    expect(cards.last).to_contain_text(re.compile(r"Step 60.*Loss\d\.\d{3} \(best\)"))
    page.locator("body").press("ArrowRight")
    page.locator("body").press("ArrowRight")
    expect(page.get_by_text("Row 3 of 40")).to_be_visible()
    expect(page.get_by_text("Summarisation, instructions, test, number 2.")).to_be_visible()
    assert "row=2" in page.url
    page.locator("body").press("ArrowLeft")
    expect(page.get_by_text("Row 2 of 40")).to_be_visible()
    page.get_by_label("Rows of").select_option("translation")
    expect(page.get_by_text("Row 1 of 10")).to_be_visible()
    expect(page.get_by_text("Translation, instructions, test, number 3.")).to_be_visible()


def test_an_evaluation_is_submitted_and_refused_at_its_fields(
    context: BrowserContext, url: str, seeded: Seeded
) -> None:
    job = seeded.run_of(seeded.done, RunKind.TRAIN_JOB, "random")
    with chromium.opened(context, url, "422") as (page, _):
        page.goto(f"{url}/#/evaluations/new?train_job={job}")
        page.get_by_role("button", name="Measure").click()
        test_set = page.get_by_label("Test set")
        expect(test_set).to_have_accessible_description("choose what they are to be measured on")
        test_set.select_option(seeded.maker.dataset("instructions, test", 0))
        page.get_by_role("checkbox", name="ROUGE-1").check()
        temperature = page.get_by_label("Temperature")
        temperature.fill("-1")
        page.get_by_role("button", name="Measure").click()
        expect(temperature).to_have_accessible_description(re.compile("greater than or equal to 0"))
        temperature.fill("")
        page.get_by_label("Tasks").fill("cooking")
        page.get_by_role("button", name="Measure").click()
        expect(page.get_by_label("Tasks")).to_have_accessible_description(re.compile("cooking"))
        page.get_by_label("Tasks").fill("entailment, translation")
        page.get_by_role("button", name="Measure").click()
        expect(page).to_have_title(re.compile("^evl_"))
        expect(page.get_by_text("no loss worker is known")).to_be_visible()
        page.get_by_role("button", name="Cancel", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the evaluation").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume the evaluation").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("queued")
