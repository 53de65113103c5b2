"""Journals made for a test, and what a run's journal holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spanline import events
from spanline.api.run import Run
from spanline.events import Event
from spanline.home.home import RunDirectory
from spanline.journal.appender import Appender
from spanline.journal.reader import Reader


def session_started(run_id: str, **more: object) -> events.SessionStarted:
    """How the journal of a run begins that nobody has run."""
    return events.SessionStarted(
        run_id=run_id,
        lineage_run_id=run_id,
        trace_id="0" * 31 + "1",
        spanline_version="0",
        steps=[["build"]],
        project_dir="/p/shop",
        host="h",
        pid=1,
        **more,  # type: ignore[arg-type]
    )


def undelivered(place: Path, run_id: str, happened: Iterable[Event]) -> RunDirectory:
    """A run's directory whose journal says that this has happened, and of which nothing has been delivered."""
    directory = RunDirectory(place / "home" / "runs" / run_id)
    (directory.path / "cursors").mkdir(parents=True)
    appender = Appender(directory.journal, "test")
    appender.locate(1, 1, 1)
    for event in happened:
        appender.append(event)
    appender.close()
    return directory


def journal(run: Run) -> list[Event]:
    """Everything that the run's journal holds; no line of it torn."""
    reader = Reader(run.directory.journal)
    found = [record.event for record in reader.read()]
    assert reader.torn == 0
    return found
