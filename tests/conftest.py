"""Real servers for any test that asks for them."""

from collections.abc import Iterator

import pytest
from tests.support.services import PostgresServer, RedisServer, ServerUnavailable

MIGRATED_TEMPLATE = "nearfirst_migrated"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this session. A test that kills its server starts one of its own."""
    try:
        server = PostgresServer().start()
    except ServerUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """SQLAlchemy URL of the server's maintenance database."""
    return postgres_server.url()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of a database that the real migrations made, to copy."""
    from nearfirst.registry.migrate import upgrade

    postgres_server.create_database(name=MIGRATED_TEMPLATE)
    upgrade(postgres_server.url(MIGRATED_TEMPLATE))
    return MIGRATED_TEMPLATE


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """SQLAlchemy URL of a database of the test's own, with the registry's tables and no rows."""
    url = postgres_server.create_database(template=migrated_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="module")
def module_database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """As `database_url`, one for all tests of a module."""
    url = postgres_server.create_database(template=migrated_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of a database of the test's own, without tables."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for this session. A test that kills its server starts one of its own."""
    try:
        server = RedisServer().start()
    except ServerUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """URL of the session's Redis, shared by all its tests."""
    return redis_server.url()


@pytest.fixture
def fresh_redis_url(redis_server: RedisServer) -> str:
    """URL of the session's Redis, emptied before the test."""
    redis_server.flush()
    return redis_server.url()
