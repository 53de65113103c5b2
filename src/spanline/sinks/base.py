"""What a sink is: it tells a backend of one run.

A sink says two things: what an event means to its backend (`translate`, a pure function of the events so far), and how
to hand that over (`deliver`, which returns when the backend has acknowledged it). Everything else is done for it, in
`spanline.sinks.dispatcher`: reading the journal, the order of messages, parallel delivery, trying again, the cursor.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol, runtime_checkable

import msgspec

from spanline.events import Event
from spanline.journal.state import RunState

ENTRY_POINTS: Final = "spanline.sinks"
"""Group of entry points under which a package announces a sink: a callable that returns a `Sink`, or None when off."""

_NAME: Final = re.compile(r"[\w.-]+")

log = logging.getLogger("spanline")


class Message(msgspec.Struct, frozen=True):
    """Something for a backend.

    Messages of one `key` arrive in order; a `barrier` arrives after all before it and before all after it. What `reads`
    or `writes` a dataset arrives after the messages of other keys that came before and write it.
    """

    payload: object
    key: str = ""
    barrier: bool = False
    name: str = ""
    """What it is called where a person has to know: `COMPLETE of shop.orders, run 0189…`."""
    reads: frozenset[str] = frozenset()
    """The datasets that it says are read, by names that only have to be the same for the same dataset."""
    writes: frozenset[str] = frozenset()
    """The datasets that it says are, or will be, written."""
    unfinished: bool = False
    """Whether others of its key follow: what the key writes is written when the last of them has arrived."""


class Rejected(Exception):  # noqa: N818
    """The backend will never take these messages, or `count` of them: sending them again is no use."""

    def __init__(self, message: str, count: int | None = None) -> None:
        super().__init__(message)
        self.count = count


class Later(Exception):  # noqa: N818
    """The backend is busy, and asks to be left alone for so many seconds, if any."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Sink(Protocol):
    """What a sink must have. An object serves one run; it is known by the name of its entry point."""

    lanes: int
    """How many messages may be under way at once, at most: fewer are while the backend doesn't keep up."""
    batch: int
    """How many messages `deliver` takes at most."""
    linger: float
    """How many seconds a message may wait for others to be delivered with it."""

    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        """What this event, already applied to the state, means to the backend.

        Depends on nothing but the events so far, so that a message made again is the same message.
        """

    def deliver(self, payloads: Sequence[object]) -> None:
        """Hand over; return when acknowledged. Called from several threads where `lanes` is more than one.

        Raises `Rejected` where trying again is no use; `Later` where the backend is busy, and may have said for how
        long; `TimeoutError` where there was no answer in time, so that the backend may still be working on it; anything
        else where trying again may be of use soon. What fails again and again, while the backend takes other messages,
        is given up, and tried again by a replay.
        """

    def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class Probed(Protocol):
    """What a sink may have besides: a way to ask its backend whether it takes anything, without a run."""

    def probe(self) -> str:
        """Send something small and harmless, and return where it went. Raises as `Sink.deliver` does."""


def announced() -> list[EntryPoint]:
    """The sinks that packages announce, by name, which is that of their cursors too. Of two of one name one is left."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: (p.name, not p.value.startswith("spanline."))):
        if point.name in found:
            log.warning("there are two sinks %s: %s is off", point.name, point.value)
        elif _NAME.fullmatch(point.name) is None:
            log.warning("a sink's name has only letters, digits, dots, dashes and underscores: %s is off", point.name)
        else:
            found[point.name] = point
    return list(found.values())
