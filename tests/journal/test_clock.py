"""The clock of a session: what readers make of times where the system's clock was set, or is another host's."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from spanline import events
from spanline.events import Event
from spanline.home.home import RunDirectory
from spanline.journal import ids
from spanline.journal.appender import Appender
from spanline.journal.clock import Clock
from spanline.journal.reader import Reader
from spanline.journal.state import RunState, state_of
from spanline.results.from_state import result_of
from spanline.stats.facts import SESSION, facts_of
from spanline.supervisor.replay import close_abandoned
from spanline.system import process
from tests.support.journals import session_started

SECOND = 10**9
HOUR = 3600 * SECOND
NOON, BOOTED = 500_000 * HOUR, 7 * HOUR
"""When the session begins, by the system's clock and by the monotonic one."""
A = "model.shop.a"
HAPPENED = (
    (0, session_started(ids.new_run_id(), boot_id="this boot")),
    (1, events.AttemptStarted(argv=["build"], pid=1, python="p")),
    (2, events.NodeStarted(unique_id=A, thread="t")),
    (5, events.RunnerDied(signal="SIGKILL")),
    (6, events.SessionEnded(outcome="died", exit_code=2)),
)


def journal(place: Path, happened: Iterable[tuple[tuple[int, int], Event]], session: int = 1) -> RunDirectory:
    directory = RunDirectory(place)
    directory.path.mkdir(exist_ok=True)
    appender = Appender(directory.journal, "test")
    appender.locate(session, 1, 1)
    for stamps, event in happened:
        appender.append(event, stamps)
    appender.close()
    return directory


def state(directory: RunDirectory) -> RunState:
    return state_of(record.event for record in Reader(directory.journal).read())


@pytest.mark.parametrize("ahead", [-HOUR, HOUR], ids=["back", "forward"])
@pytest.mark.parametrize("set_at", range(len(HAPPENED) + 1))
def test_a_session_and_its_nodes_take_as_long_as_they_took(tmp_path: Path, set_at: int, ahead: int) -> None:
    directory = journal(
        tmp_path,
        (
            ((NOON + second * SECOND + (ahead if number >= set_at else 0), BOOTED + second * SECOND), event)
            for number, (second, event) in enumerate(HAPPENED)
        ),
    )
    found = state(directory)
    began = NOON + (ahead if set_at == 0 else 0)
    assert (found.started, found.last) == (began, began + 6 * SECOND)
    node = found.nodes[A]
    assert (node.started, node.finished) == (began + 2 * SECOND, began + 5 * SECOND)
    assert result_of(found, Path(), {}).elapsed == 6
    facts = facts_of([directory.journal.read_bytes()])
    assert [taken for kind, taken in zip(facts.kind, facts.seconds, strict=True) if kind == SESSION] == [6]


def test_a_session_that_resumes_another_has_a_clock_of_its_own(tmp_path: Path) -> None:
    """On a host that was booted later, an hour after, whose clock is two hours behind."""
    first = [((NOON + at * SECOND, BOOTED + at * SECOND), event) for at, event in HAPPENED]
    second = [((NOON - HOUR + at * SECOND, SECOND + at * SECOND), event) for at, event in HAPPENED]
    journal(tmp_path, first)
    found = state(journal(tmp_path, second, session=2))
    assert (found.begun, found.started, found.last) == (NOON, NOON - HOUR, NOON - HOUR + 6 * SECOND)
    assert (found.nodes[A].started, found.nodes[A].finished) == (NOON - HOUR + 2 * SECOND, NOON - HOUR + 5 * SECOND)
    assert result_of(found, Path(), {}).elapsed == 6


@pytest.mark.parametrize("boot_id", [process.boot_id(), "another", ""], ids=["this boot", "another boot", "unknown"])
def test_who_ends_a_session_that_was_left_open_goes_by_its_clock(tmp_path: Path, boot_id: str) -> None:
    """Ten seconds after its start; on its own host, somebody has set the clock forward by an hour meanwhile."""
    passed = 10 * SECOND
    here = boot_id == process.boot_id() != ""
    began = time.time_ns() - passed - (HOUR if here else 0)
    booted = time.monotonic_ns() - passed if here else SECOND
    started = session_started(ids.new_run_id(), boot_id=boot_id)
    directory = journal(tmp_path, [((began, booted), started), ((began + SECOND, booted + SECOND), HAPPENED[1][1])])
    close_abandoned(directory)
    found = state(directory)
    assert found.ended is not None
    assert found.last - found.started == pytest.approx(passed, abs=5 * SECOND)


def test_who_ends_a_session_writes_no_time_before_its_last_event(tmp_path: Path) -> None:
    """Another host's clock is hours behind, or the session's was ahead."""
    began = time.time_ns() + HOUR
    started = session_started(ids.new_run_id(), boot_id="another")
    directory = journal(tmp_path, [((began, BOOTED), started), ((began + SECOND, BOOTED + SECOND), HAPPENED[1][1])])
    close_abandoned(directory)
    found = state(directory)
    assert found.ended is not None
    assert found.now == found.last == began + SECOND


def test_what_is_written_by_other_clocks_has_happened_when_they_say() -> None:
    clock = Clock(session=2, time=NOON, mono=BOOTED, boot_id="this boot")
    later = events.Heartbeat(session=2, time=NOON + HOUR, mono=BOOTED + SECOND)
    assert clock.at(later) == NOON + SECOND
    assert clock.at(events.Heartbeat(session=1, time=NOON + HOUR, mono=BOOTED + SECOND)) == NOON + HOUR
    assert clock.at(events.Heartbeat(session=2, time=NOON + HOUR, mono=BOOTED - 1)) == NOON + HOUR
    assert Clock(session=2, time=NOON).at(later) == NOON + HOUR, "nothing is known of its start"


def test_a_live_session_has_taken_what_its_clock_says() -> None:
    started = time.time_ns() - HOUR
    set_forward = Clock(1, started, time.monotonic_ns() - SECOND, process.boot_id())
    assert set_forward.now() - started == pytest.approx(SECOND, abs=SECOND)
    elsewhere = Clock(1, started, BOOTED, "another")
    assert elsewhere.now() - started == pytest.approx(HOUR, abs=SECOND)
