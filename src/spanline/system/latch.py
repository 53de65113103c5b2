"""A latch: set once, and waited for by threads and by signal handlers above them."""

from __future__ import annotations

import threading


class Latch:
    """A `threading.Event` that works if a signal handler waits for it above a thread that waits for it too.

    An event has a lock that its waiters take. A handler that runs at that moment waits for the thread that it
    interrupts. A latch's waiters hold nothing while they wait, and no lock is needed to see whether it is set.
    """

    def __init__(self) -> None:
        self._set = False
        self._closed = threading.Lock()
        self._closed.acquire()

    def set(self) -> None:
        """Set it: once, by the one thread that owns it."""
        self._set = True
        self._closed.release()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, for at most this number of seconds, and return whether it is."""
        if not self._set and self._closed.acquire(timeout=timeout):
            self._closed.release()  # for the next waiter
        return self._set
