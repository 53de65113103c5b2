"""Delivery: one reader for all sinks, and one of its own for a sink that is too slow for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from spanline import events, ids
from spanline.events import Event
from spanline.home import RunDirectory
from spanline.journal import Appender
from spanline.sinks import delivery
from spanline.sinks.base import Cursor, Message, Sink
from spanline.sinks.delivery import Deliveries
from spanline.state import RunState

MANY = 3 * delivery._PENDING


class Recorded:
    """A sink that keeps what it is given; closed, its gate holds every delivery up."""

    def __init__(self, name: str, *, lanes: int = 1, batch: int = 100, linger: float = 0.0) -> None:
        self.name, self.lanes, self.batch, self.linger = name, lanes, batch, linger
        self.gate = threading.Event()
        self.gate.set()
        self.started: list[str] = []
        self.delivered: list[str] = []
        self.closed = False
        self._lock = threading.Lock()

    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        if isinstance(event, events.Log):
            # What it says of the state shows that this is that of the event, whoever has folded it.
            yield Message(
                f"{event.message} {state.warnings}", key=str(int(event.message) % 7), barrier=self.barrier(event)
            )

    def barrier(self, event: events.Log) -> bool:
        return False

    def deliver(self, payloads: Sequence[object]) -> None:
        with self._lock:
            self.started += map(str, payloads)
        self.gate.wait(60)
        with self._lock:
            self.delivered += map(str, payloads)

    def close(self) -> None:
        self.closed = True


class WithBarriers(Recorded):
    """Every tenth message is one."""

    def barrier(self, event: events.Log) -> bool:
        return int(event.message) % 10 == 0


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    path = tmp_path / ids.new_run_id()
    (path / "cursors").mkdir(parents=True)
    return RunDirectory(path)


@pytest.fixture
def deliver(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deliveries]:
    def start(*sinks: Sink, ended: Callable[[], bool] = lambda: True) -> Deliveries:
        monkeypatch.setattr(delivery, "configured", lambda: list(sinks))
        return Deliveries(directory, ended)

    return start


def write(directory: RunDirectory, first: int, last: int) -> None:
    appender = Appender(directory.journal, "runner-1-1-1")
    for number in range(first, last):
        appender.append(events.Log(level="warn", name="Made", message=str(number)))
    appender.close()


def expected(last: int) -> list[str]:
    """Each message says its number, and how many warnings there were by then."""
    return [f"{number} {number + 1}" for number in range(last)]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def test_slow_sink_holds_up_no_other_and_loses_nothing(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    over = threading.Event()
    slow, fast = Recorded("slow", batch=1), Recorded("fast")
    slow.gate.clear()
    running = deliver(slow, fast, ended=over.is_set)
    write(directory, 0, MANY)
    until(lambda: len(fast.delivered) == MANY, "the fast sink")
    assert not slow.delivered
    write(directory, MANY, MANY + 10)  # the slow one is reading by itself by now
    until(lambda: len(fast.delivered) == MANY + 10, "the fast sink")
    slow.gate.set()
    over.set()
    cursors = running.finish(60)
    assert fast.delivered == slow.delivered == expected(MANY + 10)
    assert {name: cursor.undelivered for name, cursor in cursors.items()} == {"slow": 0, "fast": 0}
    assert all(cursor.complete for cursor in cursors.values())
    assert slow.closed
    assert fast.closed


def test_what_waits_in_memory_is_bounded(directory: RunDirectory, deliver: Callable[..., Deliveries]) -> None:
    made: list[str] = []

    class Counted(Recorded):
        def translate(self, event: Event, state: RunState) -> Iterable[Message]:
            for message in super().translate(event, state):
                made.append(str(message.payload))
                yield message

    sink, other = Counted("slow", batch=1), Recorded("other")
    sink.gate.clear()
    write(directory, 0, MANY)
    running = deliver(sink, other)
    until(lambda: len(other.delivered) == MANY, "the other sink")
    until(lambda: len(made) >= delivery._PENDING, "a full memory")
    assert len(made) == delivery._PENDING
    sink.gate.set()
    running.finish(60)
    assert sink.delivered == expected(MANY)


def test_given_up_sink_counts_what_is_left_and_a_replay_sends_that(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    write(directory, 0, MANY)
    stuck = Recorded("sink", batch=10)
    stuck.gate.clear()
    running = deliver(stuck)
    until(lambda: len(stuck.started) == 10, "the first batch")
    cursor = running.finish(0.1)["sink"]
    assert (cursor.delivered, cursor.undelivered, cursor.complete) == (0, MANY, False)
    stuck.gate.set()
    again = Recorded("sink")
    assert deliver(again).finish(60)["sink"].undelivered == 0
    assert again.delivered == expected(MANY)
    third = Recorded("sink")
    deliver(third).finish(60)
    assert not third.delivered


@pytest.mark.parametrize("lanes", [1, 4])
def test_order_is_kept_for_each_key_and_around_barriers(
    directory: RunDirectory, deliver: Callable[..., Deliveries], lanes: int
) -> None:
    write(directory, 0, 500)
    sink = WithBarriers("sink", lanes=lanes, batch=3)
    deliver(sink).finish(60)
    numbers = [int(text.split()[0]) for text in sink.delivered]
    assert sorted(numbers) == list(range(500))
    for key in range(7):
        assert [n for n in numbers if n % 7 == key] == list(range(key, 500, 7))
    for barrier in range(0, 500, 10):
        assert set(numbers[:barrier]) == set(range(barrier)), "what is before a barrier comes before it"
        assert numbers[barrier] == barrier


def test_messages_that_wait_for_company_neither_wait_for_it_when_full_nor_at_the_end(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    write(directory, 0, MANY)
    sink = Recorded("sink", batch=100, linger=30.0)
    before = time.monotonic()
    deliver(sink).finish(60)
    assert sink.delivered == expected(MANY)
    assert time.monotonic() - before < 30


def test_a_sink_that_raises_stops_alone(directory: RunDirectory, deliver: Callable[..., Deliveries]) -> None:
    class Broken(Recorded):
        def translate(self, event: Event, state: RunState) -> Iterable[Message]:
            if isinstance(event, events.Log) and event.message == "3":
                raise RuntimeError("no")
            return super().translate(event, state)

    write(directory, 0, 10)
    broken, sound = Broken("broken"), Recorded("sound")
    cursors = deliver(broken, sound).finish(60)
    assert sound.delivered == expected(10)
    assert cursors["broken"].error == "RuntimeError: no"
    assert not Cursor.load(directory.cursor("broken")).complete
