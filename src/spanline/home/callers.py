"""Which run was the last of a caller: found without a look at every run.

`callers/` in the home has a file for each caller, named by a digest of who that is, with the id of its last run.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import UsageError
from spanline.home.home import RunDirectory, runs
from spanline.home.spec import RunSpec
from spanline.journal.state import TRIGGER_REASON
from spanline.system import files

_FOLDER: Final = "callers"

log = logging.getLogger("spanline")


def remember(home: Path, caller: Mapping[str, str], run_id: str) -> None:
    """Keep the run as the last one of this caller, if it has one. A home that can't be written is only reported."""
    if not caller:
        return
    place = _place(home, caller)
    try:
        files.make_folder(place.parent, parents=False)
        files.write(place, run_id.encode())
    except OSError as error:
        log.warning("cannot remember who started run %s: %s: %s", run_id, place, error.strerror or error)


def last_run(home: Path, caller: Mapping[str, str]) -> RunDirectory | None:
    """The last run of this caller, unless it has been removed. Raises `OSError` if that can't be read."""
    try:
        run_id = files.read(_place(home, caller)).decode(errors="replace")
    except FileNotFoundError:
        return None if (home / _FOLDER).exists() else _among_all(home, caller)
    return next((run for run in [RunDirectory(home / "runs" / run_id)] if run.spec.exists()), None)


def forget_removed(home: Path) -> None:
    """Remove what is kept of callers whose last run is gone. Raises `OSError`."""
    known = {run.run_id for run in runs(home)}
    for place in _kept(home):
        if files.read(place).decode(errors="replace") not in known:
            place.unlink(missing_ok=True)


def _kept(home: Path) -> Iterator[Path]:
    return (place for place in (home / _FOLDER).glob("*") if not place.name.startswith("."))


def _place(home: Path, caller: Mapping[str, str]) -> Path:
    return home / _FOLDER / hashlib.sha256(msgspec.json.encode(_who(caller), order="sorted")).hexdigest()


def _who(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller without its reason: who asks again for another one is the same."""
    return {name: value for name, value in caller.items() if name != TRIGGER_REASON}


def _among_all(home: Path, caller: Mapping[str, str]) -> RunDirectory | None:
    """In a home whose runs are older than the folder."""
    for run in reversed(runs(home)):
        try:
            if _who(RunSpec.load(run.spec).caller) == _who(caller):
                return run
        except UsageError:
            continue  # somebody else's, or half removed
    return None
