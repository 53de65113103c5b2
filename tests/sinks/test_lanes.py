"""How many messages are under way: as many as a backend keeps up with, which is simulated. No thread, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from spanline.sinks.lanes import Concurrency

MOST = 8
EVENTS = 1000


@dataclass
class Backend:
    """A backend of so many CPUs, which works on one event for each, in turn. Always as much is sent as may be."""

    cpus: int
    work: Callable[[], float]
    """Seconds that the next event takes."""
    under_way: list[int] = field(default_factory=list)
    """How many were, whenever one had been answered."""
    seconds: float = 0.0
    busy: float = 0.0

    def take(self, concurrency: Concurrency, events: int) -> None:
        free = [self.seconds] * self.cpus
        sent: list[tuple[float, float]] = []  # when it will be answered, and when it was sent
        now = self.seconds
        while events or sent:
            while events and len(sent) < concurrency.limit:
                work = self.work()
                done = max(heapq.heappop(free), now) + work
                heapq.heappush(free, done)
                heapq.heappush(sent, (done, now))
                self.busy += work
                events -= 1
            self.under_way.append(len(sent))
            full = len(sent) >= concurrency.limit
            now, began = heapq.heappop(sent)
            concurrency.answered(now - began, in_full_use=full)
        self.seconds = now

    @property
    def share(self) -> float:
        """What part of its CPUs' time it has worked."""
        return self.busy / (self.seconds * self.cpus)

    @property
    def mean(self) -> float:
        return sum(self.under_way) / len(self.under_way)


def test_a_backend_of_one_cpu_is_kept_busy_and_no_more_than_that() -> None:
    backend = Backend(1, lambda: 0.4)
    backend.take(Concurrency(MOST), EVENTS)
    assert backend.share > 0.999
    assert backend.mean < MOST * 0.6


@pytest.mark.parametrize("cpus", [2, 4, 8])
@pytest.mark.parametrize("seconds", [0.02, 0.4, 2.0])
def test_a_backend_of_several_is_given_as_much_as_it_can_take(cpus: int, seconds: float) -> None:
    backend = Backend(cpus, lambda: seconds)
    backend.take(Concurrency(MOST), EVENTS)
    assert backend.share > 0.95


@pytest.mark.parametrize(("cpus", "share"), [(1, 0.999), (2, 0.95), (4, 0.9)])
def test_events_that_take_it_a_longer_or_a_shorter_time_are_no_sign(cpus: int, share: float) -> None:
    """As a Marquez's: a START is nothing, an end with the lineage of many columns is much."""
    random = Random(7)
    backend = Backend(cpus, lambda: random.choice((0.05, 1.4)))
    backend.take(Concurrency(MOST), EVENTS)
    assert backend.share > share


def test_it_becomes_slow_and_recovers() -> None:
    concurrency = Concurrency(MOST)
    Backend(MOST, lambda: 0.2).take(concurrency, 100)
    assert concurrency.limit == MOST
    slow = Backend(1, lambda: 0.2)
    slow.take(concurrency, EVENTS)
    assert slow.share > 0.999
    assert slow.mean < MOST * 0.6
    recovered = Backend(MOST, lambda: 0.2)
    recovered.take(concurrency, 300)
    assert concurrency.limit == MOST


def test_a_fast_one_keeps_up_whatever_the_noise() -> None:
    random = Random(7)
    concurrency = Concurrency(MOST)
    Backend(MOST, lambda: random.choice((0.001, 0.02, 0.05))).take(concurrency, EVENTS)
    assert concurrency.limit == MOST


def test_a_time_out_leaves_half_of_it() -> None:
    concurrency = Concurrency(MOST)
    Backend(MOST, lambda: 0.2).take(concurrency, 100)
    concurrency.overloaded()
    limits = [concurrency.limit]
    for _ in range(
        MOST - 1 + 4 + 6
    ):  # those that were under way, a sample, and six of which two make it half of what it was
        concurrency.answered(0.2, in_full_use=True)
        limits.append(concurrency.limit)
    assert limits == [2] * 12 + [3, 4, 4, 4, 4, 4]


def test_without_need_it_does_not_grow() -> None:
    concurrency = Concurrency(MOST)
    for _ in range(100):
        concurrency.answered(0.2, in_full_use=False)
    assert concurrency.limit == 2


def test_one_lane_is_one_lane() -> None:
    concurrency = Concurrency(1)
    Backend(1, lambda: 0.2).take(concurrency, 100)
    concurrency.overloaded()
    assert concurrency.limit == 1
