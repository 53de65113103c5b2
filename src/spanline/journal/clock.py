"""A session's clock, which nobody can set: it starts with the system clock and follows the monotonic clock.

The system clock may be set during a run. Every record has the times of both clocks. With this clock, the duration of a
session is correct, its events lie within it, and nothing ends before it began. OpenTelemetry's SDKs time a span and its
children in the same way:
https://github.com/open-telemetry/opentelemetry-java/blob/v1.50.0/sdk/trace/src/main/java/io/opentelemetry/sdk/trace/AnchoredClock.java.
"""

from __future__ import annotations

from typing import Final

import msgspec

from spanline.events import Event
from spanline.runner.shared.writer import both_clocks
from spanline.system import process

_TOLERANCE: Final = 1_000_000
"""Nanoseconds. The clocks are read one after the other. Nobody sets a clock by so little; NTP only slows it or speeds
it up."""


class Clock(msgspec.Struct, frozen=True):
    """Both clocks at the start of a session: `time` since the epoch, `mono` in the boot with the id `boot_id`.

    Times are in nanoseconds; 0 means unknown.
    """

    session: int = 0
    time: int = 0
    mono: int = 0
    boot_id: str = ""

    def at(self, event: Event) -> int:
        """The time of an event of this session, in nanoseconds since the epoch.

        An event of another session, or from before this one, may have been timed by other clocks: for these, the
        system clock counts.
        """
        if not self.mono or event.session != self.session or event.mono < self.mono:
            return event.time
        at = self.time + event.mono - self.mono
        return event.time if abs(event.time - at) <= _TOLERANCE else at

    def stamps(self, after: int = 0) -> tuple[int, int]:
        """Both clocks now, for a record of this session, whichever process writes it.

        Another host or another boot has another monotonic clock. There, this clock continues with the system clock, and
        never returns a time before `after`.
        """
        now, mono = both_clocks()
        if self.boot_id and self.boot_id == process.boot_id():
            return now, mono
        return now, self.mono + max(now, after, self.time) - self.time if self.mono else 0

    def now(self) -> int:
        """The current time, in nanoseconds since the epoch."""
        now, mono = self.stamps()
        return self.time + mono - self.mono if self.mono else now
