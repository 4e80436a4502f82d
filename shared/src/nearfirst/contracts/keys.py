"""API keys: who may do what over HTTP."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from nearfirst.contracts.base import Contract


class Role(StrEnum):
    """What a key may do; each role may do what those before it may."""

    READ = "read"
    """GET."""
    SUBMIT = "submit"
    """Also register datasets, queue, cancel and resume runs, and ask the servers of models."""
    ADMIN = "admin"
    """Also make, list and revoke keys, and swap the weights of the generation server."""

    def includes(self, other: "Role") -> bool:
        """Whether a key of this role may do what `other` is needed for.

        >>> Role.SUBMIT.includes(Role.READ), Role.SUBMIT.includes(Role.ADMIN)
        (True, False)
        """
        order = list(Role)
        return order.index(self) >= order.index(other)


class ApiKeyRequest(Contract):
    """The body of POST /keys."""

    name: str = Field(min_length=1, max_length=200)
    """Whose it is, for people."""
    role: Role


class ApiKey(Contract):
    """A key as it is listed: without its secret, which nobody keeps."""

    id: str
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """Up to some minutes before its last use; null: it never was used."""


class CreatedApiKey(ApiKey):
    """A new key, with its text: shown this once."""

    key: str
    """`nf_{id}_{secret}`, to be sent as `Authorization: Bearer KEY`."""
