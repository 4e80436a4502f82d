"""Which role a route needs."""

from collections.abc import Collection

from nearfirst.contracts.keys import Role

PROBES = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class AccessRules:
    """Routes are closed unless they are named: a new one needs `read` for GET and `submit` for anything else."""

    def __init__(
        self, *, open_paths: Collection[str], admin_paths: Collection[str] = (), admin_changes: Collection[str] = ()
    ) -> None:
        """`open_paths`: those need no key; `admin_paths`: those, and all below them, need the role admin;
        `admin_changes`: those, and all below them, need it for anything but reading."""
        self._open_paths = frozenset(open_paths)
        self._admin_paths = admin_paths
        self._admin_changes = admin_changes

    def needed_role(self, method: str, path: str) -> Role | None:
        """The lowest role that may; None: no key is needed.

        >>> rules = AccessRules(open_paths=["/healthz"], admin_paths=["/keys"], admin_changes=["/weights"])
        >>> asked = [("GET", "/healthz"), ("GET", "/weights"), ("POST", "/weights/adapters"), ("GET", "/keys")]
        >>> [str(rules.needed_role(method, path)) for method, path in asked]
        ['None', 'read', 'admin', 'admin']
        """
        if path in self._open_paths:
            return None
        is_reading = method in _READING_METHODS
        if _is_below(path, self._admin_paths) or (not is_reading and _is_below(path, self._admin_changes)):
            return Role.ADMIN
        return Role.READ if is_reading else Role.SUBMIT


def _is_below(path: str, roots: Collection[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
