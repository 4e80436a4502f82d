"""The user's side: a typed HTTP client and the `nearfirst` command line."""

from nearfirst.client.api import ApiError, Client, ServerUnreachable

__all__ = ["ApiError", "Client", "ServerUnreachable"]
