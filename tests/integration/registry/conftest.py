from collections.abc import Iterator
from pathlib import Path

import pytest

from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A registry made by the real migrations, on each database that is supported."""
    if request.param == "postgresql":
        url = request.getfixturevalue("database_url")
    else:
        url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
        upgrade(url)
    database = Database(url)
    yield database
    database.close()
