"""Read a journal: from an offset, to its end or following it; the same way for every reader.

A reader's position is a byte offset that never passes the last newline: a tail without one is not torn but unfinished.
A reader keeps the journal open and reads it to its end, even if somebody removes it meanwhile.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from spanline.events import Event, TornRecord, decode
from spanline.runner.shared.writer import LONGEST_RECORD
from spanline.system.open_file import OpenFile

FILE_NAME: Final = "journal.jsonl"
_CHUNK: Final = 1 << 17
"""Bytes per read. With eight times as many, reading takes a sixth more time, and megabytes to hold the lines."""
POLL_SECONDS: Final = 0.03
"""How often a follower looks for more. It reads a burst at once, which costs a quarter less than at 10 ms."""
ASYNC_POLL_SECONDS: Final = 1.0
_FIRST_WAIT: Final = 0.05
_LONGER: Final = 1.5
"""How an event loop's follower looks: at first after `_FIRST_WAIT` seconds, each time so many times longer."""


class Record(msgspec.Struct, frozen=True):
    """One event, its line as written in the journal, and the offset after it."""

    event: Event
    line: bytes
    offset: int


class Unfinished:
    """A line that is not complete yet: the pieces read so far, or only its length if it is too long."""

    def __init__(self) -> None:
        self.length = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Add a piece that does not end the line."""
        self.length += len(piece)
        self._pieces.append(piece)
        if self.length > LONGEST_RECORD:
            self._pieces.clear()

    def end(self, piece: bytes) -> bytes | None:
        """Add the last piece and return the whole line, or None if it is longer than a record may be. Start over."""
        self.add(piece)
        line = b"".join(self._pieces) if self.length <= LONGEST_RECORD else None
        self.length = 0
        self._pieces.clear()
        return line


class Reader:
    """Reads one journal once, in order. `offset` is its position; `torn` counts the lines that were not records.

    It holds one line, and what was read with its end. It skips a line longer than a record may be, and counts it as
    torn.
    """

    def __init__(self, journal: OpenFile | Path, offset: int = 0, *, chunk: int = _CHUNK) -> None:
        """`chunk` is the number of bytes to read at once."""
        self.offset = offset
        self.torn = 0
        self._journal = journal if isinstance(journal, OpenFile) else OpenFile(journal)
        self._seen = offset
        self._chunk = chunk
        self._lines: collections.deque[bytes | None] = collections.deque()
        self._unfinished = Unfinished()
        self._skipped = 0
        """Bytes of the line that is None, of which there is at most one."""

    def read(self, limit: int | None = None) -> Iterator[Record]:
        """Yield the existing records that were not read yet, at most up to the byte offset `limit`.

        A journal that does not exist yet has none. A caller may stop in the middle and continue later.
        Raises `OSError` if the journal can't be read, or is not a file.
        """
        while True:
            while self._lines:
                line = self._lines.popleft()
                self.offset += (self._skipped if line is None else len(line)) + 1
                record = self._record(line)
                if record is not None:
                    yield record
            room = self._chunk if limit is None else min(self._chunk, limit - self._seen)
            fd = self._journal.fd
            chunk = os.pread(fd, room, self._seen) if fd is not None and room > 0 else b""
            if not chunk:
                return
            self._seen += len(chunk)
            self._cut(chunk)

    def _cut(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        if others:
            self._skipped = self._unfinished.length + len(first)
            self._lines.append(self._unfinished.end(first))
            *whole, first = others
            self._lines.extend(whole)
        self._unfinished.add(first)

    def _record(self, line: bytes | None) -> Record | None:
        if line is None:
            self.torn += 1
            return None
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
    """Yield new records, in a batch each time there are some, until `ended()` and all earlier ones were read."""
    while True:
        last = ended()
        yield reader.read()
        if last:
            return
        while not reader.has_more() and not ended():
            time.sleep(poll)


def follow(reader: Reader, ended: Callable[[], bool], poll: float = POLL_SECONDS) -> Iterator[Record]:
    """Yield records as they are written, until `ended()` is true and all earlier ones were read."""
    for burst in bursts(reader, ended, poll):
        yield from burst


async def afollow(reader: Reader, ended: Callable[[], bool], poll: float = ASYNC_POLL_SECONDS) -> AsyncIterator[Record]:
    """`follow` for an event loop. It never blocks the loop for longer than the read of one chunk.

    The longer nothing comes, the less often it looks, down to every `poll` seconds: hundreds may share a loop.
    """
    import asyncio  # noqa: PLC0415 - a tenth of what `spanline dbt` takes to begin, which has no event loop

    while True:
        last = ended()
        for record in reader.read():
            yield record
            await asyncio.sleep(0)
        if last:
            return
        wait = min(_FIRST_WAIT, poll)
        while not reader.has_more() and not ended():
            await asyncio.sleep(wait)
            wait = min(wait * _LONGER, poll)
