"""The suite's registry, store and broker, connected when the first request for an index comes.

/v1/embeddings needs none of them: a server without a registry serves embeddings and answers 503 for indexes.
"""

import threading
from dataclasses import dataclass

from celery import Celery
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from nearfirst.contracts.problems import Unavailable
from nearfirst.queue.app import make_celery
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import is_current
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store


@dataclass(frozen=True, slots=True)
class Connections:
    """What indexes are kept in."""

    database: Database
    store: Store
    celery: Celery


class Suite:
    """Connects once; a failed try is made again with the next request."""

    def __init__(self, settings: Settings) -> None:
        """Touches nothing yet."""
        self._settings = settings
        self._connecting = threading.Lock()
        self._connections: Connections | None = None

    def connect(self, app: FastAPI) -> None:
        """Put `database`, `store` and `celery` into the application's state, where the web kit looks for them.

        Raises:
            Unavailable: the registry can't be reached, or its tables are missing or of another version.
        """
        with self._connecting:
            if self._connections is None:
                self._connections = self._connected()
                app.state.database = self._connections.database
                app.state.store = self._connections.store
                app.state.celery = self._connections.celery

    def close(self) -> None:
        """Give connections back."""
        if self._connections is not None:
            self._connections.database.close()

    def _connected(self) -> Connections:
        settings = self._settings
        try:
            database = Database(settings.database_url)
            has_tables = is_current(database)
            store = Store(settings.store_url, cache=settings.home / "cache")
            celery = make_celery(settings)
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable(f"indexes are kept in the suite's registry, which can't be reached: {error}") from error
        if not has_tables:
            database.close()
            raise Unavailable(
                "indexes are kept in the suite's registry, whose tables are missing or of another version: "
                "run `python -m nearfirst.registry.migrate`"
            )
        return Connections(database, store, celery)
