"""Where journals are: in a home on this machine, or at any URL that fsspec can read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit

import msgspec

from spanline.artifacts.store import modified
from spanline.errors import UsageError
from spanline.home import home as homes
from spanline.home import lease
from spanline.home.home import RunDirectory
from spanline.journal import reader as journals
from spanline.runner.shared import settings
from spanline.stats import kept
from spanline.system import files

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SILENT_SECONDS: Final = 300.0
"""If a run's lease can't be checked, it is over when its journal has not grown for this long (a heartbeat is 30 s)."""
_REMOTE_PIECE: Final = 8 << 20
_LARGEST_FACTS: Final = 1 << 25
"""Bytes: a fiftieth of what the journal has."""
_STAMPS: Final = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")


class Journal(msgspec.Struct, frozen=True):
    """A run's journal. `stamp` is another when its content is; `modified` is in seconds since the epoch."""

    run_id: str
    path: str
    size: int
    stamp: str
    modified: float


class Place(Protocol):
    """A home that can be read. It can be pickled where `remote` is false."""

    remote: bool

    @property
    def name(self) -> str:
        """What people know it by; holds no credentials."""

    @property
    def cache(self) -> Path:
        """Where what is taken from its journals is kept."""

    def journals(self) -> list[Journal]:
        """Every run's journal. Raises `UsageError` where the place can't be read."""

    def read(self, journal: Journal) -> Iterator[bytes]:
        """Its content, in pieces. Raises `OSError`."""

    def kept(self, journal: Journal) -> bytes | None:
        """The facts saved next to it by the run's supervisor, if any; they may be of an earlier state."""

    def is_live(self, journal: Journal) -> bool:
        """Whether the run is live, as far as can be known."""

    def artifact_sizes(self, run_ids: Iterable[str]) -> Mapping[str, int]:
        """Bytes that the artifacts of each run take."""


def place(home: str | None, find_local: Callable[[str | None], Path]) -> Place:
    """The place at the URL in `--home` or `SPANLINE_HOME`, or the local home that `find_local` finds.

    Raises `UsageError` if the named home does not exist: a home without runs would pass for healthy.
    """
    named = home or os.environ.get(settings.HOME) or ""
    if "://" in named:
        return Remote(named)
    found = find_local(home)
    if named and not found.is_dir():
        raise UsageError(f"there is no home {found}: set `home_dir` or {settings.HOME} to the directory of the runs")
    return Local(found)


class Local:
    """A home on this machine."""

    remote = False

    def __init__(self, home: Path) -> None:
        self._home = home

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._home)

    @property
    def cache(self) -> Path:
        """Beside the runs, so that it goes when they go."""
        return self._home / "cache" / "stats"

    def journals(self) -> list[Journal]:
        """A run that has no journal yet has none here either."""
        return [journal for run in homes.runs(self._home) for journal in _local(run)]

    def read(self, journal: Journal) -> Iterator[bytes]:
        """Read the file."""
        return kept.pieces(Path(journal.path))

    def kept(self, journal: Journal) -> bytes | None:
        """Read the file beside it."""
        try:
            return files.read(self._run(journal.run_id).facts, _LARGEST_FACTS)
        except OSError:
            return None

    def is_live(self, journal: Journal) -> bool:
        """Whether somebody holds the run's lease."""
        try:
            return lease.is_held(self._run(journal.run_id).lease)
        except (UsageError, OSError):
            return _grows(journal)

    def artifact_sizes(self, run_ids: Iterable[str]) -> Mapping[str, int]:
        """Ask the file system; a run may have been pruned meanwhile."""
        return {run_id: _size(self._run(run_id).path / "artifacts") for run_id in run_ids}

    def _run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self._home / "runs" / run_id)


def _local(run: RunDirectory) -> Iterator[Journal]:
    try:
        found = run.journal.stat()
    except OSError:
        return
    yield Journal(run.run_id, str(run.journal), found.st_size, f"{found.st_size}-{found.st_mtime_ns}", found.st_mtime)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - of thousands of files
            except OSError:
                continue
    return total


class Remote:
    """A home at a URL. Credentials and endpoints are what fsspec's implementation for it reads from its environment."""

    remote = True

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._files, self._root, self._deepest = _file_system(self._url)
        self._sizes: dict[str, int] = {}
        self._kept: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The URL without credentials, and without the query that may hold some."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def cache(self) -> Path:
        """On this machine: the place itself is only read."""
        base = Path(os.environ.get(settings.XDG_CACHE_HOME) or Path.home() / ".cache")
        return base / "spanline" / f"stats-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}"

    def journals(self) -> list[Journal]:
        """One listing tells it all: sizes of artifacts too, and what is kept beside the journals."""
        runs = f"{self._root}/runs/"
        found = []
        self._sizes, self._kept = {}, {}
        listed = self._listed(runs)
        if not listed and not self._exists():
            raise UsageError(f"there is no home at {self.name}, or it cannot be reached: name a home that has runs")
        for path, info in listed.items():
            run_id, _, inner = path.partition(runs)[2].partition("/")
            if inner == journals.FILE_NAME and _is_run_id(run_id):
                known = self._info(path) if info.get("size") is None else info
                found.append(Journal(run_id, path, _bytes(known), _stamp(known), _modified(known)))
            elif inner == homes.FACTS_NAME:
                self._kept[run_id] = path
            elif inner.startswith("artifacts/"):
                self._sizes[run_id] = self._sizes.get(run_id, 0) + _bytes(info)
        return sorted(found, key=lambda journal: journal.run_id)

    def _listed(self, folder: str) -> Mapping[str, Mapping[str, object]]:
        with self._errors():
            self._files.invalidate_cache()
            try:
                found = self._files.find(folder, maxdepth=self._deepest, detail=True)
                return cast("Mapping[str, Mapping[str, object]]", found)
            except FileNotFoundError:
                return {}

    def _exists(self) -> bool:
        with self._errors():
            return bool(self._files.exists(self._root))

    def _info(self, path: str) -> Mapping[str, object]:
        """What a listing has not said: that of a web server has names only."""
        with self._errors():
            return cast("Mapping[str, object]", self._files.info(path))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Have an error be said in our words: every implementation has its own, for credentials, names and networks."""
        try:
            yield
        except Exception as error:
            said = _first_line(error)
            query = urlsplit(self._url).query
            raise UsageError(f"cannot read {self.name}: {said.replace(query, '…') if query else said}") from error

    def read(self, journal: Journal) -> Iterator[bytes]:
        """Request ranges: whole journals in several threads could exceed the memory."""
        for start in range(0, journal.size, _REMOTE_PIECE):
            end = min(start + _REMOTE_PIECE, journal.size)
            piece = self._range(journal.path, start, end)
            yield piece
            if len(piece) < end - start:
                return  # it is shorter than was said

    def kept(self, journal: Journal) -> bytes | None:
        """Ask for it, where the listing has it: it is a fiftieth of the journal."""
        path = self._kept.get(journal.run_id)
        try:
            return self._range(path, None, None) if path is not None else None
        except OSError:
            return None

    def _range(self, path: str, start: int | None, end: int | None) -> bytes:
        try:
            content = bytes(self._files.cat_file(path, start=start, end=end))
        except Exception as error:
            raise OSError(_first_line(error)) from error
        if start is None or end is None or len(content) <= end - start:
            return content
        if start:
            raise OSError(f"{self.name} sends whole files when asked for parts")
        return content[:end]

    def is_live(self, journal: Journal) -> bool:
        """A lock on another machine can't be checked."""
        return _grows(journal)

    def artifact_sizes(self, run_ids: Iterable[str]) -> Mapping[str, int]:
        """As the last listing has said."""
        return {run_id: self._sizes.get(run_id, 0) for run_id in run_ids}


def _is_run_id(name: str) -> bool:
    """Whether it is a run's folder, and not one that is being made or removed."""
    try:
        homes.check_run_id(name)
    except UsageError:
        return False
    return True


def _file_system(url: str) -> tuple[AbstractFileSystem, str, int | None]:
    """What reads such URLs, the path in there, and how deep its listings may lead; None where it has one for all."""
    scheme = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - a home on this machine needs none of it
    except ImportError as error:
        raise UsageError(f"to read {scheme}://… install fsspec: pip install 'spanline[stats]'") from error
    options: dict[str, object] = {}
    deepest = None
    try:
        if scheme in ("http", "https"):
            from spanline.stats import web  # noqa: PLC0415 - needs aiohttp

            options, deepest = web.options(), web.DEEPEST
        files, root = url_to_fs(url, **options)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"cannot read {scheme}://…: {_first_line(error)}") from error
    return files, str(root).rstrip("/"), deepest


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _grows(journal: Journal) -> bool:
    return time.time() - journal.modified < _SILENT_SECONDS


def _modified(info: Mapping[str, object]) -> float:
    """When the file was last written; the present where the listing doesn't say."""
    return modified(info) or time.time()


def _bytes(info: Mapping[str, object]) -> int:
    size = info.get("size")
    return size if isinstance(size, int) else 0


def _stamp(info: Mapping[str, object]) -> str:
    said = repr([info.get("size"), *(info.get(key) for key in _STAMPS)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
