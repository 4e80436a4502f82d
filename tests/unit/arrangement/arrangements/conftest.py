"""The API with two datasets and their arrangements."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from tests.support.page_orders import PageOrders, make_orders

from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst_arrangement.app import make_app


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(home=tmp_path_factory.mktemp("home"))
    upgrade(found.database_url)
    return found


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(make_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def orders(client: TestClient, settings: Settings) -> PageOrders:
    return make_orders(client, settings)
