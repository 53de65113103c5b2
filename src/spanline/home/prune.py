"""Prune: limit a home's runs by age, number and size, but keep runs that are live or have undelivered messages."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import RunBusy
from spanline.home import callers, lease
from spanline.home.cursor import undelivered
from spanline.home.home import EARLY_CANCEL, RunDirectory
from spanline.system import files

_REMOVED: Final = ".removed-"
_HALF_MADE_SECONDS: Final = 86_400.0

log = logging.getLogger("spanline")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What to keep: runs younger than `age` seconds, at most `number` runs and `size` bytes. None means no limit."""

    age: float | None = None
    number: int | None = None
    size: int | None = None


def beyond(runs: Iterable[RunDirectory], bounds: Bounds, now: float | None = None) -> list[RunDirectory]:
    """The runs beyond one of the limits, oldest first."""
    moment = time.time() if now is None else now
    total = 0
    found = []
    for kept, run in enumerate(sorted(runs, key=lambda run: run.run_id, reverse=True), 1):
        total += run.size()
        if (
            (bounds.number is not None and kept > bounds.number)
            or (bounds.age is not None and moment - started(run) > bounds.age)
            or (bounds.size is not None and total > bounds.size)
        ):
            found.append(run)
    return found[::-1]


def started(run: RunDirectory) -> float:
    """When a run began, in seconds since the epoch, according to its id."""
    return (uuid.UUID(run.run_id).int >> 80) / 1000


def prune(run: RunDirectory, *, undelivered_too: bool, dry_run: bool) -> str | None:
    """Remove a run, or leave it with `dry_run`. Return the reason if it stays."""
    try:
        if dry_run:
            return "it is live" if lease.is_held(run.lease) else _reason_to_keep(run, undelivered_too=undelivered_too)
        return _remove(run, undelivered_too=undelivered_too)
    except RunBusy:
        return "it is live"
    except OSError as error:
        return f"it can't be removed: {error.strerror or error}"


def _reason_to_keep(run: RunDirectory, *, undelivered_too: bool) -> str | None:
    """Why this run, which is not live, must stay, if there is a reason. Raises `OSError` if it can't be removed."""
    if os.geteuid() != files.ROOT:
        files.check_owner(run.path, or_root=False)
    owed = undelivered(run)
    if owed and not undelivered_too:
        return f"not everything was delivered to {', '.join(sorted(owed))}"
    if run.upload.exists() and not undelivered_too:
        return "its artifacts were not stored"
    return None


def _remove(run: RunDirectory, *, undelivered_too: bool) -> str | None:
    """Remove a run, first from sight and then from the disk, unless there is a reason to keep it.

    Nobody can resume it between the decision and its removal. Raises `RunBusy`, or `OSError` if it was left unchanged.
    """
    held = lease.acquire(run.lease)
    try:
        reason = _reason_to_keep(run, undelivered_too=undelivered_too)
        if reason is not None:
            return reason
        gone = run.path.with_name(f"{_REMOVED}{run.run_id}")
        run.path.rename(gone)
        try:
            shutil.rmtree(gone)
        except OSError as error:  # it counts as removed, and the next `sweep` removes the rest
            log.warning("%s: some of it is left in %s: %s", run.run_id, gone, error.strerror or error)
        return None
    finally:
        held.release()


def sweep(home: Path, now: float | None = None) -> None:
    """Remove what killed processes left half removed, or half made at least a day ago, and callers without runs."""
    before = (time.time() if now is None else now) - _HALF_MADE_SECONDS
    for left in (home / "runs").glob(".*"):
        if left.name.startswith(_REMOVED) or (left.is_dir() and left.stat().st_mtime < before):
            shutil.rmtree(left, ignore_errors=True)
        elif left.suffix == EARLY_CANCEL and left.stat().st_mtime < before:
            left.unlink(missing_ok=True)
    callers.forget_removed(home)
