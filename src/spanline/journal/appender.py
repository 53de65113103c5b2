"""Append typed events to a journal, as the runner does, and keep them while the disk is full."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from spanline.events import Event, decode, fields_of
from spanline.runner.shared.files import open_file
from spanline.runner.shared.writer import Writer, both_clocks


class Appender:
    """Append typed events to a journal, as the runner does with its own."""

    def __init__(
        self, path: Path, writer: str, on_stop: Callable[[str], None] | None = None, fd: int | None = None
    ) -> None:
        self._writer = Writer(str(path), writer, on_stop=on_stop, fd=fd)
        self.fd = self._writer.fd
        self.redactor = self._writer.redactor
        self.locate = self._writer.locate
        self.sync = self._writer.sync
        self.close = self._writer.close
        self.resume = self._writer.resume

    def append(self, event: Event, stamps: tuple[int, int] | None = None) -> bool:
        """Append one event, and return whether it was written.

        The writer fills in the fields that every record has. For `stamps`, see `Writer.append`.
        """
        kind, fields = fields_of(event)
        return self._writer.append(kind, fields, stamps)

    def masked(self, event: Event) -> Event:
        """The same event without secrets, as a reader would see it, and without the fields that every record has."""
        kind, fields = fields_of(event)
        return decode(msgspec.json.encode({"type": kind, **self.redactor.record(kind, fields)}))


_RESERVE_BYTES: Final = 256 * 1024


class PatientAppender:
    """The supervisor's appender: keeps an event that can't be written, and all later events, until `settle`."""

    def __init__(self, journal: Path, writer: str, stamps: Callable[[], tuple[int, int]] = both_clocks) -> None:
        """`stamps` gives the times of the session's clock, if another process started it, perhaps on another host."""
        self._stamps = stamps
        self._appender = Appender(journal, writer, on_stop=lambda _why: None)
        self.redactor = self._appender.redactor
        self.fd = self._appender.fd
        """The journal's descriptor, open for appending and reading."""
        self._reserve = journal.with_name("reserve")
        self._kept: list[tuple[tuple[int, int, int], tuple[int, int], Event]] = []
        self._lock = threading.Lock()
        self._place = (0, 0, 0)
        _take_room(self._reserve)

    def locate(self, session: int, step: int, attempt: int) -> None:
        """See `Writer.locate`."""
        with self._lock:
            self._place = (session, step, attempt)
            self._appender.locate(*self._place)

    def append(self, event: Event) -> None:
        """Append an event, or keep it."""
        with self._lock:
            stamps = self._stamps()
            if self._kept or not self._appender.append(event, stamps):
                self._kept.append((self._place, stamps, event))

    def make_room(self) -> None:
        """Free the reserve."""
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def settle(self) -> list[Event]:
        """Write the events that were kept. Those that still can't be written are dropped, and returned."""
        with self._lock:
            if not self._kept:
                return []
            self.make_room()
            self._appender.resume()
            left = [event for event in self._kept if not self._write(*event)]
            self._appender.locate(*self._place)
            self._kept.clear()
            masked = self._appender.masked
            return [_as_written(place, stamps, masked(event)) for place, stamps, event in left]

    def _write(self, place: tuple[int, int, int], stamps: tuple[int, int], event: Event) -> bool:
        self._appender.locate(*place)
        return self._appender.append(event, stamps)

    def sync(self) -> None:
        """See `Writer.sync`."""
        self._appender.sync()

    def close(self) -> None:
        """Close the journal and free the reserve."""
        self.make_room()
        self._appender.close()


def _as_written(place: tuple[int, int, int], stamps: tuple[int, int], event: Event) -> Event:
    session, step, attempt = place
    time, mono = stamps
    return msgspec.structs.replace(event, session=session, step=step, attempt=attempt, time=time, mono=mono)


def _take_room(path: Path) -> None:
    """Reserve room on the disk with a file. If there is none, the run does without."""
    with contextlib.suppress(OSError), os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        allocate = getattr(os, "posix_fallocate", None)  # macOS has none
        if allocate is not None:
            allocate(file.fileno(), 0, _RESERVE_BYTES)
        else:
            file.write(bytes(_RESERVE_BYTES))
