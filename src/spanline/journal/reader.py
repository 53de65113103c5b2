"""Read a journal: from an offset, to its end or following it; the same way for every reader.

The cursor of a reader is a byte offset that never passes the last newline: an unterminated tail is not torn but
unfinished. Who has a journal open reads it to its end, be it that somebody has removed it meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from spanline.events import Event, TornRecord, decode
from spanline.system.open_file import OpenFile

FILE_NAME: Final = "journal.jsonl"
_CHUNK: Final = 1 << 17
"""Bytes that are read in one go. Eight times as many take a sixth more time, and megabytes to hold their lines."""
POLL_SECONDS: Final = 0.025
"""How often a follower looks for more: what comes in bursts is taken in one go, a quarter cheaper than at 10 ms."""


class Record(msgspec.Struct, frozen=True):
    """One event, its line as it stands in the journal, and the offset behind it."""

    event: Event
    line: bytes
    offset: int


class Reader:
    """Reads one journal once, in order. `offset` is where it stands; `torn` counts the lines that were no records."""

    def __init__(self, journal: OpenFile | Path, offset: int = 0) -> None:
        self.offset = offset
        self.torn = 0
        self._journal = journal if isinstance(journal, OpenFile) else OpenFile(journal)
        self._seen = offset

    def read(self, limit: int | None = None) -> Iterator[Record]:
        """Yield the records that are there and not yet read, at most up to the byte offset `limit`.

        A journal that isn't there yet has none. One may stop in the middle, and read on later. Raises `OSError`.
        """
        rest = b""
        self._seen = self.offset
        while True:
            room = _CHUNK if limit is None else min(_CHUNK, limit - self._seen)
            fd = self._journal.fd
            chunk = os.pread(fd, room, self._seen) if fd is not None and room > 0 else b""
            if not chunk:
                return
            self._seen += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.offset += len(line) + 1
                record = self._record(line)
                if record is not None:
                    yield record

    def _record(self, line: bytes) -> Record | None:
        if not line or line.isspace():
            return None
        try:
            return Record(decode(line), line, self.offset)
        except TornRecord:
            self.torn += 1
            return None

    def has_more(self) -> bool:
        """Whether the journal has grown since the last read."""
        return self._journal.size > self._seen


def bursts(reader: Reader, ended: Callable[[], bool], poll: float = POLL_SECONDS) -> Iterator[Iterator[Record]]:
    """Yield what is there, each time there is more, until `ended()` is true and everything before that was read."""
    while True:
        last = ended()
        yield reader.read()
        if last:
            return
        while not reader.has_more() and not ended():
            time.sleep(poll)


def follow(reader: Reader, ended: Callable[[], bool], poll: float = POLL_SECONDS) -> Iterator[Record]:
    """Yield records as they are written, until `ended()` is true and everything before that was read."""
    for burst in bursts(reader, ended, poll):
        yield from burst


async def afollow(reader: Reader, ended: Callable[[], bool], poll: float = 0.05) -> AsyncIterator[Record]:
    """`follow` for an event loop, which it never blocks for longer than a read of one chunk."""
    import asyncio  # noqa: PLC0415 - a tenth of what `spanline dbt` takes to begin, which has no event loop

    while True:
        last = ended()
        for record in reader.read():
            yield record
            await asyncio.sleep(0)
        if last:
            return
        while not reader.has_more() and not ended():
            await asyncio.sleep(poll)
