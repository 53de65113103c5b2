"""In which order messages may go: by key, by dataset, and around barriers. Plain data: no thread, no clock."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

import msgspec

from spanline.home.cursor import Position
from spanline.sinks.base import Message


class Pending(msgspec.Struct):
    """A message that isn't settled: neither acknowledged, nor rejected.

    `number` counts the messages of a sink, from 1. `failures` counts the times that it was sent in vain, and `faults`
    those that may be its own fault; `accepted` is how many messages the backend had accepted by the last of them.
    """

    number: int
    position: Position
    message: Message
    failures: int = 0
    faults: int = 0
    accepted: int = 0
    is_passed: bool = False
    """Whether those behind it no longer wait for it."""


Batch = list[Pending]
"""Messages that are delivered together, and together again where that has failed."""


class _Stream:
    """The messages of one key: those that wait, and how many are under way. It writes datasets until it is finished."""

    def __init__(self, first: Pending) -> None:
        self.key = first.message.key
        self.first = self.newest = first
        self.waiting: deque[Pending] = deque()
        self.under_way = 0
        self.writes: set[str] = set()
        self.waits_for: set[_Stream] = set()
        self.followers: list[_Stream] = []

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.under_way


class Ordering:
    """The messages of a sink that are not settled, and which of them may go next.

    - Messages of one key go in order, the next when the one before is settled.
    - What reads or writes a dataset goes when the keys that began before its own, and write it, are finished. A key
      never waits for one that began after it, so there is no deadlock, however datasets depend on one another.
    - A barrier goes when all before it is settled, and all behind it when it is.

    Of those that may go, the oldest goes first.
    """

    def __init__(self) -> None:
        self._behind: deque[Pending] = deque()  # a barrier, and what is behind it
        self._barrier: Pending | None = None
        self._unsettled = 0  # of those that are not in `_behind`
        self._streams: dict[str, _Stream] = {}
        self._writers: dict[str, dict[str, _Stream]] = {}
        self._ready: list[tuple[int, str]] = []  # a heap, in which what is no longer so may linger
        self._is_final = False

    def __len__(self) -> int:
        """How many messages are not settled."""
        return self._unsettled + len(self._behind)

    @property
    def head(self) -> Pending | None:
        """The message that would go next; None where none may."""
        while self._ready:
            number, key = self._ready[0]
            stream = self._streams.get(key)
            if stream is not None and self._may_go(stream) and stream.waiting[0].number == number:
                return stream.waiting[0]
            heapq.heappop(self._ready)
        return None

    def add(self, pending: Pending) -> None:
        """A message more, behind all others."""
        self._behind.append(pending)
        self._admit()

    def take(self, most: int) -> Batch:
        """Return up to `most` messages that may go together, in order, and count them as under way.

        One that has failed already goes alone.
        """
        taken: Batch = []
        following: list[tuple[int, str]] = []  # what comes next in the streams of those taken
        while len(taken) < most:
            heap = self._ready if self.head is not None else []
            if following and (not heap or following[0] < heap[0]):
                heap = following
            if not heap:
                break
            stream = self._streams[heap[0][1]]
            if taken and (taken[0].failures or stream.waiting[0].failures):
                break
            heapq.heappop(heap)
            taken.append(stream.waiting.popleft())
            stream.under_way += 1
            if stream.waiting:
                heapq.heappush(following, (stream.waiting[0].number, stream.key))
        return taken

    def put_back(self, batch: Batch) -> None:
        """Have what was taken wait again, where it stood."""
        for pending in reversed(batch):
            stream = self._streams[pending.message.key]
            stream.waiting.appendleft(pending)
            stream.under_way -= 1
        for pending in batch:
            self._offer(self._streams[pending.message.key])

    def settle(self, batch: Iterable[Pending]) -> None:
        """Nothing waits for these any more."""
        for pending in batch:
            stream = self._streams[pending.message.key]
            stream.under_way -= 1
            self._unsettled -= 1
            if pending is self._barrier:
                self._barrier = None
            self._finish_or_offer(stream)
        self._admit()

    def expect_no_more(self) -> None:
        """No message will be added that any of these would have to wait for."""
        self._is_final = True
        self.finish_idle()

    def finish_idle(self) -> None:
        """Wait no longer for messages that are not there."""
        for stream in [stream for stream in self._streams.values() if stream.is_empty]:
            self._finish(stream)

    def _admit(self) -> None:
        while self._behind and self._barrier is None:
            if self._behind[0].message.barrier:
                if self._unsettled:
                    self.finish_idle()
                    return
                self._barrier = self._behind[0]
            self._enter(self._behind.popleft())

    def _enter(self, pending: Pending) -> None:
        message = pending.message
        stream = self._streams.get(message.key)
        if stream is None:
            stream = self._streams[message.key] = _Stream(pending)
        for dataset in message.reads | message.writes:
            for writer in self._writers.get(dataset, {}).values():
                if writer.first.number < stream.first.number:
                    stream.waits_for.add(writer)
                    writer.followers.append(stream)
        for dataset in message.writes:
            self._writers.setdefault(dataset, {})[stream.key] = stream
            stream.writes.add(dataset)
        self._unsettled += 1
        stream.newest = pending
        stream.waiting.append(pending)
        if stream.waiting[0] is pending:
            self._offer(stream)

    @staticmethod
    def _may_go(stream: _Stream) -> bool:
        return bool(stream.waiting) and not stream.under_way and not stream.waits_for

    def _offer(self, stream: _Stream) -> None:
        if self._may_go(stream):
            heapq.heappush(self._ready, (stream.waiting[0].number, stream.key))

    def _finish_or_offer(self, stream: _Stream) -> None:
        expects_more = stream.newest.message.unfinished and stream.writes and not self._is_final and not self._behind
        if stream.is_empty and not expects_more:
            self._finish(stream)
        else:
            self._offer(stream)

    def _finish(self, stream: _Stream) -> None:
        del self._streams[stream.key]
        for dataset in stream.writes:
            writers = self._writers[dataset]
            del writers[stream.key]
            if not writers:
                del self._writers[dataset]
        for follower in stream.followers:
            follower.waits_for.discard(stream)
            self._offer(follower)
