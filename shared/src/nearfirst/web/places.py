"""How many requests a server of models works on at a time; whoever comes beyond that hears 429 at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from anyio.to_thread import current_default_thread_limiter

from nearfirst.contracts.problems import Overloaded

_SPARE_THREADS = 16
"""For probes and for refusing requests while all places are taken."""


class RequestPlaces:
    """Places for requests in progress. Several threads may use it."""

    def __init__(self, num_places: int, retry_after_s: int) -> None:
        """`retry_after_s`: what a refused client is told to wait."""
        self._num_places = num_places
        self._retry_after_s = retry_after_s
        self._free = threading.BoundedSemaphore(num_places)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One of the places.

        Raises:
            Overloaded: all of them are taken.
        """
        if not self._free.acquire(blocking=False):
            raise Overloaded(
                f"{self._num_places} requests are in progress; send this one again later",
                retry_after_s=self._retry_after_s,
            )
        try:
            yield
        finally:
            self._free.release()


def reserve_threads(num_places: int) -> None:
    """Give the event loop that runs now a thread for each place, and some more.

    A request in progress holds a thread. Were there fewer threads than places, further requests would wait for one
    unseen instead of hearing 429, and so would the probes.
    """
    current_default_thread_limiter().total_tokens = num_places + _SPARE_THREADS
