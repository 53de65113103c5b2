"""One sink at work: what it makes of the journal goes to its backend, as fast as that can take it.

What has been acknowledged moves the sink's cursor; after a crash, messages behind the cursor are made again, byte for
byte the same, and sent again.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader, Record, bursts
from spanline.journal.state import RunState
from spanline.sinks.base import Later, Message, Rejected, Sink
from spanline.sinks.error_text import in_full, in_short
from spanline.system.open_file import OpenFile

_PENDING: Final = 500
"""How many messages of a sink may wait in memory; beyond that the journal keeps the rest."""
_BURST: Final = 64
"""How many messages are made before the first of them goes out."""
_BACKOFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SAVE_SECONDS: Final = 1.0
_TELL_POLL_SECONDS: Final = 0.005

log = logging.getLogger("spanline")


class Ends(msgspec.Struct, frozen=True):
    """The two ends of a journal: the run's, and that of what is told of how it was delivered."""

    of_run: threading.Event
    of_telling: threading.Event

    def bursts(self, reader: Reader) -> Iterator[Iterator[Record] | None]:
        """Yield what is there, each time there is more, to the end of all; None where the run's has been read."""
        yield from bursts(reader, self.of_run.is_set)
        yield None
        yield from bursts(reader, self.of_telling.is_set, _TELL_POLL_SECONDS)


class _Pending(msgspec.Struct, frozen=True):
    """A message under way, and the offset that the cursor may have before it is acknowledged."""

    number: int
    before: int
    message: Message


class Delivery:
    """One sink at work: what it makes of the journal, what of that is under way, and how far it has come."""

    def __init__(self, name: str, sink: Sink, directory: RunDirectory, journal: OpenFile, *, again: bool) -> None:
        self.name = name
        self._sink = sink
        self._most_lanes, self._batch, self._linger = int(sink.lanes), int(sink.batch), float(sink.linger)
        self._run_id = directory.run_id
        self._journal = journal
        self._path = directory.cursor(name)
        self.cursor = Cursor() if again else Cursor.load(self._path)
        self.cursor.complete = False
        self.cursor.undelivered = 0
        self._rejected_before = self.cursor.rejected
        self._start = self.cursor.offset
        self.read_to = 0
        """Up to which offset it has taken the journal."""
        self.known = RunState()
        """The state of the run by then, once it reads alone."""
        self._missed: int | None = None
        self._numbers = 0
        self._changed = threading.Condition()
        self._in_flight: dict[int, _Pending] = {}
        self._waiting: collections.deque[_Pending] = collections.deque()
        self._lanes: list[_Lane] = []
        self._hurry = threading.Event()
        self._run_is_read = False
        self._all_is_read = False
        self._given_up = threading.Event()
        self._concluding = False
        self._over = threading.Event()
        self._failing = False
        self._unsaved = False
        self._saved = time.monotonic()
        self._save()  # from now on it owes something, whatever becomes of this process

    # --- the end, seen from outside -------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing more will be done: all was delivered, or given up, or the sink has failed."""
        return self._over.is_set()

    @property
    def settled(self) -> bool:
        """Whether all is delivered up to the end of the run, or nothing more will be done."""
        return self.over or (self._run_is_read and not self._in_flight)

    @property
    def given_up(self) -> bool:
        """Whether it was told to deliver no more."""
        return self._given_up.is_set()

    def wait_until_settled(self, deadline: float) -> None:
        """Wait until it is settled, or the moment has come (monotonic, in seconds)."""
        with self._changed:
            self._changed.wait_for(lambda: self.settled, max(0.0, deadline - time.monotonic()))

    def wait(self, deadline: float) -> None:
        """Wait until it is over, or the moment has come."""
        self._over.wait(max(0.0, deadline - time.monotonic()))

    def give_up_if_failing(self) -> None:
        """Deliver no more, where the backend has not taken what it was last given."""
        with self._changed:
            if self._failing and not self.settled:
                self._give_up()

    def give_up_unless_settled(self) -> None:
        """Deliver no more, where it isn't settled: what is left is a replay's to send."""
        with self._changed:
            if not self.settled:
                self._give_up()

    def give_up(self) -> None:
        """Deliver no more, where it isn't over."""
        with self._changed:
            if not self.over:
                self._give_up()

    def _give_up(self) -> None:
        self._let_go()
        if self._run_is_read:  # else it is counted by who reads it
            begin(f"spanline-{self.name}", self._conclude)

    def report(self) -> None:
        """Say what was not delivered, and was rejected this time."""
        for lane in self._lanes:
            lane.end()
        again = f"`spanline replay {self._run_id}` sends"
        gone = self._journal.is_gone
        if not self.over:
            rest = "is lost with the journal" if gone else f"is kept, and {again} it"
            log.warning("%s has not come to an end: what it owes %s", self.name, rest)
        if self.cursor.undelivered:
            log.warning(
                "%s: %d messages were not delivered (%s); they %s",
                self.name,
                self.cursor.undelivered,
                self.cursor.error or "there was no time left",
                "are lost with the journal" if gone else f"are kept, and {again} them",
            )
        rejected = self.cursor.rejected - self._rejected_before
        if rejected:
            log.warning("%s: the backend rejected %d messages (%s)", self.name, rejected, self.cursor.rejection)

    # --- the reader's thread --------------------------------------------------------------------------------------

    def take(self, record: Record, state: RunState) -> bool:
        """Make of this record, the last that `state` knows, what it means, unless that was done before.

        Returns whether there is room for more.
        """
        if record.offset <= self.read_to or self.over:
            return True
        try:
            for message in self._sink.translate(record.event, state):
                if record.offset > self._start:
                    self._submit(message)
        except BaseException as error:  # noqa: BLE001 - a sink may raise anything; it is reported, and stopped
            self.stop(error)
            return False
        self.read_to = record.offset
        return not self._full()

    def dispatch(self) -> None:
        """Have lanes deliver what was taken: after a burst, as until then they would be in the reader's way."""
        with self._changed:
            self._dispatch()
            if not self._in_flight and self.read_to > self._start:
                self._advance()

    def rest(self) -> Iterator[tuple[Record, RunState]]:
        """What is in the journal behind where it has read to, each record with the state by then."""
        state = self.known
        for record in Reader(self._journal, self.read_to).read():
            state.apply(record.event)
            yield record, state

    def read_alone(self, ends: Ends) -> None:
        """Go on from where it is, with a reader of its own, as fast as there is room, until all is done or given up."""
        try:
            self._read_on(ends)
        except Exception as error:  # noqa: BLE001 - the journal can't be read
            self.stop(error)
        if not self._given_up.is_set():
            self.end()

    def _read_on(self, ends: Ends) -> None:
        self.dispatch()
        self._wait_while(self._full)
        state = self.known
        for burst in ends.bursts(Reader(self._journal, self.read_to)):
            for record in burst or ():
                state.apply(record.event)
                if not self.take(record, state):
                    if self.over:
                        return
                    self.dispatch()
                    self._wait_while(self._full)
                if self._given_up.is_set():
                    return
            self.dispatch()
            if burst is None:
                self.note_run_is_read()
            self._wait_while(self._full)

    def note_run_is_read(self) -> None:
        """All of the run has been read: nothing lingers any more, and who was given up is at its end."""
        with self._changed:
            self._run_is_read = True
            self._hurry.set()
            self._changed.notify_all()
        if self._given_up.is_set():
            self._conclude()

    def end(self) -> None:
        """There is no more to read: wait until what is under way is delivered, or given up."""
        self.dispatch()
        self._all_is_read = True
        self.note_run_is_read()
        self._conclude()

    def _conclude(self) -> None:
        """Wait until what is under way is delivered, or given up; count, and close."""
        with self._changed:
            if self._concluding or self.over:
                return
            self._concluding = True
        self._wait_while(lambda: bool(self._in_flight))
        with self._changed:
            undelivered = self._given_up.is_set() or self.cursor.undelivered > 0
            self.cursor.complete = self._all_is_read and not undelivered
            if self.cursor.complete:
                self.cursor.error = None
            self._save()
        try:
            if self.cursor.complete:
                self._sink.close()
        except BaseException as error:  # noqa: BLE001 - all is delivered by now
            log.warning("%s could not be closed: %s", self.name, in_short(error))
        finally:
            self._be_over()

    def stop(self, error: BaseException) -> None:
        """Do no more, for this reason; a replay goes on where it stood."""
        log.error("%s stopped\n%s", self.name, in_full(error).rstrip())
        with self._changed:
            self._let_go()
            self.cursor.error = in_short(error)
            self._save()
        self._be_over()

    def _be_over(self) -> None:
        self._over.set()
        with self._changed:
            self._changed.notify_all()

    def _full(self) -> bool:
        return len(self._in_flight) >= _PENDING and not self._given_up.is_set()

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not condition())

    def _submit(self, message: Message) -> None:
        if not isinstance(message, Message):
            raise TypeError(f"it yields {type(message).__name__} where a Message is wanted")
        with self._changed:
            if self._given_up.is_set():
                self.cursor.undelivered += 1
                self._missed = self.read_to if self._missed is None else self._missed
                return
            self._numbers += 1
            pending = _Pending(self._numbers, self.read_to, message)
            self._in_flight[pending.number] = pending
            self._waiting.append(pending)
            if len(self._waiting) >= _BURST:
                self._dispatch()
            if len(self._in_flight) >= min(self._batch, _PENDING):
                self._hurry.set()

    # --- from here on with the lock held --------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give to lanes what may go: before and after a barrier, nothing else is under way."""
        while self._waiting:
            following = self._waiting[0]
            oldest = next(iter(self._in_flight.values()))
            if (following.message.barrier or oldest.message.barrier) and oldest is not following:
                return
            self._lane_for(following.message.key).put(self._waiting.popleft())

    def _lane_for(self, key: str) -> _Lane:
        """The lane where messages of this key are under way, else the first idle one, whose connection is warm."""
        busy = next((lane for lane in self._lanes if key in lane.keys), None)
        lane = busy or next((lane for lane in self._lanes if not lane.keys), None)
        if lane is None and len(self._lanes) < self._most_lanes:
            lane = _Lane(f"spanline-{self.name}-{len(self._lanes)}", self._work)
            self._lanes.append(lane)
        return lane or min(self._lanes, key=lambda one: one.keys.total())

    def _let_go(self) -> None:
        """Count what is under way as undelivered, and keep nothing of it: to count the rest takes memory, too."""
        if self._given_up.is_set():
            return
        self._given_up.set()
        oldest = next(iter(self._in_flight.values()), None)
        self._missed = oldest.before if oldest is not None else None
        self.cursor.undelivered += len(self._in_flight)
        self._in_flight.clear()
        self._waiting.clear()
        for lane in self._lanes:
            lane.clear()
        self._advance()
        self._changed.notify_all()

    def _advance(self) -> None:
        """Move the cursor to before the oldest message that isn't delivered."""
        oldest = next(iter(self._in_flight.values()), None)
        before = self._missed if oldest is None else oldest.before
        self.cursor.offset = max(self._start, self.read_to if before is None else before)
        now = time.monotonic()
        if now > self._saved + _SAVE_SECONDS:
            self._saved = now
            self._save()

    def _save(self) -> None:
        try:
            self.cursor.save(self._path)
        except OSError as error:
            if not self._unsaved:
                self._unsaved = True
                log.info("cannot save the cursor of %s: %s; a replay sends more than it must", self.name, error)

    # --- the lanes' threads ---------------------------------------------------------------------------------------

    def _work(self, lane: _Lane) -> None:
        """Deliver what comes through a lane, until its end, or until all is given up: that is a replay's to send."""
        while (batch := self._next_batch(lane)) and not self._given_up.is_set():
            self._deliver(lane, batch)

    def _next_batch(self, lane: _Lane) -> list[_Pending]:
        """Wait for a message, then take what else is there, or comes soon; empty at the end."""
        first = lane.queue.get()
        if first is None:
            return []
        lingers = self._linger and not self._run_is_read and not first.message.barrier
        if lingers and lane.queue.qsize() + 1 < self._batch:
            self._hurry.wait(self._linger)
            if not self._run_is_read:
                self._hurry.clear()
        batch = [first]
        while len(batch) < self._batch:
            try:
                following = lane.queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                lane.end()
                break
            batch.append(following)
        return batch

    def _deliver(self, lane: _Lane, batch: list[_Pending]) -> None:
        payloads = [pending.message.payload for pending in batch]
        for tries in range(1 << 30):
            try:
                self._sink.deliver(payloads)
            except Rejected as error:
                self._note_rejection(error)
                rejected = len(batch) if error.count is None else error.count
                self._settle(lane, batch, delivered=len(batch) - rejected, rejected=rejected)
                return
            except Exception as error:  # noqa: BLE001 - a backend's client may raise anything; it is reported
                self._note_failure(error)
                asked = error.seconds if isinstance(error, Later) else 0.0
                if self._given_up.wait(max(asked, _BACKOFF[min(tries, len(_BACKOFF) - 1)])):
                    return
            else:
                self._failing = False
                self._settle(lane, batch, delivered=len(batch))
                return

    def _note_failure(self, error: Exception) -> None:
        self.cursor.error = in_short(error)
        if not self._failing:
            self._failing = True
            log.info("%s: %s; trying again", self.name, self.cursor.error)

    def _note_rejection(self, error: Rejected) -> None:
        self._failing = False
        said = in_short(error)
        if self.cursor.rejection is None:
            log.info("%s: %s", self.name, said)
        self.cursor.rejection = said

    def _settle(self, lane: _Lane, batch: list[_Pending], delivered: int = 0, rejected: int = 0) -> None:
        with self._changed:
            if self._given_up.is_set():
                return  # counted as undelivered already; sent again by a replay, byte for byte the same
            for pending in batch:
                del self._in_flight[pending.number]
                lane.forget(pending.message.key)
            self.cursor.delivered += delivered
            self.cursor.rejected += rejected
            self._dispatch()
            self._advance()
            self._changed.notify_all()


class _Lane:
    """A thread that delivers the messages given to it, in order. `keys` counts those under way."""

    def __init__(self, name: str, work: Callable[[_Lane], None]) -> None:
        self.queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self.keys: collections.Counter[str] = collections.Counter()
        begin(name, work, self)

    def put(self, pending: _Pending) -> None:
        self.keys[pending.message.key] += 1
        self.queue.put(pending)

    def forget(self, key: str) -> None:
        self.keys[key] -= 1
        if not self.keys[key]:
            del self.keys[key]

    def clear(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.queue.get_nowait()

    def end(self) -> None:
        self.queue.put(None)


def begin(name: str, work: Callable[..., None], *arguments: object) -> None:
    """Have this done in a thread of its own, which ends with the process at the latest."""
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()
