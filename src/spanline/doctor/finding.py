"""Finding: one thing that was looked at, and what to do if it is not in order."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Status = Literal["ok", "off", "problem"]
OK: Final = "ok"
OFF: Final = "off"
PROBLEM: Final = "problem"


class Finding(msgspec.Struct, frozen=True):
    """`status` is `ok`, `off` (not configured or not installed, which is fine), or `problem`.

    `advice` says what to do, where the message does not.
    """

    status: Status
    topic: str
    message: str
    advice: str = ""

    @property
    def line(self) -> str:
        """The finding as one line of text."""
        return f"{self.status:<8} {self.topic}: {'; '.join(filter(None, (self.message, self.advice)))}"
