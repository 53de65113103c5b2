"""What has failed: when it is sent again, and when it is given up. Plain data: no thread, and the time is told."""

from __future__ import annotations

import enum
import heapq

from spanline.sinks.base import Later
from spanline.sinks.limits import DeliveryLimits
from spanline.sinks.ordering import Batch


class Verdict(enum.Enum):
    """What becomes of messages that have failed."""

    RETRY = "they are sent again after a pause"
    SUSPECT = "they have failed often enough: either the backend is down, or one of them is poison to it"
    POISON = "one of them is: it accepts others"


class Retries:
    """The batches of one sink that have failed and are not under way."""

    def __init__(self, limits: DeliveryLimits) -> None:
        self._limits = limits
        self._pausing: list[tuple[float, int, Batch]] = []
        self._suspects: list[tuple[int, Batch]] = []
        self._accepted = 0
        self._rounds = 0
        self._next_round = 0.0
        self.stalled = 0
        """How many have failed since the backend last accepted anything. Each keeps a lane from sending others."""
        self.quiet_until = 0.0
        """The backend asks to be left alone until then."""

    @property
    def are_all_suspects(self) -> bool:
        """Whether there are some, and all of them have failed often enough."""
        return bool(self._suspects) and not self._pausing

    def __bool__(self) -> bool:
        return bool(self._pausing or self._suspects)

    def suspects(self) -> list[Batch]:
        """Those that have failed often enough, the oldest first."""
        return [batch for _, batch in sorted(self._suspects)]

    def accept(self) -> None:
        """The backend has accepted something. It isn't down: suspects have one more try, at once."""
        self._accepted += 1
        self._rounds = 0
        self.stalled = 0
        for number, batch in self._suspects:
            heapq.heappush(self._pausing, (0.0, number, batch))
        self._suspects.clear()

    def judge(self, batch: Batch, error: BaseException) -> Verdict:
        """Count a failure, and say what is to become of these messages.

        That the backend is busy, or has not answered in time, is not held against them.
        """
        is_fault = not isinstance(error, (Later, TimeoutError))
        accepts_others = self._accepted > batch[0].accepted
        for pending in batch:
            pending.failures += 1
            pending.faults += is_fault
            pending.accepted = self._accepted
        if not is_fault or batch[0].faults < self._limits.tries:
            return Verdict.RETRY
        return Verdict.POISON if accepts_others else Verdict.SUSPECT

    def pause(self, batch: Batch, error: BaseException, took: float, now: float) -> None:
        """Send these again when their pause is over.

        After a time-out it lasts as long as that took: the backend may still be working on them. Where the backend
        asks for a longer one, nothing else is sent meanwhile either.
        """
        seconds = self._pause(batch[0].failures)
        if isinstance(error, TimeoutError):
            seconds = max(seconds, took)
        if isinstance(error, Later):
            seconds = max(seconds, error.seconds)
            self.quiet_until = max(self.quiet_until, now + error.seconds)
        self.stalled += 1
        heapq.heappush(self._pausing, (now + seconds, batch[0].number, batch))

    def suspect(self, batch: Batch, now: float) -> None:
        """Send these again when the backend has accepted something, or in a round (see `next_suspect`)."""
        self._rounds += 1
        self._next_round = now + self._pause(self._rounds)
        self.stalled += 1
        heapq.heappush(self._suspects, (batch[0].number, batch))

    def retry_at_once(self, batch: Batch) -> None:
        """Send these again as soon as a lane is free."""
        self.stalled += 1
        heapq.heappush(self._pausing, (0.0, batch[0].number, batch))

    def due(self, now: float) -> Batch:
        """Those whose pause is over; they are under way then. Empty where there are none."""
        return self._taken(heapq.heappop(self._pausing)[-1]) if self._pausing and self._pausing[0][0] <= now else []

    def next_suspect(self, now: float) -> Batch:
        """The oldest suspects, once in each round; rounds become longer. Empty where it isn't time yet."""
        return self._taken(heapq.heappop(self._suspects)[-1]) if self._suspects and self._next_round <= now else []

    def next_moment(self, now: float) -> float | None:
        """When there will be something to send that there isn't now, by the clock alone."""
        moments = [self.quiet_until, *(due for due, _, _ in self._pausing[:1])]
        if self.are_all_suspects:
            moments.append(self._next_round)
        return min((moment for moment in moments if moment > now), default=None)

    def _taken(self, batch: Batch) -> Batch:
        if batch[0].accepted == self._accepted:
            self.stalled -= 1
        return batch

    def _pause(self, times: int) -> float:
        pauses = self._limits.pauses
        return pauses[min(times, len(pauses)) - 1]
