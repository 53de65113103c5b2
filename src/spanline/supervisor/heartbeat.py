"""When a heartbeat is due: readers that wait for a time to pass see it pass by events alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_SILENCE_SECONDS: Final = 2.0
_HEARTBEAT_SECONDS: Final = 30.0


class Silence:
    """Whether a journal has fallen silent: a heartbeat is due two seconds after the last event, then now and then."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._size = -1
        self._due = 0.0

    def lasts(self, now: float) -> bool:
        """Whether nobody has written for so long that a heartbeat is due. `now` is monotonic, in seconds."""
        size = self._written()
        if size != self._size:
            self._size = size
            self._due = now + _SILENCE_SECONDS
        return now >= self._due

    def broken(self, now: float) -> None:
        """Take note of a heartbeat, which is no news."""
        self._size = self._written()
        self._due = now + _HEARTBEAT_SECONDS

    def _written(self) -> int:
        try:
            return os.stat(self._journal).st_size  # noqa: PTH116 - twenty times a second
        except OSError:
            return self._size
