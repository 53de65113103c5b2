"""The machinery of sinks: each has a thread, a cursor, and as long as it needs; none can hold up a run.

A sink says two things: what an event means to its backend (`translate`, a pure function of the events so far), and how
to hand that over (`deliver`, which returns when the backend has acknowledged it). Everything else is here: reading the
journal, the order of messages, parallel delivery, trying again, and the cursor, which is the offset up to which
everything was acknowledged. After a crash, messages behind the cursor are made again, byte for byte the same, and sent
again.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Protocol

import msgspec

from spanline.events import Event
from spanline.home import RunDirectory
from spanline.journal import Reader, Record, follow
from spanline.state import RunState

ENTRY_POINTS: Final = "spanline.sinks"
"""Group of entry points under which a package announces a sink: a callable that returns a `Sink`, or None when off."""

FLUSH_VARIABLE: Final = "SPANLINE_FLUSH_TIMEOUT"
FLUSH_SECONDS: Final = 5.0
_PENDING: Final = 2000
"""How many messages may wait in memory; beyond that the sink's reader waits, and the journal keeps the rest."""
_BACKOFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SAVE_SECONDS: Final = 1.0

log = logging.getLogger("spanline")


class Message(msgspec.Struct, frozen=True):
    """Something for a backend.

    Messages of one `key` arrive in order; a `barrier` arrives after all before it and before all after it.
    """

    payload: object
    key: str = ""
    barrier: bool = False


class Rejected(Exception):  # noqa: N818
    """The backend will never take these messages, or `count` of them: sending them again is no use."""

    def __init__(self, message: str, count: int | None = None) -> None:
        super().__init__(message)
        self.count = count


class Later(Exception):  # noqa: N818
    """The backend asks to be left alone for so many seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Sink(Protocol):
    """What a sink must have. An object serves one run."""

    name: str
    lanes: int
    """How many messages may be under way at once."""
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

        Raises `Rejected` where trying again is no use, `Later` where the backend says when it may be, anything else
        where it may be soon.
        """

    def close(self) -> None:
        """Let go of connections."""


class Cursor(msgspec.Struct):
    """How far a sink has come, as its file says."""

    offset: int = 0
    delivered: int = 0
    rejected: int = 0
    undelivered: int = 0
    complete: bool = False
    error: str | None = None

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """Read a cursor; one that isn't there, or can't be read, is at the start."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return cls()

    def save(self, path: Path) -> None:
        """Write the cursor, whole or not at all."""
        new = path.with_suffix(f".{os.getpid()}.new")
        new.write_bytes(msgspec.json.encode(self))
        new.replace(path)


def configured() -> list[Sink]:
    """The sinks that the environment configures; one that can't be set up is reported and left out."""
    found: list[Sink] = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        try:
            sink = point.load()()
        except Exception as error:  # noqa: BLE001 - whatever a sink's set-up raises, the run goes on without it
            log.warning("%s is off: %s: %s", point.name, type(error).__name__, error)
            continue
        if sink is not None:
            found.append(sink)
    return found


class Delivery:
    """One sink at work on one run's journal."""

    def __init__(
        self,
        sink: Sink,
        directory: RunDirectory,
        ended: Callable[[], bool],
        *,
        again: bool = False,
    ) -> None:
        """Deliver what is behind the sink's cursor (with `again`, everything) until `ended()` and all is read."""
        self.sink = sink
        self._path = directory.cursor(sink.name)
        self._reader = Reader(directory.journal)
        self._ended = ended
        self._cursor = Cursor() if again else Cursor.load(self._path)
        self._cursor.complete = False
        self._cursor.undelivered = 0
        self._start = self._cursor.offset
        self._state = RunState()
        self._lanes: list[queue.SimpleQueue[_Pending | None]] = [queue.SimpleQueue() for _ in range(sink.lanes)]
        self._changed = threading.Condition()
        self._in_flight: dict[int, int] = {}  # message number -> the offset that the cursor may have before it
        self._read_to = 0
        self._numbers = 0
        self._saved = 0.0
        self._given_up = threading.Event()
        self._done = threading.Event()
        self._failing = False
        self._unsaved = False
        self._thread = threading.Thread(target=self._run, name=f"spanline-{sink.name}", daemon=True)

    def start(self) -> None:
        """Start the sink's threads."""
        for number, lane in enumerate(self._lanes):
            threading.Thread(
                target=self._work,
                args=(lane,),
                name=f"spanline-{self.sink.name}-{number}",
                daemon=True,
            ).start()
        self._thread.start()

    def finish(self, timeout: float) -> Cursor:
        """Wait until everything is delivered, at most `timeout` seconds; then give up and count what is left."""
        if not self._done.wait(timeout):
            self._given_up.set()
            with self._changed:
                self._changed.notify_all()
            self._thread.join(timeout=10)
        for lane in self._lanes:
            lane.put(None)
        if self._cursor.undelivered:
            log.warning(
                "%s: %d messages were not delivered (%s); they are kept, and `spanline replay %s` sends them",
                self.sink.name,
                self._cursor.undelivered,
                self._cursor.error or "there was no time left",
                self._path.parent.parent.name,
            )
        if self._cursor.rejected:
            log.warning(
                "%s: the backend rejected %d messages (%s)",
                self.sink.name,
                self._cursor.rejected,
                self._cursor.error,
            )
        return self._cursor

    # --- the reader's thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for record in follow(self._reader, self._ended):
                self._take(record)
            self._wait_until(lambda: not self._in_flight)
            self._close()
        except Exception as error:
            log.exception("%s stopped", self.sink.name)
            self._cursor.error = f"{type(error).__name__}: {error}"
            self._save()
        finally:
            self._done.set()

    def _take(self, record: Record) -> None:
        before = self._read_to
        self._state.apply(record.event)
        for message in self.sink.translate(record.event, self._state):
            if record.offset > self._start:
                self._submit(message, before)
        with self._changed:
            self._read_to = record.offset
            if not self._in_flight and record.offset > self._start:
                self._advance()

    def _submit(self, message: Message, before: int) -> None:
        if message.barrier:
            self._wait_until(lambda: not self._in_flight)
        self._wait_until(lambda: len(self._in_flight) < _PENDING)
        if self._given_up.is_set():
            self._cursor.undelivered += 1
            return
        self._numbers += 1
        with self._changed:
            self._in_flight[self._numbers] = before
        lane = hash(message.key) % len(self._lanes)
        self._lanes[lane].put(_Pending(self._numbers, message.payload))
        if message.barrier:
            self._wait_until(lambda: not self._in_flight)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._given_up.is_set())

    def _close(self) -> None:
        with self._changed:
            self._cursor.undelivered += len(self._in_flight)
            self._cursor.complete = self._cursor.undelivered == 0
        self._save()
        if self._cursor.complete:
            self.sink.close()

    # --- the lanes' threads ---------------------------------------------------------------------------------------

    def _work(self, lane: queue.SimpleQueue[_Pending | None]) -> None:
        while True:
            batch, last = _next_batch(lane, self.sink.batch, self.sink.linger)
            if self._given_up.is_set():
                return  # what is left is counted, and a replay's to send
            if batch:
                self._deliver(batch)
            if last:
                return

    def _deliver(self, batch: list[_Pending]) -> None:
        for tries in range(1 << 30):
            try:
                self.sink.deliver([pending.payload for pending in batch])
            except Rejected as error:
                self._note_failure(error)
                rejected = len(batch) if error.count is None else error.count
                self._settle(batch, delivered=len(batch) - rejected, rejected=rejected)
                return
            except Exception as error:  # noqa: BLE001 - a backend's client may raise anything; it is reported
                self._note_failure(error)
                asked = error.seconds if isinstance(error, Later) else 0.0
                if self._given_up.wait(max(asked, _BACKOFF[min(tries, len(_BACKOFF) - 1)])):
                    return
            else:
                self._failing = False
                self._settle(batch, delivered=len(batch))
                return

    def _note_failure(self, error: Exception) -> None:
        self._cursor.error = _first_line(error)
        if not self._failing:
            self._failing = True
            what_now = "" if isinstance(error, Rejected) else "; trying again"
            log.info("%s: %s%s", self.sink.name, self._cursor.error, what_now)

    def _settle(self, batch: list[_Pending], delivered: int = 0, rejected: int = 0) -> None:
        with self._changed:
            if self._given_up.is_set():
                return  # counted as undelivered already; sent again by a replay, byte for byte the same
            for pending in batch:
                del self._in_flight[pending.number]
            self._cursor.delivered += delivered
            self._cursor.rejected += rejected
            self._advance()
            self._changed.notify_all()

    def _advance(self) -> None:
        """Move the cursor to before the oldest message under way. Call it with the lock held."""
        oldest = next(iter(self._in_flight), None)
        self._cursor.offset = max(self._start, self._read_to if oldest is None else self._in_flight[oldest])
        now = time.monotonic()
        if now > self._saved + _SAVE_SECONDS:
            self._saved = now
            self._save()

    def _save(self) -> None:
        try:
            self._cursor.save(self._path)
        except OSError as error:
            if not self._unsaved:
                self._unsaved = True
                log.info("cannot save the cursor of %s: %s; a replay sends more than it must", self.sink.name, error)


class _Pending(msgspec.Struct, frozen=True):
    number: int
    payload: object


def _next_batch(lane: queue.SimpleQueue[_Pending | None], most: int, linger: float) -> tuple[list[_Pending], bool]:
    """Wait for a message, then take what else is there."""
    first = lane.get()
    if first is None:
        return [], True
    if linger:
        time.sleep(linger)
    batch = [first]
    while len(batch) < most:
        try:
            following = lane.get_nowait()
        except queue.Empty:
            break
        if following is None:
            return batch, True
        batch.append(following)
    return batch, False


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]


def flush_seconds() -> float:
    """How long the end of a run may wait for backends."""
    try:
        return float(os.environ.get(FLUSH_VARIABLE, FLUSH_SECONDS))
    except ValueError:
        log.warning("%s is no number; %s s it is", FLUSH_VARIABLE, FLUSH_SECONDS)
        return FLUSH_SECONDS


class Deliveries:
    """Every configured sink at work on a run; set up beside it, as clients take longer to import than dbt may wait."""

    def __init__(self, directory: RunDirectory, ended: Callable[[], bool]) -> None:
        self._directory = directory
        self._ended = ended
        self._started: list[Delivery] = []
        self._thread = threading.Thread(target=self._start, name="spanline-sinks", daemon=True)
        self._thread.start()

    def _start(self) -> None:
        for sink in configured():
            delivery = Delivery(sink, self._directory, self._ended)
            delivery.start()
            self._started.append(delivery)

    def finish(self, timeout: float) -> dict[str, int]:
        """Finish them within one time limit for all, and return how much each has left undelivered."""
        deadline = time.monotonic() + timeout
        self._thread.join(timeout)
        return {
            delivery.sink.name: delivery.finish(max(0.0, deadline - time.monotonic())).undelivered
            for delivery in self._started
        }
