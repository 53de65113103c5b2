"""Lanes: the threads that deliver a sink's messages, and how many of them its backend keeps up with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

_FEWEST: Final = 2
"""With two the backend has the next one at hand when it is done with one; and one that hangs doesn't hold up all."""
_FAST: Final = 0.1
"""Seconds. Who answers faster than this keeps up: to take twice as long now and then is a busy machine's noise."""
_SAMPLE: Final = 4
"""How many answers tell how long it takes when little is under way."""
_WEIGHT: Final = 1 / 8
"""What part the latest answer has in the mean."""
_SLOWER: Final = 2.0
"""When it takes so many times as long, messages wait for one another in the backend."""


class Concurrency:
    """How many messages may be under way at once: more while the backend keeps up, fewer when it doesn't.

    All of `most`, as long as it is fast. If it isn't, how long it takes with two under way is measured. Then one more
    is tried after each answer, later after each round of answers, until it takes twice as long. Then it is measured
    anew, and the quick increase ends at what the backend has worked on at the same time (by Little's law, the number
    under way times the time at first by the time now), or after a time-out at half the number. This is TCP's way (slow
    start and congestion avoidance, RFC 5681), with the time as the sign, as in TCP Vegas.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = self._quick_until = float(most)
        self._is_fast = True
        self._late = self._sampled = 0
        self._first = self._mean = 0.0

    @property
    def limit(self) -> int:
        """How many may be under way."""
        return int(self._limit)

    def answered(self, seconds: float, *, in_full_use: bool) -> None:
        """The backend has answered after this time; `in_full_use` is whether as many were under way as may be."""
        if self._is_fast:
            self._mean += (seconds - self._mean) * _WEIGHT
            if self._mean > _FAST:
                self._start_anew(self._most)
        elif self._late:
            self._late -= 1
        elif self._sampled < _SAMPLE:
            self._sampled += 1
            self._first += (seconds - self._first) / self._sampled
            self._mean = self._first
        else:
            self._mean += (seconds - self._mean) * _WEIGHT
            if self._mean > max(_SLOWER * self._first, _FAST):
                self._start_anew(self._limit * self._first / self._mean)
            elif in_full_use:
                step = 1 if self._limit < self._quick_until else 1 / self._limit
                self._limit = min(self._most, self._limit + step)

    def overloaded(self) -> None:
        """The backend has not answered in time, or says itself that it is too much."""
        self._start_anew(self._limit / 2)

    def _start_anew(self, quick_until: float) -> None:
        self._is_fast = False
        self._late = self.limit - 1  # answers to what was sent before say nothing of the time from now on
        self._quick_until = quick_until
        self._limit = min(self._most, _FEWEST)
        self._sampled = 0
        self._first = self._mean = 0.0


class Lane:
    """A thread that delivers; idle, it rests until it is woken, or a moment comes. Used with the lock held."""

    def __init__(self, name: str, lock: threading.RLock, work: Callable[[Lane], None]) -> None:
        self.is_idle = False
        self._woken = threading.Condition(lock)
        begin(name, work, self)

    def rest(self, seconds: float | None) -> None:
        """Wait until woken, or for so many seconds."""
        self.is_idle = True
        self._woken.wait(seconds)
        self.is_idle = False

    def wake(self) -> None:
        """Have it look for work."""
        self.is_idle = False
        self._woken.notify()


def begin(name: str, work: Callable[..., None], *arguments: object) -> None:
    """Have this done in a thread of its own, which ends with the process at the latest."""
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()
