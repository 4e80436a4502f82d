"""The views of trainings."""

import re

from playwright.sync_api import Page, expect
from tests.support.page_registry import PageRegistry


def test_the_overview_says_what_runs_what_waits_and_why_and_who_does_it(
    page: Page, url: str, registry: PageRegistry
) -> None:
    page.goto(url)
    expect(page).to_have_title("Overview · Nearfirst")
    running = page.get_by_role("region", name="Running")
    expect(running.get_by_role("link", name=registry.jobs["running"])).to_be_visible()
    waiting = page.get_by_role("row", name=re.compile(registry.jobs["queued"]))
    expect(waiting).to_contain_text("4 GPUs")
    worker = page.get_by_role("row", name=re.compile("NVIDIA H100"))
    expect(worker).to_contain_text(f"GPU 0: NVIDIA H100 80GB HBM3, 80 GiB, {registry.jobs['running']}")
    expect(worker).to_contain_text("GPU 1: NVIDIA H100 80GB HBM3, 80 GiB, free")
