"""The home: room on its disk, and the health of the runs in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from spanline.doctor.finding import OK, PROBLEM, Finding
from spanline.home import home, lease
from spanline.home.cursor import undelivered
from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader
from spanline.journal.state import RunState

_ROOM: Final = 1 << 30
"""Bytes. A run of 1,000 models keeps some 10 MB, its artifacts included."""
_FILES: Final = 10_000
_LATEST: Final = 20
"""Runs whose journals are read."""
_NAMED: Final = 3


class _Health(msgspec.Struct, frozen=True):
    """What is wrong with one run. `owed` counts messages."""

    run_id: str
    torn: int = 0
    is_abandoned: bool = False
    owed: int = 0
    unreadable: str = ""


def kept_runs(place: Path) -> Iterator[Finding]:
    """Room, then one finding for each kind of trouble that runs can be in."""
    yield _room(place)
    found = home.runs(place)
    latest = [_health(run) for run in found[-_LATEST:]]
    yield Finding(OK, "runs", f"{len(found)} in {place}; the journals of the latest {len(latest)} were read")
    yield from _trouble("unreadable journals", latest, [one for one in latest if one.unreadable], "act as their owner")
    yield from _trouble(
        "torn lines",
        latest,
        [one for one in latest if one.torn],
        "a kill or a full disk cut a record; the rest of the journal holds, and `spanline show` says what is missing",
    )
    abandoned = [one for one in latest if one.is_abandoned]
    yield from _trouble("runs that were cut off", latest, abandoned, "`spanline retry RUN` resumes one")
    owing = [one for one in latest if one.owed]
    yield from _trouble("undelivered events", latest, owing, "`spanline replay RUN` sends them")


def _room(place: Path) -> Finding:
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    disk = os.statvfs(there)
    room, files = disk.f_bavail * disk.f_frsize, disk.f_favail
    message = f"{room / 1e9:.1f} GB free for {place}"
    advice = "free some, or set SPANLINE_HOME to another place (`spanline prune` removes old runs)"
    if not os.access(there, os.W_OK):
        return Finding(PROBLEM, "disk", f"{there} is not writable", "set SPANLINE_HOME to a place that is")
    if room < _ROOM:
        return Finding(PROBLEM, "disk", f"only {message}", advice)
    if disk.f_files and files < _FILES:
        return Finding(PROBLEM, "disk", f"room for only {files} more files in {place}", advice)
    return Finding(OK, "disk", message)


def _health(run: RunDirectory) -> _Health:
    reader, state = Reader(run.journal), RunState()
    try:
        live = lease.is_held(run.lease)
        for record in reader.read():
            state.apply(record.event)
    except OSError as error:
        return _Health(run.run_id, unreadable=error.strerror or str(error))
    # An interrupted write of a live run is a line that is not finished yet.
    is_abandoned = not live and state.ended is None
    return _Health(run.run_id, reader.torn, is_abandoned, 0 if live else sum(undelivered(run).values()))


def _trouble(topic: str, all_of_them: Sequence[_Health], found: Iterable[_Health], advice: str) -> Iterator[Finding]:
    ids = [one.run_id for one in found][::-1]
    if not ids:
        if all_of_them:
            yield Finding(OK, topic, "none")
        return
    others = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    yield Finding(PROBLEM, topic, f"run {', '.join(ids[:_NAMED])}{others}", advice)
