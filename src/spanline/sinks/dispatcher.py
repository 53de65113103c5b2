"""All sinks at work on one run's journal: set up, read for, waited for at the end; none can hold up a run, or another.

One thread reads the journal for all of our sinks: an event is decoded and folded once. A sink whose backend is too slow
for that leaves, and reads on by itself.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Final

from spanline.events import DeliveryEnded, SinkDelivery
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.runner.shared import settings
from spanline.sinks.base import announced
from spanline.sinks.delivery import Delivery, Ends, Phase
from spanline.sinks.error_text import in_short
from spanline.sinks.lanes import begin
from spanline.sinks.limits import DeliveryLimits
from spanline.system.open_file import OpenFile

FLUSH_SECONDS: Final = 5.0

log = logging.getLogger("spanline")


def delivery_ended(journal: OpenFile, cursors: Mapping[str, Cursor], state: RunState) -> DeliveryEnded:
    """What is to be told of the sinks of a run in this state whose cursors these are."""

    def of_one(name: str, cursor: Cursor) -> SinkDelivery:
        owed = next(Reader(journal, cursor.offset).read(), None) if not cursor.complete else None
        lag = max(0, state.last - state.clock.at(owed.event)) / 1e9 if owed is not None else 0.0
        error = cursor.error if cursor.undelivered or owed is not None else None
        return SinkDelivery(name, cursor.undelivered, lag, error)

    return DeliveryEnded(sinks=[of_one(name, cursor) for name, cursor in sorted(cursors.items())])


def is_news(before: SinkDelivery | None, now: SinkDelivery) -> bool:
    """Whether a sink has come further than was told, or is owed by a run that was not known to owe it."""
    if before is None or now.undelivered < before.undelivered or now.lag != before.lag:
        return True
    # To owe still more is no news: what is told of a backend that is down is a message that it is owed, too.
    return now.lag > 0 and before.undelivered == 0 < now.undelivered


def flush_seconds() -> float:
    """How long the end of a run may wait for backends."""
    said = os.environ.get(settings.FLUSH_TIMEOUT, "").strip()
    try:
        seconds = float(said) if said else FLUSH_SECONDS
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        log.warning("%s is not a number of seconds: %s; using %g", settings.FLUSH_TIMEOUT, said, FLUSH_SECONDS)
        return FLUSH_SECONDS
    return seconds


class Deliveries:
    """Every configured sink at work on one run's journal, from their cursors to the end of the run.

    They are set up beside the caller: backends' clients take longer to import than dbt may wait. Spanline's own sinks
    share a reader; one of somebody else's has its own, so that nothing it does can hold up another.
    """

    def __init__(
        self,
        directory: RunDirectory,
        journal: OpenFile,
        *,
        again: bool = False,
        points: Sequence[EntryPoint] | None = None,
        limits: DeliveryLimits | None = None,
    ) -> None:
        """Deliver what is behind each sink's cursor (with `again`, everything) until `finish`.

        `points` are the entry points of the sinks: all that packages announce, where none are given.
        """
        self._directory = directory
        self._journal = journal
        self._limits = limits if limits is not None else DeliveryLimits()
        self._ends = Ends(threading.Event(), threading.Event())
        self._again = again
        self._points = announced() if points is None else points
        self.off: dict[str, str] = {}
        """Sinks that are configured and could not be set up, and why."""
        self._changed = threading.Condition()
        self._unready = {point.name for point in self._points}
        self._ours = {point.name for point in self._points if _is_ours(point)}
        self._left: list[Delivery] = []
        self._counting = threading.Lock()
        self._deliveries: list[Delivery] = []
        self._reading = False
        self._finished = False
        begin("spanline-set-up", self._set_up_all)
        begin("spanline-sinks", self._read_together)

    def finish(self, timeout: float, tell: Callable[[Mapping[str, Cursor]], None]) -> dict[str, Cursor]:
        """Wait until all that is journalled is delivered, at most `timeout` seconds; then give up, and count the rest.

        `tell` has to journal how far each sink has come. Those that were not given up get that delivered as well.
        """
        timeout = min(timeout, threading.TIMEOUT_MAX)
        deadline = time.monotonic() + timeout
        self._ends.of_run.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._unready, max(self._limits.set_up, deadline - time.monotonic()))
            self._finished = True
            late, deliveries = sorted(self._unready), list(self._deliveries)
        _wait_until_settled(deliveries, deadline - timeout * self._limits.counting_share)
        for delivery in deliveries:
            delivery.give_up_if_failing()
        _wait_until_settled(deliveries, deadline)
        for delivery in deliveries:
            delivery.give_up_unless_settled()
        self._wait_until_over([delivery for delivery in deliveries if delivery.phase is Phase.COUNTING])
        cursors = {
            **{delivery.name: delivery.cursor for delivery in deliveries},
            **{name: _not_set_up(name, self._directory) for name in late},
        }
        try:
            if cursors:
                tell(cursors)
        finally:
            self._ends.of_telling.set()
        going_on = [delivery for delivery in deliveries if delivery.phase is not Phase.COUNTING]
        self._wait_until_over(going_on, max(deadline - time.monotonic(), self._limits.tell))
        for delivery in going_on:
            delivery.give_up()
        for delivery in deliveries:
            delivery.report()
        return cursors

    def _wait_until_over(self, deliveries: Iterable[Delivery], timeout: float | None = None) -> None:
        deadline = time.monotonic() + (self._limits.stop if timeout is None else timeout)
        for delivery in deliveries:
            delivery.wait_until_over(deadline)

    def _set_up_all(self) -> None:
        # Ours one after the other, as they import the same libraries.
        for point in self._points:
            if _is_ours(point):
                self._set_up(point)
        for point in self._points:
            if not _is_ours(point):
                begin(f"spanline-set-up-{point.name}", self._set_up, point)

    def _set_up(self, point: EntryPoint) -> None:
        delivery = None
        try:
            sink = point.load()()
            if sink is not None:
                delivery = Delivery(point.name, sink, self._directory, self._journal, self._limits, again=self._again)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, the run goes on without it
            self.off[point.name] = in_short(error)
            log.warning("%s is off: %s", point.name, self.off[point.name])
        with self._changed:
            self._unready.discard(point.name)
            self._changed.notify_all()
            if delivery is None or self._finished:
                return
            self._deliveries.append(delivery)
            alone = self._reading or not _is_ours(point)
        if alone:
            self._leave_alone(delivery)

    def _read_together(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._unready & self._ours, self._limits.set_up)
            self._reading = True
            together = [delivery for delivery in self._deliveries if delivery.name in self._ours]
        try:
            self._read(together)
        except Exception as error:  # noqa: BLE001 - the journal can't be read
            for delivery in together:
                delivery.stop(error)
        for delivery in together:
            begin(f"spanline-{delivery.name}", delivery.end)

    def _read(self, together: list[Delivery]) -> None:
        """Have these take what is journalled. Those for which that is too much are left alone, and taken off."""
        state = RunState()
        for burst in self._ends.bursts(Reader(self._journal)) if together else ():
            for record in burst or ():
                state.apply(record.event)
                for delivery in [delivery for delivery in together if not delivery.take(record, state)]:
                    together.remove(delivery)
                    delivery.known = state.fork()
                    self._leave_alone(delivery)
            for delivery in together:
                delivery.dispatch()
                if burst is None:
                    delivery.flush()
            if not together:
                return

    def _leave_alone(self, delivery: Delivery) -> None:
        if delivery.phase is not Phase.OVER:
            begin(f"spanline-{delivery.name}", self._read_alone, delivery)

    def _read_alone(self, delivery: Delivery) -> None:
        delivery.read_alone(self._ends)
        if delivery.phase is Phase.OVER:
            return
        if delivery.name not in self._ours:
            self._count([delivery])
            return
        with self._changed:
            self._left.append(delivery)
        with self._counting:  # one counts for those that have come meanwhile: a state for each would take megabytes
            with self._changed:
                left, self._left = self._left, []
            self._count(left)

    def _count(self, left: list[Delivery]) -> None:
        """Have those that were given up count, each from where it is, what nobody will deliver any more."""
        try:
            for record, state in min(left, key=lambda delivery: delivery.read_to).rest() if left else ():
                for delivery in left:
                    if delivery.phase is not Phase.OVER:
                        delivery.take(record, state)
        except Exception as error:  # noqa: BLE001 - the journal can't be read
            for delivery in left:
                delivery.stop(error)
        for delivery in left:
            delivery.end()


def _wait_until_settled(deliveries: Iterable[Delivery], deadline: float) -> None:
    for delivery in deliveries:
        delivery.wait_until_settled(deadline)


def _is_ours(point: EntryPoint) -> bool:
    return point.value.startswith("spanline.")


def _not_set_up(name: str, directory: RunDirectory) -> Cursor:
    """What is left of a sink that was never there: a cursor that says that all is owed."""
    log.warning("%s was not set up in time: `spanline replay %s` sends its events", name, directory.run_id)
    path = directory.cursor(name)
    cursor = Cursor.load(path)
    cursor.complete, cursor.error = False, "it was not set up in time"
    with contextlib.suppress(OSError):
        cursor.save(path)
    return cursor
