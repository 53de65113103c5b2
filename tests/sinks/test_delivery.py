"""Delivery: one reader for all sinks, and one of its own for a sink that is too slow for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from spanline import events
from spanline.events import Event, SinkDelivery
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.journal import ids
from spanline.journal.appender import Appender
from spanline.journal.reader import Reader
from spanline.journal.state import RunState, state_of
from spanline.sinks import dispatcher
from spanline.sinks.base import Later, Message, Rejected, Sink
from spanline.sinks.dispatcher import Deliveries
from spanline.sinks.limits import DeliveryLimits
from spanline.system.open_file import OpenFile

MANY = 3 * DeliveryLimits().messages
HASTE = DeliveryLimits(pauses=(0.01, 0.02))
SHORT = DeliveryLimits(set_up=0.5, stop=0.5, tell=0.3)


class Recorded:
    """A sink that keeps what it is given; closed, its gate holds every delivery up."""

    package = "spanline"

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

    def set_up(self) -> Sink:
        return self

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


class Point:
    """An entry point of a sink, which shares a reader where it says that it is Spanline's own."""

    def __init__(self, sink: Recorded) -> None:
        self.name, self._sink = sink.name, sink
        self.value = f"{sink.package}.sinks:{sink.name}"

    def load(self) -> Callable[[], Sink]:
        return self._sink.set_up


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    path = tmp_path / ids.new_run_id()
    (path / "cursors").mkdir(parents=True)
    return RunDirectory(path)


@pytest.fixture
def deliver(directory: RunDirectory) -> Callable[..., Deliveries]:
    def start(*sinks: Recorded, limits: DeliveryLimits | None = None) -> Deliveries:
        return Deliveries(directory, OpenFile(directory.journal), points=[Point(sink) for sink in sinks], limits=limits)

    return start


def append(directory: RunDirectory, *happened: Event) -> None:
    appender = Appender(directory.journal, "runner-1-1-1")
    for event in happened:
        appender.append(event)
    appender.close()


def write(directory: RunDirectory, first: int, last: int) -> None:
    append(directory, *(events.Log(level="warn", name="Made", message=str(number)) for number in range(first, last)))


def finish(deliveries: Deliveries, timeout: float = 60.0) -> dict[str, Cursor]:
    return deliveries.finish(timeout, lambda _: None)


def expected(last: int) -> list[str]:
    """Each message says its number, and how many warnings there were by then."""
    return [f"{number} {number + 1}" for number in range(last)]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


class Told(Recorded):
    """Tells its backend of what is told of the delivery, too."""

    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        if isinstance(event, events.DeliveryEnded):
            yield Message(", ".join(f"{sink.sink} owes {sink.undelivered}" for sink in event.sinks))
        yield from super().translate(event, state)


def test_how_far_sinks_have_come_is_journalled_and_delivered_behind_all_else(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    dead, told = Recorded("dead", batch=1), Told("told", batch=1, linger=60.0)
    dead.gate.clear()
    write(directory, 0, 10)
    state = state_of(record.event for record in Reader(directory.journal).read())
    found: list[events.DeliveryEnded] = []

    def tell(cursors: Mapping[str, Cursor]) -> None:
        assert told.delivered == expected(10)
        found.append(dispatcher.delivery_ended(OpenFile(directory.journal), cursors, state))
        append(directory, found[0])

    cursors = deliver(dead, told).finish(0.5, tell)
    assert found[0].sinks == [
        events.SinkDelivery("dead", undelivered=10, lag=(state.last - state.started) / 1e9),
        events.SinkDelivery("told"),
    ]
    assert told.delivered == [*expected(10), "dead owes 10, told owes 0"]
    assert (cursors["told"].complete, cursors["told"].offset) == (True, directory.journal.stat().st_size)
    assert (cursors["dead"].complete, cursors["dead"].undelivered) == (False, 10)

    dead.gate.set()
    again = Told("told", batch=1)
    cursors = finish(deliver(Recorded("dead"), again))
    assert dispatcher.delivery_ended(OpenFile(directory.journal), cursors, state).sinks == [
        events.SinkDelivery("dead"),
        events.SinkDelivery("told"),
    ]
    assert not again.delivered


def test_slow_sink_holds_up_no_other_and_loses_nothing(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    slow, fast = Recorded("slow", batch=1), Recorded("fast")
    slow.gate.clear()
    running = deliver(slow, fast)
    write(directory, 0, MANY)
    until(lambda: len(fast.delivered) == MANY, "the fast sink")
    assert not slow.delivered
    write(directory, MANY, MANY + 10)  # the slow one is reading by itself by now
    until(lambda: len(fast.delivered) == MANY + 10, "the fast sink")
    slow.gate.set()
    cursors = finish(running)
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
    until(lambda: len(made) >= DeliveryLimits().messages, "a full memory")
    assert len(made) == DeliveryLimits().messages
    sink.gate.set()
    finish(running)
    assert sink.delivered == expected(MANY)


def test_given_up_sink_counts_what_is_left_and_a_replay_sends_that(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    write(directory, 0, MANY)
    stuck = Recorded("sink", batch=10)
    stuck.gate.clear()
    running = deliver(stuck)
    until(lambda: len(stuck.started) == 10, "the first batch")
    cursor = finish(running, 0.1)["sink"]
    assert (cursor.delivered, cursor.undelivered, cursor.complete) == (0, MANY, False)
    stuck.gate.set()
    again = Recorded("sink")
    assert finish(deliver(again))["sink"].undelivered == 0
    assert again.delivered == expected(MANY)
    third = Recorded("sink")
    finish(deliver(third))
    assert not third.delivered


class Dead(Recorded):
    """A sink whose backend takes nothing."""

    def deliver(self, payloads: Sequence[object]) -> None:
        raise ConnectionError("nobody listens")


class Refusing(Recorded):
    """A sink whose backend answers, to say that it wants none of it."""

    def deliver(self, payloads: Sequence[object]) -> None:
        super().deliver(payloads)
        raise Rejected("not this")


@pytest.mark.parametrize("alive", [Recorded, Refusing])
def test_what_a_dead_backend_is_owed_is_counted_while_others_still_have_time(
    directory: RunDirectory, deliver: Callable[..., Deliveries], alive: type[Recorded]
) -> None:
    write(directory, 0, MANY)
    dead, slow = Dead("dead"), alive("slow", batch=1)
    slow.gate.clear()
    running = deliver(dead, slow)

    def open_once_counted() -> None:
        slow.gate.set()
        until(lambda: bool(slow.delivered), "a first answer")
        slow.gate.clear()
        until(lambda: Cursor.load(directory.cursor("dead")).undelivered == MANY, "a count")
        slow.gate.set()

    opener = threading.Thread(target=open_once_counted)
    opener.start()
    cursors = finish(running, 4.0)
    opener.join()
    assert cursors["slow"].complete
    assert cursors["slow"].delivered + cursors["slow"].rejected == MANY
    assert (cursors["dead"].undelivered, cursors["dead"].complete) == (MANY, False)


@pytest.mark.parametrize("lanes", [1, 4])
def test_order_is_kept_for_each_key_and_around_barriers(
    directory: RunDirectory, deliver: Callable[..., Deliveries], lanes: int
) -> None:
    write(directory, 0, 500)
    sink = WithBarriers("sink", lanes=lanes, batch=3)
    finish(deliver(sink))
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
    write(directory, 0, MANY + 1)
    sink = Recorded("sink", batch=100, linger=30.0)
    before = time.monotonic()
    finish(deliver(sink))
    assert sink.delivered == expected(MANY + 1)
    assert time.monotonic() - before < 30


HANGS = threading.Event()
"""Never set: what waits for it hangs, until the process of the tests ends."""


class Broken(Recorded):
    """Somebody else's sink, which goes wrong in one way."""

    package = "somebody"


class RaisesInTranslate(Broken):
    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        if isinstance(event, events.Log) and event.message == "3":
            raise RuntimeError("no")
        return super().translate(event, state)


class OursRaisesInTranslate(RaisesInTranslate):
    package = "spanline"


class Exits(Broken):
    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        raise SystemExit(3)


class HangsInTranslate(Broken):
    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        HANGS.wait()
        return ()


class YieldsText(Broken):
    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        yield "text"  # type: ignore[misc]


class RaisesInClose(Broken):
    def close(self) -> None:
        raise RuntimeError("no")


class HangsInClose(Broken):
    def close(self) -> None:
        HANGS.wait()


class RaisesInSetUp(Broken):
    def set_up(self) -> Sink:
        raise SystemExit("no")


class HangsInSetUp(Broken):
    def set_up(self) -> Sink:
        HANGS.wait()
        return self


class LacksLanes(Broken):
    def set_up(self) -> Sink:
        del self.lanes
        return self


@pytest.mark.parametrize(
    "kind",
    [
        RaisesInTranslate,
        OursRaisesInTranslate,
        Exits,
        HangsInTranslate,
        YieldsText,
        RaisesInClose,
        HangsInClose,
        RaisesInSetUp,
        HangsInSetUp,
        LacksLanes,
    ],
)
def test_broken_sink_holds_up_no_other_and_is_named(
    kind: type[Recorded],
    directory: RunDirectory,
    deliver: Callable[..., Deliveries],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(directory, 0, 10)
    sound = Recorded("sound")
    cursors = finish(deliver(kind("broken"), sound, limits=SHORT), 1.0)
    assert sound.delivered == expected(10)
    assert cursors["sound"].complete
    said = caplog.text
    closing = kind in (RaisesInClose, HangsInClose)
    off = kind in (RaisesInSetUp, LacksLanes)
    assert "broken" in said
    assert ("broken" in cursors) != off
    if not off:
        assert Cursor.load(directory.cursor("broken")).complete == closing
    if kind in (RaisesInTranslate, OursRaisesInTranslate):
        assert cursors["broken"].error == "RuntimeError: no"


@pytest.mark.parametrize("package", ["spanline", "another"])
def test_without_any_time_it_gives_up_at_once_and_tells_all_that_is_left(
    directory: RunDirectory, deliver: Callable[..., Deliveries], package: str
) -> None:
    write(directory, 0, 10)
    dead = Recorded("dead", batch=1)
    dead.package = package
    dead.gate.clear()
    told: list[int] = []
    before = time.monotonic()
    cursors = deliver(dead).finish(0.0, lambda cursors: told.append(cursors["dead"].undelivered))
    assert time.monotonic() - before < DeliveryLimits().stop / 2
    assert told == [10]
    assert (cursors["dead"].undelivered, cursors["dead"].complete) == (10, False)
    dead.gate.set()


def test_a_sink_that_stops_delivers_no_more_and_owes_what_was_under_way(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    class Stops(Recorded):
        def translate(self, event: Event, state: RunState) -> Iterable[Message]:
            if isinstance(event, events.Log) and event.message == "7":
                raise RuntimeError("no")
            yield from super().translate(event, state)

        def deliver(self, payloads: Sequence[object]) -> None:
            self.gate.wait(60)
            raise ConnectionError("down")

    write(directory, 0, 10)
    stopped = Stops("stopped", batch=1)
    told: list[events.SinkDelivery] = []
    cursors = deliver(stopped).finish(
        0.5,
        lambda cursors: told.extend(dispatcher.delivery_ended(OpenFile(directory.journal), cursors, RunState()).sinks),
    )
    assert (told[0].undelivered, told[0].error) == (7, "RuntimeError: no")
    assert (cursors["stopped"].complete, cursors["stopped"].offset) == (False, 0)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("spanline-stopped")], "its threads' end")


def test_the_lag_is_from_the_event_that_is_owed(directory: RunDirectory, deliver: Callable[..., Deliveries]) -> None:
    write(directory, 0, 10)
    *before, last = Reader(directory.journal).read()
    state = state_of(record.event for record in (*before, last))

    class OnlyTheLast(Recorded):
        def translate(self, event: Event, state: RunState) -> Iterable[Message]:
            return super().translate(event, state) if event == last.event else ()

    dead = OnlyTheLast("dead")
    dead.gate.clear()
    told: list[events.SinkDelivery] = []
    deliver(dead).finish(
        0.3, lambda cursors: told.extend(dispatcher.delivery_ended(OpenFile(directory.journal), cursors, state).sinks)
    )
    assert told == [events.SinkDelivery("dead", undelivered=1, lag=0.0)]
    assert Cursor.load(directory.cursor("dead")).offset > 0
    dead.gate.set()


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        (None, SinkDelivery("s"), True),
        (SinkDelivery("s", 5, 2.0), SinkDelivery("s", 3, 2.0), True),
        (SinkDelivery("s", 5, 2.0), SinkDelivery("s", 5, 1.0), True),
        (SinkDelivery("s", 0, 2.0, "it was not set up in time"), SinkDelivery("s", 51, 2.0), True),
        (SinkDelivery("s", 5, 2.0), SinkDelivery("s", 5, 2.0, "another error"), False),
        (SinkDelivery("s", 5, 2.0), SinkDelivery("s", 6, 2.0), False),
        (SinkDelivery("s"), SinkDelivery("s", 1), False),
    ],
)
def test_a_replay_tells_what_is_news(before: SinkDelivery | None, now: SinkDelivery, moved: bool) -> None:
    assert dispatcher.is_news(before, now) is moved


def test_who_hangs_over_what_is_told_is_not_closed_and_owes_it(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    release = threading.Event()

    class Hangs(Told):
        package = "another"

        def translate(self, event: Event, state: RunState) -> Iterable[Message]:
            if isinstance(event, events.DeliveryEnded):
                release.wait(60)
            yield from super().translate(event, state)

    write(directory, 0, 10)
    hanging = Hangs("hanging")
    cursors = deliver(hanging, limits=SHORT).finish(0.3, lambda _: append(directory, events.DeliveryEnded(sinks=[])))
    assert hanging.delivered == expected(10)
    assert not hanging.closed
    assert not cursors["hanging"].complete
    assert cursors["hanging"].offset < directory.journal.stat().st_size
    release.set()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_given_up_when_a_replay_sends_all_the_rest(
    directory: RunDirectory, deliver: Callable[..., Deliveries], seed: int
) -> None:
    """A time limit that is over while the reader is anywhere: of what it dropped the cursor doesn't pass anything."""
    random = Random(seed)

    class Slow(Recorded):
        def deliver(self, payloads: Sequence[object]) -> None:
            time.sleep(random.choice((0.0, 0.0, 0.001)))
            super().deliver(payloads)

    write(directory, 0, MANY)
    first = Slow("sink", batch=random.choice((1, 7, 100)), lanes=random.choice((1, 4)))
    cursor = finish(deliver(first), random.choice((0.0, 0.01, 0.03, 0.1)))["sink"]
    acknowledged = Cursor.load(directory.cursor("sink")).delivered
    assert cursor.undelivered == MANY - acknowledged
    again = Recorded("sink")
    assert finish(deliver(again))["sink"].complete
    assert set(first.delivered[:acknowledged] if first.lanes == 1 else first.delivered) | set(again.delivered) == set(
        expected(MANY)
    )


def test_a_rejection_is_told_once_and_by_its_own_reason(
    directory: RunDirectory, deliver: Callable[..., Deliveries], caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(Recorded):
        def deliver(self, payloads: Sequence[object]) -> None:
            if str(payloads[0]).startswith("2 "):
                raise Rejected("not this one")
            if str(payloads[0]).startswith("5 ") and "5" not in self.started:
                self.started.append("5")
                raise ConnectionError("later")
            super().deliver(payloads)

    write(directory, 0, 10)
    finish(deliver(Picky("sink", batch=1)))
    assert "the backend rejected 1 messages (Rejected: not this one)" in caplog.text
    caplog.clear()
    finish(deliver(Picky("sink", batch=1)))
    assert caplog.text == ""


def test_a_backend_that_asks_to_be_left_alone_is_left_alone(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    class Busy(Recorded):
        """Asks for it once, when three others are under way already."""

        def __init__(self) -> None:
            super().__init__("sink", lanes=4, batch=1)
            self.begun: list[float] = []
            self.asked = 0.0

        def deliver(self, payloads: Sequence[object]) -> None:
            self.begun.append(time.monotonic())
            if str(payloads[0]).startswith("3 ") and not self.asked:
                until(lambda: len(self.begun) == 4, "three others")
                self.asked = time.monotonic()
                raise Later("busy", 0.5)
            until(lambda: self.asked > 0, "the question")
            super().deliver(payloads)

    write(directory, 0, 20)
    sink = Busy()
    assert finish(deliver(sink))["sink"].complete
    begun = [moment - sink.asked for moment in sorted(sink.begun)]
    assert max(begun[:4]) <= 0
    assert min(begun[4:]) > 0.49
    assert len(begun) == 21


class FailsAt(Recorded):
    """A sink whose backend fails at whatever has one message in it; and, down, at all."""

    def __init__(self, *arguments: object, bad: str, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.bad = bad
        self.calls = 0
        self.down = threading.Event()

    def deliver(self, payloads: Sequence[object]) -> None:
        self.calls += 1
        if self.down.is_set() or any(str(payload).startswith(f"{self.bad} ") for payload in payloads):
            raise RuntimeError("it fails at this")
        super().deliver(payloads)


@pytest.mark.parametrize("lanes", [1, 4])
def test_of_messages_that_are_delivered_together_only_the_one_that_is_failed_at_is_given_up(
    directory: RunDirectory, deliver: Callable[..., Deliveries], lanes: int
) -> None:
    write(directory, 0, 300)
    cursor = finish(deliver(FailsAt("sink", lanes=lanes, bad="155"), limits=HASTE))["sink"]
    assert (cursor.delivered, cursor.rejected, cursor.undelivered, cursor.complete) == (299, 1, 0, True)
    assert [one.reason for one in cursor.given_up] == ["RuntimeError: it fails at this"]


def test_after_an_outage_messages_are_delivered_together_again(
    directory: RunDirectory, deliver: Callable[..., Deliveries]
) -> None:
    write(directory, 0, 300)
    sink = FailsAt("sink", bad="none")
    sink.down.set()
    running = deliver(sink, limits=HASTE)
    until(lambda: sink.calls > 30, "many tries")
    sink.down.clear()
    calls = sink.calls
    assert finish(running)["sink"].complete
    assert sink.delivered == expected(300)
    assert sink.calls - calls < 20


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "soon"])
def test_no_number_of_seconds_is_no_time_limit(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SPANLINE_FLUSH_TIMEOUT", text)
    assert dispatcher.flush_seconds() == dispatcher.FLUSH_SECONDS


def test_a_time_limit_may_be_as_long_as_one_likes(directory: RunDirectory, deliver: Callable[..., Deliveries]) -> None:
    write(directory, 0, 10)
    sink = Recorded("sink")
    finish(deliver(sink), float("inf"))
    assert sink.delivered == expected(10)
