"""What all views share: the key, the theme, the keyboard, and an API that goes away."""

import logging
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.support import browser as chromium
from tests.support import page_registry
from tests.support.page_registry import PageRegistry
from tests.support.served import served
from tests.support.suite import free_port

from nearfirst.contracts.keys import Role
from nearfirst.registry.api_keys import create_key
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.app import make_app

REFUSED = "status of 401"
"""Chromium itself writes every refused request to the console."""


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL of an API that asks for a key, and one that may read."""
    settings = Settings(home=tmp_path_factory.mktemp("closed"), lease_s=3600)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    page_registry.fill(database, Store(settings.store_url, cache=settings.home / "cache"))
    with database.write() as session:
        key = create_key(session, "reader", Role.READ).key
    database.close()
    with served(make_app(settings)) as url:
        yield url, key


def test_the_key_is_asked_for_kept_for_the_tab_and_never_part_of_an_address(
    context: BrowserContext, closed: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    url, key = closed
    requests: list[str] = []
    with caplog.at_level(logging.DEBUG), chromium.opened(context, url, REFUSED) as (page, _):
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{url}/#/runs")
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog).to_contain_text("needs an API key")
        expect(page.locator("tbody tr")).to_have_count(0)
        dialog.get_by_label("Key", exact=True).fill("nf_wrong")
        dialog.get_by_role("button", name="Use key").click()
        expect(dialog).to_contain_text("unknown or was revoked")
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_role("button", name="Use key").click()
        expect(dialog).to_be_hidden()
        expect(page.locator("tbody tr")).to_have_count(7)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.reload()
        expect(page.locator("tbody tr")).to_have_count(7)
        assert page.evaluate("JSON.stringify(localStorage)").count(key) == 0
        assert page.evaluate("JSON.stringify(sessionStorage)").count(key) == 1
        assert key not in page.url
        page.get_by_role("button", name="Forget key").click()
        expect(dialog).to_be_visible()
        assert page.evaluate("JSON.stringify(sessionStorage)").count(key) == 0
    assert len(requests) > 20
    assert not [request for request in requests if key in request]
    assert key not in caplog.text


def test_a_remembered_key_is_there_in_another_tab(context: BrowserContext, closed: tuple[str, str]) -> None:
    url, key = closed
    with chromium.opened(context, url, REFUSED) as (page, _):
        page.goto(f"{url}/#/runs")
        dialog = page.get_by_role("dialog", name="API key")
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_label("Remember on this device").check()
        dialog.get_by_role("button", name="Use key").click()
        expect(page.locator("tbody tr")).to_have_count(7)
    with chromium.opened(context, url) as (page, _):
        page.goto(f"{url}/#/runs")
        expect(page.locator("tbody tr")).to_have_count(7)


def test_a_reader_s_cancel_is_refused_in_the_api_s_words(context: BrowserContext, closed: tuple[str, str]) -> None:
    url, key = closed
    with chromium.opened(context, url, REFUSED, "status of 403") as (page, _):
        page.goto(f"{url}/#/runs?state=queued")
        dialog = page.get_by_role("dialog", name="API key")
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_role("button", name="Use key").click()
        page.get_by_role("rowheader").get_by_role("link").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the run").click()
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("needs a key of the role submit")


def test_the_chosen_theme_stays(page: Page, url: str) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(url)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Use the dark theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Use the light theme").click()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()
    assert page.evaluate(ground) == dark, "the system's own is followed again"


def test_the_keyboard_is_enough(page: Page, url: str, registry: PageRegistry) -> None:
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.get_by_role("navigation").get_by_role("link", name="Runs").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Runs")).to_be_focused()
    page.get_by_role("searchbox").fill(registry.jobs["running"])
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name=registry.jobs["running"]).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=re.compile(registry.jobs["running"]))).to_be_focused()
    cancel = page.get_by_role("button", name="Cancel")
    cancel.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(cancel).to_be_focused()


def test_an_address_of_no_view_says_so(page: Page, url: str) -> None:
    page.goto(f"{url}/#/nowhere/at/all")
    expect(page.get_by_role("heading", name="No such view")).to_be_visible()
    page.get_by_role("link", name="Go to the overview").click()
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_visible()


def test_an_unknown_run_is_told_in_the_api_s_words(context: BrowserContext, url: str) -> None:
    with chromium.opened(context, url, "status of 404") as (page, _):
        page.goto(f"{url}/#/runs/job_0000000000000000")
        expect(page.get_by_role("alert").filter(has_text="job_0000000000000000")).to_be_visible()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_the_api_may_go_away_and_come_back_while_the_page_is_open(
    browser: Browser, context: BrowserContext, settings: Settings, registry: PageRegistry
) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    with chromium.opened(context, origin, "net::ERR_") as (page, _):
        with served(make_app(settings), port):
            page.goto(f"{origin}/#/runs/{registry.jobs['running']}")
            expect(page.get_by_text("Live", exact=True)).to_be_visible()
            expect(page.get_by_role("img", name=re.compile("^Loss of"))).to_be_visible()
        banner = page.get_by_text("API unreachable, trying again")
        expect(banner).to_be_visible()
        expect(page.get_by_role("img", name=re.compile("^Loss of"))).to_be_visible()  # what was read stays
        with served(make_app(settings), port):
            expect(banner).to_be_hidden(timeout=30_000)
            expect(page.get_by_text("Live", exact=True)).to_be_visible()
            made = page_registry.record_long_curve(registry.database, 10)
            page.goto(f"{origin}/#/runs")
            expect(page.get_by_role("link", name=made)).to_be_visible()
