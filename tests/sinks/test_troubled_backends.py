"""Real HTTP backends that are slow, or fail at some events or at all: what they get, how often, and in which order."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from spanline.events import ColumnsResolved, Event
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.journal.appender import Appender
from spanline.sinks.dispatcher import Deliveries
from spanline.sinks.limits import DeliveryLimits
from spanline.system.open_file import OpenFile
from tests.support.journals import undelivered
from tests.support.lineage_events import (
    RUN_ID,
    closed,
    compiled,
    described,
    finished,
    in_order,
    invoked,
    opened,
    resolved,
    resolver_started,
    started,
)
from tests.support.receivers import answer, serving
from tests.support.waiting import eventually

HASTE = DeliveryLimits(pauses=(0.01, 0.02, 0.05))
"""So that what fails is tried again soon."""
A_MINUTE = 60.0


@dataclass
class Request:
    """One event that was received: `START a`, where `a` is a node, or `session`."""

    name: str
    at: float
    under_way: int
    """How many requests were, this one included."""
    answered: float = 0.0
    status: int = 0


@dataclass
class Backend:
    """A real HTTP server. `behaves` is what it does about an event, and the status to answer with."""

    url: str = ""
    behaves: Callable[[str], int] = lambda _name: 201
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0

    def begin(self, event: dict) -> Request:
        with self.lock:
            self.under_way += 1
            request = Request(_name(event), time.monotonic(), self.under_way)
            self.requests.append(request)
        return request

    def end(self, request: Request, status: int) -> None:
        with self.lock:
            self.under_way -= 1
            request.answered, request.status = time.monotonic(), status

    @property
    def received(self) -> list[str]:
        return [request.name for request in self.requests]

    @property
    def accepted(self) -> list[str]:
        """In the order in which they were answered."""
        answered = sorted((r for r in self.requests if 200 <= r.status < 300), key=lambda r: r.answered)
        return [request.name for request in answered]


def _name(event: dict) -> str:
    job = event["job"]["name"]
    if "run" not in event:
        return job
    return f"{event['eventType']} {'session' if job.startswith('dbt-run-') else job.split('.')[3]}"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    found = Backend()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = found.begin(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status = found.behaves(request.name)
            found.end(request, status)
            answer(self, status)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # it didn't wait for the answer
                self.close_connection = True

    with serving(Handler) as found.url:
        monkeypatch.setenv("OPENLINEAGE_URL", found.url)
        yield found


def node(name: str, *reads: str, language: str = "python") -> list[Event]:
    """A model that is built. One in SQL waits for its columns, where these are looked for."""
    unique_id = f"model.shop.{name}"
    upstream = [f"model.shop.{read}" for read in reads]
    return [described(unique_id, depends_on=upstream, language=language), started(unique_id), finished(unique_id)]


def run(place: Path, *happened: list[Event]) -> RunDirectory:
    return undelivered(place, RUN_ID, in_order(opened(), invoked(), *happened, closed()))


def append(directory: RunDirectory, happened: list[Event]) -> None:
    appender = Appender(directory.journal, "test")
    for event in happened:
        appender.append(event)
    appender.close()


def deliver(directory: RunDirectory, timeout: float = A_MINUTE, limits: DeliveryLimits = HASTE) -> Cursor:
    return Deliveries(directory, OpenFile(directory.journal), limits=limits).finish(timeout, lambda _: None)[
        "openlineage"
    ]


def both(*names: str) -> list[str]:
    return [f"{kind} {name}" for name in names for kind in ("START", "COMPLETE")]


# --- order by dataset ---------------------------------------------------------------------------------------------


def test_what_reads_a_dataset_waits_for_its_writer_and_what_does_not_goes_on(tmp_path: Path, backend: Backend) -> None:
    others = [f"other{number}" for number in range(20)]
    release = threading.Event()

    def behaves(name: str) -> int:
        if name == "COMPLETE parent":
            release.wait(A_MINUTE)
        return 201

    backend.behaves = behaves
    directory = run(tmp_path, node("parent"), node("child", "parent"), *map(node, others))
    delivering = threading.Thread(target=deliver, args=(directory,))
    delivering.start()
    eventually(lambda: set(both(*others)) <= set(backend.accepted), "all that doesn't read it")
    assert not {"START child", "COMPLETE child"} & set(backend.received)
    release.set()
    delivering.join()
    assert backend.accepted[-4:] == ["COMPLETE parent", "START child", "COMPLETE child", "COMPLETE session"]
    assert sorted(backend.received) == sorted(both("session", "parent", "child", *others)), "each once"


def test_a_writer_whose_end_waits_for_its_columns_is_waited_for(tmp_path: Path, backend: Backend) -> None:
    """While dbt goes on with what reads it: its end is made of a record that comes behind all of theirs.

    Its START waits for its columns as well, but no longer than until something that reads it begins.
    """
    parent = "model.shop.parent"
    happened = in_order(
        opened(), invoked(), [resolver_started(), described(parent), started(parent)],
        [compiled(parent, "select 1 as id"), finished(parent)],
        node("child", "parent"), node("other"), [resolved(parent, "id")], closed(),
    )  # fmt: skip
    end = next(place for place, event in enumerate(happened) if event == finished(parent, time=event.time))
    columns = next(place for place, event in enumerate(happened) if isinstance(event, ColumnsResolved))
    directory = undelivered(tmp_path, RUN_ID, happened[: end + 1])
    deliveries = Deliveries(directory, OpenFile(directory.journal), limits=HASTE)
    eventually(lambda: backend.accepted == ["START session"], "the session's START")
    append(directory, happened[end + 1 : columns])
    eventually(lambda: "COMPLETE other" in backend.accepted, "all that doesn't read it")
    assert "START child" not in backend.received
    append(directory, happened[columns:])
    assert deliveries.finish(A_MINUTE, lambda _: None)["openlineage"].complete
    last = ["COMPLETE parent", *both("child"), "COMPLETE session"]
    assert backend.accepted[-4:] == last
    assert sorted(backend.accepted[:-4]) == sorted(["START session", "START parent", *both("other")])


def test_a_writer_that_is_rejected_is_waited_for_no_longer(tmp_path: Path, backend: Backend) -> None:
    backend.behaves = lambda name: 400 if name.endswith(" parent") else 201
    cursor = deliver(run(tmp_path, node("parent"), node("child", "parent")))
    assert (cursor.rejected, cursor.complete) == (2, True)
    assert backend.accepted == ["START session", *both("child"), "COMPLETE session"]


@pytest.mark.parametrize("room", [1, 3, 10])
def test_with_little_room_in_memory_everything_arrives_all_the_same(
    tmp_path: Path, backend: Backend, room: int
) -> None:
    """Of a writer's end that would come only behind what waits for it, there is none to wait for."""
    parent = "model.shop.parent"
    children = [f"child{number}" for number in range(10)]
    directory = run(
        tmp_path,
        [resolver_started(), described(parent), started(parent), compiled(parent, "select 1 as id"), finished(parent)],
        *(node(child, "parent") for child in children),
        [resolved(parent, "id")],
    )
    assert deliver(directory, limits=DeliveryLimits(messages=room)).complete
    assert sorted(backend.received) == sorted(both("session", "parent", *children))


# --- slow ones ----------------------------------------------------------------------------------------------------


def test_one_cpu_is_kept_busy_and_gets_nothing_twice(tmp_path: Path, backend: Backend) -> None:
    seconds, names = 0.04, [f"node{number}" for number in range(30)]
    processor = threading.Lock()

    def behaves(_name: str) -> int:
        with processor:
            time.sleep(seconds)  # of its one CPU
        return 201

    backend.behaves = behaves
    assert deliver(run(tmp_path, *map(node, names))).complete
    assert sorted(backend.received) == sorted(both("session", *names))
    worked = len(backend.requests) * seconds
    took = max(request.answered for request in backend.requests) - backend.requests[0].at
    assert worked / took > 0.85, "here in one process with what sends; `tests.benchmarks` has a process for each"


def test_a_time_out_sends_nothing_again_at_once_and_fewer_at_once(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = 0.4
    for name, value in {"TYPE": "http", "URL": backend.url, "TIMEOUT": str(timeout)}.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    names = [f"node{number}" for number in range(40)]
    tries: Counter[str] = Counter()
    release = threading.Event()

    def behaves(name: str) -> int:
        tries[name] += 1
        if name == "COMPLETE node20" and tries[name] == 1:
            release.wait(A_MINUTE)
        return 201

    backend.behaves = behaves
    directory = run(tmp_path, *map(node, names))
    delivering = threading.Thread(target=deliver, args=(directory,))
    delivering.start()
    eventually(lambda: tries["COMPLETE node20"] == 2, "a second try")
    release.set()
    delivering.join()
    first, second = (request for request in backend.requests if request.name == "COMPLETE node20")
    assert second.at - first.at > 1.9 * timeout, "it had as long again for it"
    assert set(backend.received) == set(both("session", *names))
    assert len(backend.received) == len(both("session", *names)) + 1


@pytest.mark.slow
def test_without_a_time_out_configured_an_answer_may_take_as_long_as_those_of_a_loaded_marquez(
    tmp_path: Path, backend: Backend
) -> None:
    """Of those one in a hundred took 13.7 s, and openlineage-python waits for 5."""
    backend.behaves = lambda name: (name == "COMPLETE a" and time.sleep(5.3)) or 201
    assert deliver(run(tmp_path, node("a"))).complete
    assert backend.received == both_around("a")


def both_around(*names: str) -> list[str]:
    return ["START session", *both(*names), "COMPLETE session"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_backend_is_no_reason_to_give_up_an_event(tmp_path: Path, backend: Backend, status: int) -> None:
    tries: Counter[str] = Counter()

    def behaves(name: str) -> int:
        tries[name] += 1
        return status if name == "COMPLETE a" and tries[name] < 3 * HASTE.tries else 201

    backend.behaves = behaves
    cursor = deliver(run(tmp_path, node("a"), *(node(f"other{number}") for number in range(20))))
    assert (cursor.rejected, cursor.complete) == (0, True)


# --- events that it fails at --------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
ALL = both("session", *NAMES)


@pytest.mark.parametrize(
    "failing",
    [
        ["START b"], ["COMPLETE b"], ["COMPLETE d"], both("b"), both("d"), both("c", "d"),
        [*both("a", "b", "c"), "START d"], ["START session"], ["COMPLETE session"],
    ],
    ids=" and ".join,
)  # fmt: skip
def test_an_event_that_it_fails_at_is_given_up_named_and_kept(
    tmp_path: Path, backend: Backend, caplog: pytest.LogCaptureFixture, failing: list[str]
) -> None:
    backend.behaves = lambda name: 500 if name in failing else 201
    directory = run(tmp_path, node("a"), node("b", "a"), node("c", "b"), node("d", "b"))
    cursor = deliver(directory)
    assert (cursor.rejected, cursor.undelivered, cursor.complete) == (len(failing), 0, True)
    assert set(backend.accepted) == set(ALL) - set(failing)
    assert failing == ["COMPLETE session"] or backend.accepted[-1] == "COMPLETE session", "barriers end"
    assert _in_order(backend.accepted), "what was sent once more, to see whether it takes it, was the last of its run"
    given_up = Cursor.load(directory.cursor("openlineage")).given_up
    assert sorted(_shortened(one.name) for one in given_up) == sorted(failing)
    assert all(", run " in one.name and "500 Server Error" in one.reason for one in given_up)
    for name in failing:
        kind, job = name.split()
        assert f"{kind} of {'dbt-run-shop' if job == 'session' else f'shop.main.shop.{job}.build.run'}" in caplog.text

    backend.requests.clear()
    cursor = deliver(directory)
    assert (cursor.rejected, cursor.undelivered, cursor.complete) == (len(failing), 0, True)
    assert Counter(r.name for r in backend.requests if r.status == 500) == Counter(failing), "one try each"
    assert _in_order(backend.accepted)

    backend.behaves = lambda _name: 201
    backend.requests.clear()
    cursor = deliver(directory)
    assert (cursor.rejected, cursor.undelivered, cursor.complete, cursor.given_up) == (0, 0, True, [])
    again = {name for name in ALL if name in failing or name.replace("COMPLETE", "START") in failing}
    assert sorted(backend.accepted) == sorted(again), "behind a START its end comes again, which must be the last word"

    backend.requests.clear()
    deliver(directory)
    assert backend.requests == []


def _in_order(accepted: list[str]) -> bool:
    """Whether no START comes behind the end of its run."""
    ends = [place for place, name in enumerate(accepted) if name.startswith("COMPLETE")]
    return all(accepted[place].replace("COMPLETE", "START") not in accepted[place:] for place in ends)


def _shortened(name: str) -> str:
    kind, _, job = name.partition(", run ")[0].partition(" of ")
    return f"{kind} {'session' if job == 'dbt-run-shop' else job.split('.')[3]}"


def test_what_an_outage_at_the_end_leaves_is_owed_and_nothing_of_it_given_up(tmp_path: Path, backend: Backend) -> None:
    backend.behaves = lambda _name: 201 if len(backend.accepted) < 4 else 500
    directory = run(tmp_path, node("a"), node("b", "a"), node("c"))
    cursor = deliver(directory, 1.5)
    assert len(backend.requests) > 4 + 4 * HASTE.tries
    assert (cursor.delivered, cursor.rejected, cursor.undelivered, cursor.complete) == (4, 0, 4, False)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_outage_is_nobodys_fault_and_order_is_kept_when_it_ends(
    tmp_path: Path, backend: Backend, after: int
) -> None:
    """All is failed at, far more often than an event that is given up; then nothing is."""
    directory = run(tmp_path, node("a"), node("b", "a"), node("c", "b"), *(node(f"n{number}") for number in range(9)))
    is_over = threading.Event()

    def behaves(_name: str) -> int:
        return 201 if is_over.is_set() or len(backend.accepted) < after else 500

    backend.behaves = behaves
    cursors: list[Cursor] = []
    delivering = threading.Thread(target=lambda: cursors.append(deliver(directory)))
    delivering.start()
    eventually(lambda: len(backend.requests) > 50, "many tries")
    is_over.set()
    delivering.join()
    assert (cursors[0].rejected, cursors[0].complete) == (0, True)
    assert len(set(backend.accepted)) == 2 * 13
    assert _in_order(backend.accepted)
    places = {name: place for place, name in enumerate(backend.accepted)}
    for before, behind in [("a", "b"), ("b", "c")]:
        assert places[f"START {before}"] < places[f"COMPLETE {before}"] < places[f"START {behind}"]
    assert (backend.accepted[0], backend.accepted[-1]) == ("START session", "COMPLETE session")


def test_a_replay_sends_and_tells_what_is_really_owed(tmp_path: Path, backend: Backend) -> None:
    """Two hang, and with them what waits for them; what was acknowledged behind them isn't sent again."""
    others = [f"other{number}" for number in range(10)]
    held = ["COMPLETE a", "COMPLETE b"]
    release = threading.Event()

    def behaves(name: str) -> int:
        if name in held:
            release.wait(A_MINUTE)
        return 201

    backend.behaves = behaves
    directory = run(tmp_path, node("a"), node("b"), *map(node, others))
    cursor = deliver(directory, 1.5)
    owed = [*held, "COMPLETE session"]
    assert (cursor.undelivered, cursor.delivered, cursor.complete) == (len(owed), 2 * 13 - len(owed), False)
    release.set()
    eventually(lambda: backend.under_way == 0, "the answers that nobody waited for")
    backend.requests.clear()
    cursor = deliver(directory)
    assert (cursor.undelivered, cursor.complete) == (0, True)
    assert sorted(backend.received) == sorted(owed)


def test_what_is_owed_is_sent_also_where_other_messages_are_no_longer_made(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the record that ends a session an exposure is told as well, unless that was turned off meanwhile."""
    exposure = described("exposure.shop.board", depends_on=["model.shop.a"])
    backend.behaves = lambda name: 503 if name == "COMPLETE session" else 201
    directory = run(tmp_path, node("a"), [exposure])
    assert deliver(directory, 1.0).undelivered == 1
    assert backend.accepted == ["START session", *both("a"), "exposure.shop.board"]
    monkeypatch.setenv("SPANLINE_LINEAGE_EXPOSURES", "off")
    backend.behaves = lambda _name: 201
    backend.requests.clear()
    assert deliver(directory).complete
    assert backend.received == ["COMPLETE session"]


def test_another_version_of_spanline_sends_more_than_it_must_and_not_less(tmp_path: Path, backend: Backend) -> None:
    """It may make other messages of the same records, so that positions of messages mean nothing to it."""
    release = threading.Event()

    def behaves(name: str) -> int:
        if name == "COMPLETE a":
            release.wait(A_MINUTE)
        return 201

    backend.behaves = behaves
    directory = run(tmp_path, node("a"), *(node(f"other{number}") for number in range(10)))
    deliver(directory, 1.0)
    release.set()
    file = directory.cursor("openlineage")
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": "0.0.1"}))
    backend.requests.clear()
    assert deliver(directory).complete
    assert len(backend.received) == len(set(backend.received)) == 2 * 12 - 2
