"""A latch: set once, and waited for by threads and by signal handlers above them."""

from __future__ import annotations

import threading


class Latch:
    """`threading.Event`, for those who may be interrupted by a signal whose handler waits for it as well.

    An event has a lock that its waiters take: a handler that comes just then waits for the thread that it interrupts.
    Here nobody holds anything while he waits, and whether it is set is known without any lock.
    """

    def __init__(self) -> None:
        self._set = False
        self._closed = threading.Lock()
        self._closed.acquire()

    def set(self) -> None:
        """Set it: once, by the one thread whose it is."""
        self._set = True
        self._closed.release()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, for at most so many seconds, and return whether it is."""
        if not self._set and self._closed.acquire(timeout=timeout):
            self._closed.release()  # for the next who waits
        return self._set
