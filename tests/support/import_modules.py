"""Import every module of some packages: a script of its own, for an interpreter that has only what a test gives it.

    python -I -S import_modules.py [--path FOLDER]... PACKAGE...

Prints a JSON object: the modules that were imported, and the error of each that wasn't. Only the standard library is
imported here.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from types import ModuleType


def import_all(packages: list[str]) -> tuple[list[str], dict[str, str]]:
    """The modules of the packages that were imported, and {module: error} of the others."""
    imported: list[str] = []
    errors: dict[str, str] = {}
    for package in packages:
        module = _import(package, imported, errors)
        if module is None:
            continue
        found = pkgutil.walk_packages(getattr(module, "__path__", []), f"{package}.", onerror=lambda name: None)
        for info in found:
            if info.name.rpartition(".")[2] != "__main__":  # runs when it is imported
                _import(info.name, imported, errors)
    return imported, errors


def _import(name: str, imported: list[str], errors: dict[str, str]) -> ModuleType | None:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  (whatever an import raises is this program's result)
        errors[name] = f"{type(error).__name__}: {error}"
        return None
    imported.append(name)
    return module


def main() -> None:
    """Read the command line, import, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("packages", nargs="+")
    arguments = parser.parse_args()
    sys.path.extend(arguments.path)
    imported, errors = import_all(arguments.packages)
    print(json.dumps({"imported": imported, "errors": errors}))


if __name__ == "__main__":
    main()
