"""What holds in every view: accessibility, room, and nothing in the console."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.support.page_orders import PageOrders
from tests.support.page_registry import PageRegistry

VIEWS = {
    "overview": "#/",
    "datasets": "#/datasets",
    "arrangements": "#/arrangements",
    "dataset": "#/datasets/{train}",
    "new dataset": "#/datasets/new",
    "arrangement": "#/arrangements/{nearest}",
    "failed arrangement": "#/arrangements/{failed_arrangement}",
    "arrangements compared": "#/arrangements?compare={nearest},{farthest}",
    "new arrangement": "#/arrangements/new?like={nearest}",
    "new training": "#/runs/new?arrangement={nearest}",
    "runs": "#/runs",
    "comparison": "#/runs?compare={succeeded},{other},{running},{empty}",
    "running": "#/runs/{running}",
    "succeeded": "#/runs/{succeeded}?chart=tasks",
    "failed": "#/runs/{failed}",
    "queued": "#/runs/{queued}",
    "evaluations": "#/evaluations",
    "studies": "#/studies",
}
SERIOUS = {"serious", "critical"}
LOOKS: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 360)]


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(
    page: Page, url: str, registry: PageRegistry, orders: PageOrders, view: str
) -> None:
    ids = {**vars(orders), "failed_arrangement": orders.failed, **registry.jobs}
    page.goto(f"{url}/{VIEWS[view].format(**ids)}")
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
