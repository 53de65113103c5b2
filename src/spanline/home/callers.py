"""Which run was the last of a caller: found without a look at every run.

`callers/` in the home has a file for each caller, named by a digest of who that is, with the id of its last run.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import UsageError
from spanline.home.home import RunDirectory, runs
from spanline.home.spec import RunSpec
from spanline.journal.state import TRIGGER_REASON
from spanline.runner.shared.files import open_file
from spanline.system import files, process

_FOLDER: Final = "callers"

log = logging.getLogger("spanline")


def remember(home: Path, caller: Mapping[str, str], run_id: str) -> None:
    """Keep the run as the last one of this caller, if it has one. A home that can't be written is only reported."""
    if not caller:
        return
    place = _place(home, caller)
    try:
        _prepare(home)
        files.write(place, run_id.encode())
    except OSError as error:
        log.warning("cannot remember who started run %s: %s: %s", run_id, place, error.strerror or error)


def last_run(home: Path, caller: Mapping[str, str]) -> RunDirectory | None:
    """The last run of this caller, unless it has been removed. Raises `OSError` if that can't be read."""
    place = _place(home, caller)
    if not place.parent.exists():
        return _last_runs(home).get(place.name)
    try:
        run_id = files.read(place).decode(errors="replace")
    except FileNotFoundError:
        return None
    run = RunDirectory(home / "runs" / run_id)
    return run if run.spec.exists() else None


@contextmanager
def turn(home: Path, caller: Mapping[str, str]) -> Iterator[None]:
    """Have callers that are the same, and ask at once, take turns: the second finds what the first has begun.

    Raises `UsageError` if the home can't be written, or has no working locks.
    """
    place = _place(home, caller)
    try:
        files.make_folder(home)
        _prepare(home)
        fd = open_file(place.with_name(f".{place.name}.lock"), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UsageError(f"cannot keep a run under {home}: {error.strerror or error}") from error
    process.keep_from_forks(fd)
    try:
        _lock(fd, place.parent)
        yield
    finally:
        process.close(fd)


def _lock(fd: int, folder: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        raise UsageError(f"{folder} is on a file system without working locks ({error.strerror})") from error


def forget_removed(home: Path) -> None:
    """Remove what is kept of callers whose last run is gone. Raises `OSError`."""
    known = {run.run_id for run in runs(home)}
    for place in _kept(home):
        if files.read(place).decode(errors="replace") not in known:
            place.unlink(missing_ok=True)


def _kept(home: Path) -> Iterator[Path]:
    return (place for place in (home / _FOLDER).glob("*") if not place.name.startswith("."))


def _prepare(home: Path) -> None:
    """Make the folder, with the callers of the runs that are older than it. Raises `OSError`."""
    folder = home / _FOLDER
    if folder.exists():
        return
    new = folder.with_name(f".{_FOLDER}.{uuid.uuid4().hex}")
    files.make_folder(new, parents=False)
    for name, run in _last_runs(home).items():
        files.write(new / name, run.run_id.encode())
    try:
        new.rename(folder)
    except OSError:  # somebody was faster
        shutil.rmtree(new, ignore_errors=True)
        if not folder.exists():
            raise


def _place(home: Path, caller: Mapping[str, str]) -> Path:
    return home / _FOLDER / hashlib.sha256(msgspec.json.encode(_who(caller), order="sorted")).hexdigest()


def _who(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller without its reason: who asks again for another one is the same."""
    return {name: value for name, value in caller.items() if name != TRIGGER_REASON}


def _last_runs(home: Path) -> dict[str, RunDirectory]:
    """The last run of each caller, by the name of its file."""
    found = {}
    for run in runs(home):
        try:
            caller = RunSpec.load(run.spec).caller
        except UsageError:
            continue  # somebody else's, or half removed
        if caller:
            found[_place(home, caller).name] = run
    return found
