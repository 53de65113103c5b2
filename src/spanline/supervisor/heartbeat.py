"""When a heartbeat is due: readers that wait for a time to pass see it pass by events alone."""

from __future__ import annotations

from typing import Final

from spanline.system.open_file import OpenFile

_SILENCE_SECONDS: Final = 2.0
_HEARTBEAT_SECONDS: Final = 30.0


class Silence:
    """Whether a journal has fallen silent: a heartbeat is due two seconds after the last event, then now and then."""

    def __init__(self, journal: OpenFile) -> None:
        self._journal = journal
        self._size = -1
        self._due = 0.0

    def lasts(self, now: float) -> bool:
        """Whether nobody has written for so long that a heartbeat is due. `now` is monotonic, in seconds."""
        size = self._journal.size
        if size != self._size:
            self._size = size
            self._due = now + _SILENCE_SECONDS
        return now >= self._due

    def broken(self, now: float) -> None:
        """Take note of a heartbeat, which is no news."""
        self._size = self._journal.size
        self._due = now + _HEARTBEAT_SECONDS
