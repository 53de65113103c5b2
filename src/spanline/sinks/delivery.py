"""One sink at work on one run: it reads the journal, makes messages of it, and has them delivered, to the run's end.

What has been acknowledged moves the sink's cursor; after a crash, messages behind the cursor are made again, byte for
byte the same, and sent again.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from spanline.home.cursor import Cursor, Position
from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader, Record, bursts
from spanline.journal.state import RunState
from spanline.sinks.base import Message, Sink
from spanline.sinks.error_text import in_full, in_short
from spanline.sinks.ledger import Ledger
from spanline.sinks.limits import DeliveryLimits
from spanline.sinks.outbox import Outbox
from spanline.system.open_file import OpenFile

_TELL_POLL_SECONDS: Final = 0.005
_NAMED: Final = 20
"""How many of the messages that were given up are named in a warning; the cursor names more."""

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


class Phase(enum.Enum):
    """How far a delivery is."""

    FOLLOWING = "the run goes on, or has not been read to its end"
    FLUSHING = "the run has been read to its end, and is delivered to its end"
    CLOSING = "all was delivered, and the sink lets go of its connections"
    COUNTING = "it was given up: what is left of the run is read, and counted"
    OVER = "nothing more will be done"


class Delivery:
    """One sink at work: how far it has read, and how far it is."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        directory: RunDirectory,
        journal: OpenFile,
        limits: DeliveryLimits,
        *,
        again: bool = False,
    ) -> None:
        """Begin where the sink's cursor stands; `again`, at the start of the journal."""
        self.name = name
        self._sink = sink
        self._run_id = directory.run_id
        self._journal = journal
        self._limits = limits
        self._ledger = Ledger(name, directory.cursor(name), limits, again=again)
        self._outbox = Outbox(name, sink, self._ledger, limits)
        self._unsent = 0
        self.phase = Phase.FOLLOWING
        self.read_to = 0
        """Up to which offset it has taken the journal."""
        self.known = RunState()
        """The state of the run by then, once it reads alone."""

    @property
    def cursor(self) -> Cursor:
        """How far it has come. It changes until the delivery is over."""
        with self._outbox.lock:
            return self._ledger.balanced()

    @property
    def is_settled(self) -> bool:
        """Whether all is delivered up to the end of the run, or nothing more will be done."""
        over = self.phase in (Phase.CLOSING, Phase.OVER)
        return over or (self.phase is Phase.FLUSHING and not len(self._ledger))

    def wait_until_settled(self, deadline: float) -> None:
        """Wait until it is settled, or the moment has come (monotonic, in seconds)."""
        self._wait_until(lambda: self.is_settled, deadline)

    def wait_until_over(self, deadline: float) -> None:
        """Wait until it is over, or the moment has come."""
        self._wait_until(lambda: self.phase is Phase.OVER, deadline)

    def _wait_until(self, condition: Callable[[], bool], deadline: float | None = None) -> None:
        with self._outbox.lock:
            seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._outbox.changed.wait_for(condition, seconds)

    # --- what is read ---------------------------------------------------------------------------------------------

    def take(self, record: Record, state: RunState) -> bool:
        """Make of this record, the last that `state` knows, what it means, unless that was done before.

        Returns whether there is room for more.
        """
        if record.offset <= self.read_to or self.phase is Phase.OVER:
            return True
        try:
            made: dict[str, int] = {}
            for message in self._sink.translate(record.event, state):
                if not isinstance(message, Message):
                    raise TypeError(f"it yields {type(message).__name__} where a Message is wanted")
                number = made.get(message.key, 0)
                made[message.key] = number + 1
                self._put((self.read_to, message.key, number), message)
        except BaseException as error:  # noqa: BLE001 - a sink may raise anything; it is reported, and stopped
            self.stop(error)
            return False
        self.read_to = record.offset
        return not self._outbox.is_full

    def _put(self, position: Position, message: Message) -> None:
        with self._outbox.lock:
            pending = self._ledger.open(position, message)
            if pending is None:
                if self.phase is not Phase.COUNTING and not message.unfinished:
                    self._outbox.note_accepted(message)
                return
            self._outbox.put(pending)
            self._unsent += 1
            if self._unsent >= self._limits.burst:
                self._dispatch()

    def dispatch(self) -> None:
        """Have lanes deliver what was taken: after a burst, as until then they would be in the reader's way."""
        with self._outbox.lock:
            self._ledger.note_read(self.read_to)
            self._dispatch()

    def _dispatch(self) -> None:
        self._unsent = 0
        self._outbox.dispatch()

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
        if self.phase is not Phase.COUNTING:
            self.end()

    def _read_on(self, ends: Ends) -> None:
        self._wait_for_room()
        state = self.known
        for burst in ends.bursts(Reader(self._journal, self.read_to)):
            for record in burst or ():
                if self.phase in (Phase.COUNTING, Phase.OVER):
                    return
                state.apply(record.event)
                if not self.take(record, state):
                    self._wait_for_room()
            if burst is None:
                self.flush()
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        self.dispatch()
        self._wait_until(lambda: not self._outbox.is_full)

    # --- how it ends ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """All of the run has been read: nothing waits for company any more, and who counts is done."""
        with self._outbox.lock:
            if self.phase is Phase.COUNTING:
                self._be_over()
            elif self.phase is Phase.FOLLOWING:
                self.phase = Phase.FLUSHING
                self._ledger.note_read(self.read_to)
                self._outbox.expect_no_more()
                self._outbox.changed.notify_all()

    def end(self) -> None:
        """There is no more to read: wait until what is under way is delivered, or given up."""
        self.dispatch()
        self.flush()
        self._wait_until(lambda: self.is_settled)
        with self._outbox.lock:
            if self.phase is Phase.OVER:
                return
            self._ledger.complete()
            self.phase = Phase.CLOSING
        try:
            self._sink.close()
        except BaseException as error:  # noqa: BLE001 - all is delivered by now
            log.warning("%s could not be closed: %s", self.name, in_short(error))
        finally:
            with self._outbox.lock:
                self._be_over()

    def give_up_if_failing(self) -> None:
        """Deliver no more, where it isn't settled, and the backend has not taken what it was last given."""
        with self._outbox.lock:
            if self._outbox.is_failing:
                self.give_up_unless_settled()

    def give_up_unless_settled(self) -> None:
        """Deliver no more, where it isn't settled."""
        with self._outbox.lock:
            if not self.is_settled:
                self.give_up()

    def give_up(self) -> None:
        """Deliver no more: what is left is a replay's to send."""
        with self._outbox.lock:
            if self.phase not in (Phase.FOLLOWING, Phase.FLUSHING):
                return
            self._stop_delivering()
            if self.phase is Phase.FLUSHING:
                self._be_over()
            else:
                self.phase = Phase.COUNTING

    def stop(self, error: BaseException) -> None:
        """Do no more, for this reason; a replay goes on where it stood."""
        log.error("%s stopped\n%s", self.name, in_full(error).rstrip())
        with self._outbox.lock:
            self._stop_delivering()
            self._ledger.cursor.error = in_short(error)
            self._be_over()

    def _stop_delivering(self) -> None:
        self._ledger.close()
        self._outbox.close()
        self._outbox.changed.notify_all()

    def _be_over(self) -> None:
        self.phase = Phase.OVER
        self._outbox.close()
        self._ledger.save()
        self._outbox.changed.notify_all()

    def report(self) -> None:
        """Say what was not delivered, and was rejected this time."""
        again = f"`spanline replay {self._run_id}` sends"
        is_gone = self._journal.is_gone
        if self.phase is not Phase.OVER:
            rest = "is lost with the journal" if is_gone else f"is kept, and {again} it"
            log.warning("%s did not finish: what it has not delivered %s", self.name, rest)
        cursor = self.cursor
        if cursor.undelivered:
            log.warning(
                "%s: %d messages were not delivered (%s); they %s",
                self.name,
                cursor.undelivered,
                cursor.error or "there was no time left",
                "are lost with the journal" if is_gone else f"are kept, and {again} them",
            )
        rejected, given_up = self._ledger.rejected - len(cursor.given_up), cursor.given_up
        if rejected:
            log.warning("%s: the backend rejected %d messages (%s)", self.name, rejected, cursor.rejection)
        if given_up:
            said = "%s: the backend fails on %d messages, but accepts others; `spanline replay %s` tries them again"
            log.warning(said, self.name, len(given_up), self._run_id)
        for one in given_up[:_NAMED]:
            log.warning("%s: given up: %s: %s", self.name, one.name or "a message", one.reason)
