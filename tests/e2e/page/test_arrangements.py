"""The views of arrangements, and the form of a training on one."""

import json
import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.support import browser as chromium
from tests.support.page_orders import NUM_TRAIN, PageOrders, rows_of_test, vectors
from tests.support.tiny import make_tiny_llama

from nearfirst.settings import Settings


@pytest.fixture(scope="module")
def tiny_model(settings: Settings) -> str:
    texts = [f"{row['prompt']} {row['completion']}" for row in rows_of_test()]
    return str(make_tiny_llama(settings.home / "models" / "tiny", texts, layers=1))


def test_the_report_draws_distance_tasks_coverage_and_what_leaks(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/arrangements/{orders.nearest}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("TMA, nearest first")
    for chart in ("Distance of train rows", "Best similarity of test rows", "Similarity curve"):
        expect(page.get_by_role("img", name=re.compile(chart))).to_be_visible()
    expect(page.locator(".mix-bar")).to_have_count(10)
    near = page.get_by_role("region", name="Too near?")
    expect(near.locator(".check-line").first).to_contain_text(re.compile(r"Same text\s*1 rows"))
    near.get_by_text("See them").first.click()
    expect(near.get_by_text("train-5").first).to_be_visible()
    near.get_by_role("button", name=re.compile("^Position")).first.click()
    rows = page.get_by_role("region", name="Its rows")
    expect(rows.locator(".example").first).to_contain_text("train-5")


def test_each_measure_of_the_curve_can_be_chosen(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/arrangements/{orders.nearest}")
    measures = page.get_by_label("Measure")
    expect(measures.locator("option")).to_have_count(9)
    for value in ("euclidean.max", "kl", "cosine.centroid"):
        measures.select_option(value)
        words = measures.locator(f"option[value='{value}']").inner_text()
        expect(page.get_by_role("img", name=re.compile(f"Similarity curve, {words}"))).to_be_visible()


def test_rows_stand_beside_the_test_row_that_is_nearest(page: Page, url: str, orders: PageOrders) -> None:
    train, test = vectors()
    page.goto(f"{url}/#/arrangements/{orders.nearest}")
    rows = page.get_by_role("region", name="Its rows")
    first = rows.locator(".example").first
    index = int(re.search(r"train-(\d+)", first.inner_text())[1])
    similarity = train[index] @ test.T
    expect(first).to_contain_text(f"test-{similarity.argmax()}")
    rows.get_by_role("button", name="Last rows").click()
    expect(rows.get_by_text(f"Positions {NUM_TRAIN - 3} to {NUM_TRAIN - 1}")).to_be_visible()
    rows.get_by_role("button", name="Back").focus()
    page.keyboard.press("Enter")
    expect(rows.get_by_text(f"Positions {NUM_TRAIN - 6} to {NUM_TRAIN - 4}")).to_be_visible()


def test_the_arranged_data_is_saved_and_the_note_on_its_order_is_shown(
    page: Page, url: str, orders: PageOrders
) -> None:
    page.goto(f"{url}/#/arrangements/{orders.nearest}")
    page.get_by_label("Layout").select_option("alpaca")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the arranged data").click()
    assert download.value.suggested_filename == f"{orders.nearest}.alpaca.jsonl"
    assert len(download.value.path().read_text().splitlines()) == NUM_TRAIN
    page.get_by_role("button", name="How to keep the order").click()
    expect(page.get_by_text("Keep the order", exact=True)).to_be_visible()


def test_two_orders_are_compared(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/arrangements")
    for name in ("nearest", "farthest"):
        page.get_by_role("checkbox", name=re.compile(getattr(orders, name))).check()
    assert page.url.endswith(f"compare={orders.nearest}%2C{orders.farthest}")
    compared = page.get_by_role("region", name="Compared")
    expect(compared).to_contain_text(f"{NUM_TRAIN} of {NUM_TRAIN} and {NUM_TRAIN}")
    expect(compared.get_by_role("img", name=re.compile("Share of the first rows"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Mean distance to the nearest test row"))).to_be_visible()
    expect(page.locator(".mix-bars")).to_have_count(2)
    compared.get_by_role("button", name="Done").click()
    expect(compared).to_have_count(0)


def test_only_what_fits_the_method_is_asked_for(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/arrangements/new?train={orders.train}&test={orders.test}")
    expect(page.get_by_label("Train on", exact=True)).to_have_value(orders.train)
    expect(page.get_by_label("Up to round")).to_be_visible()
    expect(page.get_by_label("Seed", exact=True)).to_have_count(0)
    page.get_by_role("radio", name=re.compile("^Random")).check()
    for gone in ("Up to round", "Order", "Similarity", "Model"):
        expect(page.get_by_label(gone, exact=True)).to_have_count(0)
    page.get_by_label("Seed", exact=True).fill("12")
    page.get_by_role("button", name="Arrange", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Random")
    expect(page.get_by_text("It waits", exact=True)).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    expect(page.locator("h1 .badge")).to_have_text("cancelled")


def test_a_refused_rule_is_said_at_its_field(context: BrowserContext, url: str, orders: PageOrders) -> None:
    with chromium.opened(context, url, "422") as (page, _):
        page.goto(f"{url}/#/arrangements/new?like={orders.random}")
        limit = page.get_by_label("Limit")
        limit.fill("5000")
        page.get_by_role("button", name="Arrange", exact=True).click()
        expect(limit).to_have_attribute("aria-invalid", "true")
        expect(limit).to_be_focused()
        expect(page.locator(".field-error")).to_have_text(re.compile(f"Got 5000, wanted at most {NUM_TRAIN}"))
        limit.fill("-1")
        page.get_by_role("button", name="Arrange", exact=True).click()
        expect(page.locator(".field-error")).to_contain_text("greater than or equal to 1")


def test_what_failed_and_what_waits_say_why(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/arrangements/{orders.failed}")
    expect(page.get_by_text("the rows name no task")).to_be_visible()
    expect(page.get_by_role("link", name="Train on it")).to_have_count(0)
    page.goto(f"{url}/#/arrangements/{orders.queued}")
    expect(page.get_by_text("It waits", exact=True)).to_be_visible()


def test_a_training_is_started_after_it_was_said_what_it_takes(
    page: Page, url: str, orders: PageOrders, tiny_model: str
) -> None:
    page.goto(f"{url}/#/arrangements/{orders.nearest}")
    page.get_by_role("link", name="Train on it").click()
    expect(page.get_by_label("Model")).to_have_value(tiny_model)
    expect(page.get_by_label("On", exact=True)).to_have_value(orders.test)
    page.get_by_label("Steps", exact=True).fill("6")
    start = page.get_by_role("button", name="Start the training")
    expect(start).to_have_count(0)
    page.get_by_role("button", name="What does it take?").click()
    takes = page.get_by_role("region", name="What it takes")
    expect(takes.locator(".stat").first).to_contain_text(re.compile(r"Steps\s*6\s*96 rows"))
    page.get_by_label("Rows in a step").fill("8")
    expect(start).to_have_count(0)
    page.get_by_role("button", name="What does it take?").click()
    expect(takes.locator(".stat").first).to_contain_text("48 rows")
    start.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("job_")
    expect(page.get_by_role("link", name=orders.nearest)).to_be_visible()


def test_a_training_is_written_as_json(context: BrowserContext, url: str, orders: PageOrders, tiny_model: str) -> None:
    with chromium.opened(context, url, "422") as (page, _):
        page.goto(f"{url}/#/runs/new?arrangement={orders.nearest}")
        page.get_by_role("button", name="Your own JSON").click()
        body = page.get_by_label("Body of POST /train-jobs")
        expect(body).to_have_value(re.compile(re.escape(tiny_model)))
        body.fill("{")
        expect(page.locator(".field-error")).to_contain_text("This isn't JSON")
        body.fill(json.dumps({"arrangement": orders.nearest, "model": {"name_or_path": "x"}, "wrong": 1}))
        page.get_by_role("button", name="What does it take?").click()
        expect(page.get_by_role("alert").filter(has_text="no such field is known")).to_be_visible()
