from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from nearfirst.registry.database import Database
from nearfirst.registry.migrate import is_current, upgrade
from nearfirst.registry.models import Base


def test_the_migrations_make_the_tables_that_the_code_expects(database: Database) -> None:
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    upgrade(database.url)
    assert is_current(database)


def test_an_empty_database_is_not_current(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert not is_current(database)
    database.close()
