"""The user's side: a typed HTTP client and the `nearfirst` command line."""

from nearfirst.client.api import Client
from nearfirst.client.errors import ApiError, ServerUnreachable, UnexpectedAnswer, WaitTimeout

__all__ = ["ApiError", "Client", "ServerUnreachable", "UnexpectedAnswer", "WaitTimeout"]
