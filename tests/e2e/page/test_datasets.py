"""The views of datasets."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.support import browser as chromium
from tests.support.page_orders import LONG, MARKUP, NUM_TRAIN, TASKS, PageOrders

ROWS = [{"task": "t", "prompt": f"Say {n}.", "completion": f"It is {n}."} for n in range(12)]


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "from-here.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_file_is_chosen_named_and_added_and_its_rows_are_read(page: Page, url: str, rows_file: Path) -> None:
    page.goto(f"{url}/#/datasets")
    page.get_by_role("link", name="Add a dataset").first.click()
    add = page.get_by_role("button", name="Add it")
    expect(add).to_be_disabled()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(rows_file)
    expect(page.get_by_text("from-here.jsonl")).to_be_visible()
    page.get_by_label("Name").fill("Twelve rows")
    add.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Twelve rows")
    examples = page.get_by_role("region", name="Examples")
    expect(examples.get_by_text("Say 0.")).to_be_visible()
    examples.get_by_role("button", name="Next").click()
    expect(examples.get_by_text("Say 5.")).to_be_visible()
    examples.get_by_role("spinbutton").fill("11")
    examples.get_by_role("spinbutton").press("Enter")
    expect(examples.get_by_text("It is 11.")).to_be_visible()
    expect(examples.get_by_role("button", name="Next")).to_be_disabled()
    page.goto(f"{url}/#/datasets")
    page.get_by_role("searchbox").fill("twelve")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_file_is_dropped(page: Page, url: str) -> None:
    page.goto(f"{url}/#/datasets/new")
    content = "".join(json.dumps(row) + "\n" for row in ROWS[:3])
    transfer = page.evaluate_handle(
        """(content) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([content], "dropped.jsonl"));
            return transfer;
        }""",
        content,
    )
    page.locator(".dropzone").dispatch_event("drop", {"dataTransfer": transfer})
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("dropped.jsonl")


def test_what_is_wrong_is_said_where_it_is(context: BrowserContext, url: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "p", "completion": "c"}\n{"prompt": 7}\n')
    with chromium.opened(context, url, "422", "403") as (page, _):
        page.goto(f"{url}/#/datasets/new")
        page.locator("#dataset-file").set_input_files(broken)
        page.get_by_role("button", name="Add it").click()
        expect(page.locator("#dataset-file-error")).to_contain_text(re.compile("line 2|row 1"))
        page.get_by_role("button", name="A source that the server reads").click()
        source = page.get_by_label("Source")
        source.fill("../../etc/passwd")
        page.get_by_role("button", name="Add it").click()
        expect(source).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".field-error")).to_contain_text("passwd")
        source.fill("ftp://example.org/rows.jsonl")
        page.get_by_role("button", name="Add it").click()
        expect(page.locator(".field-error")).to_contain_text("ftp")


def test_long_texts_are_folded_and_markup_is_text(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/datasets/{orders.train}")
    examples = page.get_by_role("region", name="Examples")
    fold = examples.get_by_role("button", name=re.compile("^All .* characters"))
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(examples.get_by_text(LONG.strip(), exact=True)).to_have_count(0)
    fold.click()
    expect(examples.get_by_text(LONG.strip(), exact=True)).to_be_visible()
    expect(examples.get_by_text(MARKUP)).to_be_visible()
    assert page.title() == "pool.jsonl · Nearfirst"


def test_a_task_is_chosen_by_keyboard_and_its_rows_alone_are_shown(page: Page, url: str, orders: PageOrders) -> None:
    page.goto(f"{url}/#/datasets/{orders.train}")
    task = page.get_by_role("region", name="Tasks").get_by_role("button", name=TASKS[1])
    expect(task).to_contain_text(str(NUM_TRAIN // len(TASKS)))
    task.focus()
    page.keyboard.press("Enter")
    expect(task).to_have_attribute("aria-pressed", "true")
    examples = page.get_by_role("region", name="Examples")
    expect(examples.locator(".example")).to_have_count(5)
    for shown in examples.locator(".example").all():
        expect(shown).to_contain_text(TASKS[1])
    examples.get_by_role("button", name=f"Show all tasks, not only {TASKS[1]}").click()
    expect(examples.get_by_text("train-0", exact=True)).to_be_visible()


def test_a_dataset_that_is_not_there_says_so(context: BrowserContext, url: str) -> None:
    with chromium.opened(context, url, "404") as (page, _):
        page.goto(f"{url}/#/datasets/ds_0000000000000000")
        expect(page.get_by_role("alert").filter(has_text="no dataset has the id")).to_be_visible()
