"""The clock of a session, which nobody sets: it begins with the system's, and goes on by the monotonic one.

The system's may be set while a run is under way. Every record has the times of both: by this clock a session takes as
long as it did, what happens in it lies within it, and nothing ends before it has begun. So do OpenTelemetry's SDKs time
a span and those below it:
https://github.com/open-telemetry/opentelemetry-java/blob/v1.50.0/sdk/trace/src/main/java/io/opentelemetry/sdk/trace/AnchoredClock.java.
"""

from __future__ import annotations

from typing import Final

import msgspec

from spanline.events import Event
from spanline.runner.shared.writer import both_clocks
from spanline.system import process

_TOLERANCE: Final = 1_000_000
"""Nanoseconds: both clocks are read one after the other, and no clock is set by so little, but slowed or sped up."""


class Clock(msgspec.Struct, frozen=True):
    """Both clocks as they stood when a session began: `time` since the epoch, `mono` in the system's boot of that id.

    Times are in nanoseconds; 0 is one that isn't known.
    """

    session: int = 0
    time: int = 0
    mono: int = 0
    boot_id: str = ""

    def at(self, event: Event) -> int:
        """When an event of the session has happened, in nanoseconds since the epoch.

        An event of another session, or from before this one, has been timed by clocks that may be others: it has
        happened when the system's said.
        """
        if not self.mono or event.session != self.session or event.mono < self.mono:
            return event.time
        at = self.time + event.mono - self.mono
        return event.time if abs(event.time - at) <= _TOLERANCE else at

    def stamps(self, after: int = 0) -> tuple[int, int]:
        """Both clocks as they stand now: what a record of this session is to carry, whoever writes it.

        Another host, and another boot, has another monotonic clock: there it counts on by the system's, from a moment
        `after` which this is in any case.
        """
        now, mono = both_clocks()
        if self.boot_id and self.boot_id == process.boot_id():
            return now, mono
        return now, self.mono + max(now, after, self.time) - self.time if self.mono else 0

    def now(self) -> int:
        """What it says now, in nanoseconds since the epoch."""
        now, mono = self.stamps()
        return self.time + mono - self.mono if self.mono else now
