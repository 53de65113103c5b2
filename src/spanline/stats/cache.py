"""The facts of each journal, cached in one file per journal, so that a journal is read only once.

A file's name identifies the journal and its state, so a file is right or does not exist. `kept` makes its content, here
or when the session ends: JSON, a fiftieth of the journal. DuckDB reads it nearly as fast as Parquet, and writing it
costs a tenth.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final

from spanline.errors import UsageError
from spanline.stats import facts, kept
from spanline.stats.places import Journal, Place
from spanline.system import files

log = logging.getLogger("spanline")

_FEW: Final = 8
"""This number of journals can be read before other processes would have started."""
_THREADS: Final = 8
_UNUSED_SECONDS: Final = 3600.0
"""Another `spanline stats` may be about to read a file that looks outdated to this one."""


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Path]:
    """The cache folder, or a temporary one if the cache can't be written."""
    folder = place.cache / f"v{facts.VERSION}"
    try:
        for each in (place.cache.parent, place.cache, folder):
            files.make_folder(each)
        files.check_owner(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        log.warning("the cache of journals in %s cannot be used: %s", folder, error.strerror or error)
        with short_lived() as instead:
            yield instead
        return
    yield folder


@contextlib.contextmanager
def short_lived() -> Iterator[Path]:
    """A folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="spanline-stats-") as folder:
        yield Path(folder)


def up_to_date(
    place: Place, folder: Path, journals: Sequence[Journal], say: Callable[[str], None]
) -> tuple[list[Path], list[str]]:
    """Read the journals that are not in the cache. Returns the cached files, and the runs that can't be read."""
    new = [journal for journal in journals if not _is_kept(_file(folder, journal))]
    if len(new) > _FEW:
        say(f"reading {len(new)} journals that are new or have grown")
    unreadable = _read_all(place, folder, new)
    missing = set(unreadable)
    return [_file(folder, journal) for journal in journals if journal.run_id not in missing], unreadable


def tidy(folder: Path, journals: Iterable[Journal]) -> None:
    """Remove files whose journal is gone."""
    valid = {_file(folder, journal).name for journal in journals}
    for file in folder.iterdir():
        if file.name not in valid:
            with contextlib.suppress(OSError):  # another process may be doing the same
                if time.time() - file.stat().st_mtime > _UNUSED_SECONDS:
                    file.unlink()


def empty(folder: Path) -> None:
    """Remove everything."""
    for file in folder.glob("*.json"):
        file.unlink(missing_ok=True)


def _file(folder: Path, journal: Journal) -> Path:
    return folder / f"{journal.run_id}.{journal.stamp}.json"


def _is_kept(file: Path) -> bool:
    """If the machine crashed soon after, the file may exist and be empty."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _read_all(place: Place, folder: Path, journals: Sequence[Journal]) -> list[str]:
    """Cache the facts of these journals; return the runs whose journal can't be read."""
    read = functools.partial(_read, place, folder)
    pool = _pool(place) if len(journals) > _FEW else None
    if pool is None:
        return [run_id for run_id in map(read, journals) if run_id is not None]
    try:
        with pool:
            return [run_id for run_id in pool.map(read, journals, chunksize=_FEW) if run_id is not None]
    except BrokenProcessPool:
        left = [journal for journal in journals if not _is_kept(_file(folder, journal))]
        return list(_read_apart(read, left))


def _read_apart(read: Callable[[Journal], str | None], journals: Iterable[Journal]) -> Iterator[str]:
    """Read them one by one in a separate process, so that the journal it died of is known."""
    pool = _processes(1)
    try:
        for journal in journals:
            try:
                unreadable = pool.submit(read, journal).result()
            except BrokenProcessPool:
                log.warning("the process that read %s was killed, perhaps because memory ran out", journal.path)
                unreadable, pool = journal.run_id, _processes(1)
            if unreadable is not None:
                yield unreadable
    finally:
        pool.shutdown()


def _pool(place: Place) -> Executor | None:
    """Use threads for a network; local reading is CPU work, so use one process per core."""
    if place.remote:
        return ThreadPoolExecutor(_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        return None
    return _processes(cores)


def _processes(number: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


def _read(place: Place, folder: Path, journal: Journal) -> str | None:
    """Cache the facts of a journal; return its run's id if it can't be read."""
    try:
        content = place.kept(journal)
        if content is None or not kept.fits(content, journal.run_id, journal.size):
            content = kept.made_of(journal.run_id, place.read(journal))
    except OSError:
        return journal.run_id
    try:
        files.write(_file(folder, journal), content)
    except OSError as error:
        raise UsageError(f"cannot write the cache of statistics to {folder}: {error.strerror}") from error
    return None
