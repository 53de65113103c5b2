"""One sink's messages on their way to its backend: in order, several at once, again where they have failed.

A message that fails is sent again after a pause, and meanwhile others go on. Where the backend accepts others and fails
at this one each time, it isn't the backend that is in trouble, but the message: it is given up, and a replay's to send.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from spanline.sinks.base import Later, Message, Rejected, Sink
from spanline.sinks.lanes import Concurrency, Lane
from spanline.sinks.ledger import Ledger
from spanline.sinks.limits import DeliveryLimits
from spanline.sinks.ordering import Batch, Ordering, Pending
from spanline.sinks.retries import Retries, Verdict

_NO_NUMBER: Final = 0
"""Of a message that is settled already: others are counted from 1."""

log = logging.getLogger("spanline")


class Outbox:
    """Delivers the messages that are put into it, by lanes, which are started as they are needed.

    All but its constructor is called with `lock` held, which guards the ledger, too. `changed` tells when messages were
    settled.
    """

    def __init__(self, name: str, sink: Sink, ledger: Ledger, limits: DeliveryLimits) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.is_failing = False
        """Whether the backend has not taken what it was last given."""
        self._name = name
        self._sink = sink
        self._most_lanes, self._batch = max(1, int(sink.lanes)), max(1, int(sink.batch))
        self._linger = float(sink.linger)
        self._ledger = ledger
        self._limits = limits
        self._concurrency = Concurrency(self._most_lanes)
        self._ordering = Ordering()
        self._retries = Retries(limits)
        self._lanes: list[Lane] = []
        self._sending = 0
        self._reference: Batch = []
        self._compares_next = False
        self._company = threading.Condition(self.lock)
        self._is_ending = False
        self._is_closed = False

    def put(self, pending: Pending) -> None:
        """Deliver this: from the next `dispatch` on, or as soon as a lane is free."""
        self._ordering.add(pending)
        if len(self._ordering) >= self._batch:
            self._company.notify_all()

    def note_accepted(self, message: Message) -> None:
        """The backend has accepted this, and nothing since that follows it under its key."""
        self._reference = [Pending(_NO_NUMBER, (0, "", 0), message)]

    @property
    def is_full(self) -> bool:
        """Whether no more should be put in until something is settled."""
        return len(self._ledger) >= self._limits.messages

    def dispatch(self) -> None:
        """Have lanes deliver what may go."""
        self._go_on_if_full()
        self._wake_a_lane()

    def _go_on_if_full(self) -> None:
        """Wait no longer for messages that can't be put in, where nothing else would ever make room for them."""
        if self.is_full and not self._sending and not self._retries and self._ordering.head is None:
            self._ordering.finish_idle()

    def expect_no_more(self) -> None:
        """All was put in: nothing waits for company any longer, nor for what might have followed."""
        self._is_ending = True
        self._ordering.expect_no_more()
        self._company.notify_all()
        self._wake_a_lane()

    def close(self) -> None:
        """Deliver no more. An answer that is still to come changes nothing."""
        self._is_closed = True
        self._ordering = Ordering()
        self._company.notify_all()
        for lane in self._lanes:
            lane.wake()

    # --- what goes next -------------------------------------------------------------------------------------------

    def _take(self) -> Batch:
        """What a lane may deliver now; empty where that is nothing."""
        now = time.monotonic()
        if now < self._retries.quiet_until:
            return []
        if self._is_in_doubt:
            return self._compare(now)
        if self._sending >= self._concurrency.limit:
            return []
        return self._retries.due(now) or (self._ordering.take(self._batch) if self._has_room else [])

    @property
    def _has_room(self) -> bool:
        """Whether one more may go that has not failed yet: a backend that is down isn't given all that there is."""
        return self._sending + self._retries.stalled < self._most_lanes

    @property
    def _may_send_more(self) -> bool:
        return self._has_room and self._sending < self._concurrency.limit and self._ordering.head is not None

    @property
    def _is_in_doubt(self) -> bool:
        """Whether all that was sent has failed often enough, and nothing else may go.

        Then there is no telling a backend that is down from one that fails at these. To find out, the oldest is sent
        once more, and directly after it, if it fails again, one that the backend has accepted before. Where it does
        that again, it isn't down, and all that have failed have one last try.
        """
        return (
            not self._sending
            and self._retries.are_all_suspects
            and not (self._has_room and self._ordering.head is not None)
        )

    def _compare(self, now: float) -> Batch:
        if self._compares_next:
            self._compares_next = False
            if self._reference:
                return self._reference
            if self._ordering.head is None:
                self._go_past_the_first()
                return self._ordering.take(1)
        return self._retries.next_suspect(now)

    def _go_past_the_first(self) -> None:
        """The backend has never accepted anything: it may fail at the very first message, which all others wait for."""
        first = self._retries.suspects()[0]
        if not first[0].is_passed:
            self._ordering.settle(first)
            for pending in first:
                pending.is_passed = True

    # --- the lanes' threads ---------------------------------------------------------------------------------------

    def _wake_a_lane(self) -> None:
        """Have one more lane look for work, where there is some, or will be some by the clock alone."""
        if not self._retries and not self._may_send_more:
            return
        idle = next((lane for lane in self._lanes if lane.is_idle), None)  # the first one's connection is warm
        if idle is not None:
            idle.wake()
        elif len(self._lanes) < self._most_lanes:
            self._lanes.append(Lane(f"spanline-{self._name}-{len(self._lanes)}", self.lock, self._work))

    def _work(self, lane: Lane) -> None:
        """Deliver what may go, until all is given up."""
        while batch := self._next(lane):
            failure: BaseException | None = None
            began = time.monotonic()
            try:
                self._sink.deliver([pending.message.payload for pending in batch])
            except BaseException as error:  # noqa: BLE001 - a backend's client may raise anything; it is reported
                failure = error
            took = time.monotonic() - began
            with self.lock:
                if not self._is_closed:
                    self._conclude(batch, failure, took)

    def _next(self, lane: Lane) -> Batch:
        """Wait for what may be delivered; empty at the end."""
        with self.lock:
            while not self._is_closed:
                if self._lingers:
                    self._company.wait_for(lambda: not self._lingers, self._linger)
                batch = self._take()
                if batch:
                    self._sending += 1
                    self._wake_a_lane()
                    return batch
                now = time.monotonic()
                moment = self._retries.next_moment(now)
                lane.rest(None if moment is None else moment - now)
            return []

    @property
    def _lingers(self) -> bool:
        """Whether what may go had better wait for more to be delivered with it."""
        if not self._linger or self._is_ending or self._is_closed or len(self._ordering) >= self._batch:
            return False
        return self._may_send_more and (head := self._ordering.head) is not None and not head.message.barrier

    # --- what came of it ------------------------------------------------------------------------------------------

    def _conclude(self, batch: Batch, failure: BaseException | None, took: float) -> None:
        if failure is None or isinstance(failure, Rejected):
            self._concurrency.answered(took, in_full_use=self._sending >= self._concurrency.limit)
        elif isinstance(failure, (Later, TimeoutError)):
            self._concurrency.overloaded()
        self._sending -= 1
        if failure is None:
            self._retries.accept()
        if batch[0].number == _NO_NUMBER:
            return  # it was sent to compare
        was_failing, self.is_failing = self.is_failing, failure is not None and not isinstance(failure, Rejected)
        if failure is None:
            self.note_accepted(batch[-1].message)
            self._ledger.settle(batch)
            self._settle(batch)
        elif isinstance(failure, Rejected):
            self._ledger.reject(batch, failure, failure.count)
            self._settle(batch)
        else:
            self._ledger.fail(batch, failure)
            if not was_failing:
                log.info("%s: %s; trying again", self._name, self._ledger.cursor.error)
            self._failed(batch, failure, took)

    def _failed(self, batch: Batch, error: BaseException, took: float) -> None:
        now = time.monotonic()
        verdict = self._retries.judge(batch, error)
        if verdict is Verdict.POISON:
            self._give_up(batch, error)
        elif verdict is Verdict.SUSPECT:
            self._retries.suspect(batch, now)
            self._compares_next = True
        else:
            self._retries.pause(batch, error, took, now)

    def _give_up(self, batch: Batch, error: BaseException) -> None:
        """Give up what the backend fails at each time. Of several, each is tried alone."""
        if len(batch) == 1:
            self._ledger.give_up(batch[0], error)
            self._settle(batch)
        elif batch[0].is_passed:
            for pending in batch:
                self._retries.retry_at_once([pending])
        else:
            self._ordering.put_back(batch)

    def _settle(self, batch: Batch) -> None:
        if not batch[0].is_passed:
            self._ordering.settle(batch)
        self._go_on_if_full()
        self.changed.notify_all()
