"""The page in a browser, on a registry that is filled directly."""

import logging
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.support import browser as chromium
from tests.support import page_registry
from tests.support.page_orders import PageOrders, make_orders
from tests.support.page_registry import PageRegistry
from tests.support.served import served

from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.app import make_app

WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")  # its event loop must not outlive the module: other tests run loops of their own
def browser() -> Iterator[Browser]:
    if chromium.CHROMIUM is None:
        pytest.skip("no Chromium is installed: the page isn't looked at")
    with sync_playwright() as playwright:
        launched = chromium.launch(playwright)
        yield launched
        launched.close()


@pytest.fixture(scope="session", autouse=True)
def root_logging() -> Iterator[None]:
    """The API configures the root logger of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(home=tmp_path_factory.mktemp("home"), lease_s=3600)  # its workers say nothing more
    upgrade(found.database_url)
    return found


@pytest.fixture(scope="session")
def registry(settings: Settings) -> Iterator[PageRegistry]:
    database = Database(settings.database_url)
    yield page_registry.fill(database, Store(settings.store_url, cache=settings.home / "cache"))
    database.close()


@pytest.fixture(scope="session")
def url(settings: Settings, registry: PageRegistry) -> Iterator[str]:
    """Of the API, which asks for no key."""
    with served(make_app(settings)) as found:
        yield found


@pytest.fixture(scope="session")
def orders(settings: Settings, url: str) -> PageOrders:
    """Datasets and arrangements that are in the registry beside the train jobs."""
    with httpx.Client(base_url=url) as client:
        return make_orders(client, settings)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without any memory."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, url: str) -> Iterator[Page]:
    """A page of `url`; a console error or a request to elsewhere fails the test."""
    with chromium.opened(context, url) as (made, _):
        yield made
