"""`nearfirst key`: API keys, straight in the registry that the settings name; no server and no key is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearfirst.client.errors import NotInstalled
from nearfirst.client.output import AsJson, print_json
from nearfirst.contracts.keys import ApiKey, Role
from nearfirst.contracts.problems import NotReady, Unavailable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LINE_WIDTH = 120
"""Wide enough for an id and its times to be whole where the output is no terminal."""

app = typer.Typer(help="Make, list and revoke API keys in the registry.", no_args_is_help=True)


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="What it may do; each role may do what those before it may.")],
    name: Annotated[str, typer.Option(help="Whose it is, for people.")],
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once. With the first one, the suite asks everybody for a key."""
    from nearfirst.registry.api_keys import create_key

    with _registry() as session:
        made = create_key(session, name, role)
    typer.echo(f"key {made.id} of the role {made.role}; it is shown this once", err=True)
    if as_json:
        print_json(made)
    else:
        typer.echo(made.key)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Show all keys, revoked ones too; nobody has their text."""
    keys = list(_all_keys())
    if as_json:
        print_json(keys)
        return
    table = Table("id", "name", "role", "created", "last used", "revoked", box=None)
    for key in keys:
        times = (key.created_at, key.last_used_at, key.revoked_at)
        table.add_row(key.id, key.name, key.role, *(f"{t:%Y-%m-%d %H:%M}" if t else "-" for t in times))
    console = Console(markup=False)
    console.width = max(console.width, _LINE_WIDTH)
    console.print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `nearfirst key list` shows it.", metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """End a key, for all servers within some seconds. The suite stays closed when it was the last."""
    from nearfirst.registry.api_keys import revoke_key

    with _registry() as session:
        key = revoke_key(session, key_id)
    typer.echo(f"key {key.id} ({key.name}) is revoked", err=True)
    if as_json:
        print_json(key)


def _all_keys() -> Iterator[ApiKey]:
    from nearfirst.registry.api_keys import list_keys

    after: int | None = 0
    with _registry() as session:
        while after is not None:
            keys, after = list_keys(session, after)
            yield from keys


@contextmanager
def _registry() -> Iterator["Session"]:
    """A session on the registry, whose tables are those of this version.

    Raises:
        NotInstalled: what talks to a registry is missing.
        Unavailable: the registry can't be reached.
        NotReady: its tables are missing or of another version.
    """
    try:
        from sqlalchemy.exc import OperationalError

        from nearfirst.registry.database import Database
        from nearfirst.registry.migrate import is_current
    except ImportError as error:
        raise NotInstalled(f"keys are kept in the registry: `pip install 'nearfirst[worker]'` ({error})") from error
    from nearfirst.settings import get_settings

    database = Database(get_settings().database_url)
    try:
        if not is_current(database):
            raise NotReady("the registry's tables are missing or of another version: run `nearfirst up`, or migrate it")
        with database.write() as session:
            yield session
    except OperationalError as error:
        raise Unavailable(f"the registry can't be reached: {error.orig}") from error
    finally:
        database.close()
