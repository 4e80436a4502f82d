"""Which of a server's paths a user may name."""

from collections.abc import Sequence
from pathlib import Path

from nearfirst.contracts.problems import PathNotAllowed

_MAX_SHOWN = 200


def resolve_under_root(path: str, roots: Sequence[Path]) -> Path:
    """The absolute path of a file or folder that a user named, checked to be inside an allowed root.

    `..` and symbolic links are resolved first, in the path and in the roots. A relative path is taken from each root in
    turn: the first root that has it wins, and the first root when none has. An absent file is not an error.

    Raises:
        PathNotAllowed: there is no root, an absolute path is in none of them, or a relative one that none of them has
            leaves one; the detail says nothing about what is outside.

    Notes: a link that is changed between this check and the reading is not caught; roots are folders whose contents
        the operator controls.
    """
    shown = repr(path[:_MAX_SHOWN])
    if not roots:
        raise PathNotAllowed(f"path {shown} is not allowed: this server has no folder that paths may name")
    try:
        resolved = [((root / path).resolve(), root.resolve()) for root in roots]
        inside = [candidate for candidate, root in resolved if candidate.is_relative_to(root)]
        found = next((candidate for candidate in inside if candidate.exists()), None)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a null byte; a name that is too long
        raise PathNotAllowed(f"path {shown} is not allowed: it can't be resolved") from error
    leaves_a_root = len(inside) < len(resolved) and not Path(path).is_absolute()
    if found is None and (leaves_a_root or not inside):
        raise PathNotAllowed(f"path {shown} is not allowed: it leads outside the allowed folders")
    return found or inside[0]
