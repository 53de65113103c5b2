"""What of a sink's messages its backend has acknowledged: the account that its cursor keeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spanline.home.cursor import Cursor, GivenUp, Position
from spanline.sinks.base import Message
from spanline.sinks.error_text import in_short
from spanline.sinks.limits import DeliveryLimits
from spanline.sinks.ordering import Pending

_LONGEST: Final = 300
"""Characters of a name, and of a reason, that a cursor keeps."""

log = logging.getLogger("spanline")


class Ledger:
    """Opens an account of each message that is owed, and settles it. Used with the delivery's lock held.

    `cursor.offset` stays before the oldest message that is owed, and `cursor.owed` names them all, so a replay sends
    these, and none that the backend has.
    """

    def __init__(self, name: str, path: Path, limits: DeliveryLimits, *, again: bool) -> None:
        """Go on where the cursor in this file stands; `again`, from the start."""
        self._name = name
        self._path = path
        self._limits = limits
        self.cursor = cursor = Cursor() if again else Cursor.load(path)
        self._read_to = self._start = max(cursor.read_to, cursor.offset)
        self._from_before = dict.fromkeys(cursor.owed, False) | {one.position: True for one in cursor.given_up}
        self._given_up_keys: set[str] = set()
        self._open: dict[Position, Pending] = {}
        self._missed: list[Position] = []
        self._is_closed = False
        self._numbers = 0
        self._rejection: tuple[Sequence[Pending], BaseException] | None = None
        self._unsaved = False
        self._saved = 0.0
        cursor.rejected -= len(cursor.given_up)
        cursor.given_up = []
        cursor.undelivered = 0
        cursor.complete = False
        self._rejected_before = cursor.rejected
        self.save()  # from now on it owes something, whatever becomes of this process

    def __len__(self) -> int:
        """How many messages are neither acknowledged nor rejected."""
        return len(self._open)

    @property
    def rejected(self) -> int:
        """How many messages the backend has rejected this time."""
        return self.cursor.rejected - self._rejected_before

    def open(self, position: Position, message: Message) -> Pending | None:
        """Return the message as one to deliver; None where the backend has it, or where it is only to be counted."""
        given_up = self._from_before.pop(position, None)
        if given_up and message.key:
            self._given_up_keys.add(message.key)
        if given_up is None and position[0] < self._start and message.key not in self._given_up_keys:
            return None
        if self._is_closed:
            self.cursor.undelivered += 1
            if position[0] < self._start:
                self._missed.append(position)
            return None
        self._numbers += 1
        pending = Pending(self._numbers, position, message)
        if given_up:  # one more failure is enough: others have been accepted
            pending.faults, pending.accepted = self._limits.tries, -1
        self._open[position] = pending
        return pending

    def note_read(self, offset: int) -> None:
        """Messages were made of all that stands before this offset."""
        if not self._is_closed:
            self._read_to = max(self._read_to, offset)
            self._save_now_and_then()

    def settle(self, batch: Sequence[Pending], rejected: int = 0) -> None:
        """The backend has accepted these, or rejected so many of them."""
        for pending in batch:
            del self._open[pending.position]
        self.cursor.delivered += len(batch) - rejected
        self.cursor.rejected += rejected
        self._save_now_and_then()

    def reject(self, batch: Sequence[Pending], error: BaseException, count: int | None = None) -> None:
        """The backend will never accept these, or `count` of them."""
        if self.cursor.rejection is None and self._rejection is None:
            log.info("%s: %s", self._name, _said_of(batch, error))
        self._rejection = (batch, error)  # only the last one is worth the time that it takes to mask what is said
        self.settle(batch, len(batch) if count is None else count)

    def give_up(self, pending: Pending, error: BaseException) -> None:
        """The backend fails at this one, and at no other: a replay may try it again."""
        self.reject([pending], error)
        if len(self.cursor.given_up) < self._limits.kept:
            name, reason = pending.message.name[:_LONGEST], in_short(error)[:_LONGEST]
            self.cursor.given_up.append(GivenUp(pending.position, name, reason))

    def fail(self, batch: Sequence[Pending], error: BaseException) -> None:
        """The backend has not accepted these, for now."""
        self.cursor.error = _said_of(batch, error)

    def close(self) -> None:
        """Count all that is open as undelivered, and all that follows, and keep nothing of it in memory."""
        if not self._is_closed:
            self._is_closed = True
            self.cursor.undelivered += len(self._open)
            self._missed += self._open
            self._open.clear()

    def complete(self) -> None:
        """All was read, and nothing is owed. What was, and is made no more, isn't either."""
        self._from_before.clear()
        self.cursor.complete = True
        self.cursor.error = None
        self.save()

    def balanced(self) -> Cursor:
        """The cursor, moved to where it stands now."""
        cursor = self.cursor
        owed = (*self._from_before, *self._missed, *self._open)
        cursor.owed = sorted(position for position in owed if position[0] < self._read_to)  # the rest is made anew
        cursor.read_to = self._read_to
        cursor.offset = cursor.owed[0][0] if cursor.owed else self._read_to
        if self._rejection is not None:
            cursor.rejection = _said_of(*self._rejection)
        return cursor

    def save(self) -> None:
        """Write the cursor as it stands."""
        self._saved = time.monotonic()
        try:
            self.balanced().save(self._path)
        except OSError as error:
            if not self._unsaved:
                self._unsaved = True
                log.info("cannot save the cursor of %s: %s; a replay sends more than it must", self._name, error)

    def _save_now_and_then(self) -> None:
        if time.monotonic() > self._saved + self._limits.save:
            self.save()


def _said_of(batch: Sequence[Pending], error: BaseException) -> str:
    """What the backend's client said, and of which message, where it is one that has a name."""
    name = batch[0].message.name if len(batch) == 1 else ""
    return f"{name}: {in_short(error)}" if name else in_short(error)
