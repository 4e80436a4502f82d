"""Alembic's entry: the engine comes from `nearfirst.registry.migrate`."""

from alembic import context

from nearfirst.registry.models import Base

with context.config.attributes["engine"].begin() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
