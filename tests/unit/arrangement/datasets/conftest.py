"""The API on an empty registry."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

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
