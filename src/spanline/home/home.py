"""Where runs are kept: the home, its run directories, and how a run is found again.

The home is `SPANLINE_HOME`, or `.spanline` in the dbt project, or `~/.spanline`. New files belong to their owner alone.
An existing home keeps its mode, but must belong to this user or to root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from spanline.dbt.project import PROJECT_FILE
from spanline.errors import RunNotFound, UsageError
from spanline.home import lease
from spanline.journal import reader
from spanline.runner.shared import settings
from spanline.system import files

LATEST: Final = "latest"
FACTS_NAME: Final = "facts.json"
EARLY_CANCEL: Final = ".cancel"
"""Suffix of a cancel that was ordered before the run's directory existed."""
_RUN_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class RunDirectory(msgspec.Struct, frozen=True):
    """The directory of one run, and the names of its files."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id, which is the directory's name."""
        return self.path.name

    @property
    def home(self) -> Path:
        """The home that it is in."""
        return self.path.parent.parent

    @property
    def spec(self) -> Path:
        """What was requested (0600: it holds the run's `--vars`)."""
        return self.path / "spec.json"

    @property
    def journal(self) -> Path:
        """What happened."""
        return self.path / reader.FILE_NAME

    @property
    def facts(self) -> Path:
        """The facts that statistics need from the journal, at the end of the last session."""
        return self.path / FACTS_NAME

    @property
    def lease(self) -> Path:
        """The supervisor's lock."""
        return self.path / "lease"

    @property
    def cancel(self) -> Path:
        """Exists if somebody asked for a cancel."""
        return self.path / "cancel"

    @property
    def early_cancel(self) -> Path:
        """Exists if somebody asked for a cancel before the directory existed, which then adopts it."""
        return self.path.with_name(f".{self.run_id}{EARLY_CANCEL}")

    @property
    def faults(self) -> Path:
        """What Python's faulthandler writes when the runner crashes."""
        return self.path / "faults.log"

    @property
    def stdout(self) -> Path:
        """Dbt's standard output, if it is not the caller's."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """Dbt's standard error, if it is not the caller's."""
        return self.path / "stderr.log"

    @property
    def supervisor_log(self) -> Path:
        """The log of a detached supervisor."""
        return self.path / "supervisor.log"

    @property
    def columns_log(self) -> Path:
        """The log of the column resolver."""
        return self.path / "columns.log"

    @property
    def columns_cache(self) -> Path:
        """The cache of known columns, for all runs of this home."""
        return self.home / "cache" / "columns.sqlite"

    def cursor(self, sink: str) -> Path:
        """How far a sink has delivered the journal."""
        return self.path / "cursors" / f"{sink}.json"

    def cursors(self) -> Iterator[Path]:
        """The cursors of all sinks that this run has had."""
        return (self.path / "cursors").glob("*.json")

    def artifacts(self, session: int, step: int, attempt: int) -> Path:
        """The artifacts of one invocation."""
        return self.path / "artifacts" / f"{session}-{step}-{attempt}"

    def kept_artifacts(self) -> list[Path]:
        """The directories of artifacts that there are, in the order of their invocations."""
        found = (path for path in (self.path / "artifacts").glob("*-*-*") if path.is_dir())
        return sorted(found, key=lambda path: [int(number) for number in path.name.split("-")])

    def last_artifact(self, name: str) -> Path | None:
        """One of dbt's artifacts, of the last invocation of which it was kept."""
        return next((path / name for path in reversed(self.kept_artifacts()) if (path / name).is_file()), None)

    def last_artifacts(self) -> dict[str, Path]:
        """All of them, by name, as far as they can be read."""
        found: dict[str, Path] = {}
        with contextlib.suppress(OSError):
            for folder in self.kept_artifacts():
                found |= {path.name: path for path in folder.iterdir() if path.is_file()}
        return found

    @property
    def loss(self) -> str:
        """A message that says what a missing journal means, and where it was."""
        places = (*reversed(self.path.parents), self.path, self.journal)
        gone = next((place for place in places if not os.path.lexists(place)), self.journal)
        return f"{gone} is gone: dbt's outcome stands, but run {self.run_id} can't be shown, resumed or replayed"

    @property
    def upload(self) -> Path:
        """Artifacts of a session that still have to be stored elsewhere, already redacted and compressed."""
        return self.path / "upload"

    @property
    def upload_log(self) -> Path:
        """The log of the process that stores artifacts."""
        return self.path / "upload.log"

    def size(self) -> int:
        """The size of this run's files in bytes."""
        return sum(map(_size, self.path.rglob("*")))


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0  # it was there a moment ago: a live run saves its cursors
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def home_for(project: Path | None, environ: Mapping[str, str], home: Path | None = None) -> Path:
    """The home for runs of this project: `home`, if given."""
    if home is not None:
        return home.expanduser().absolute()
    if environ.get(settings.HOME):
        return Path(environ[settings.HOME]).expanduser().absolute()
    if project is not None and (project / PROJECT_FILE).exists():
        return project / ".spanline"
    return Path.home() / ".spanline"


def check_run_id(run_id: str) -> None:
    """Raise `UsageError` unless this is a UUIDv7: it becomes a directory's name, and ids are derived from it."""
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(f"a run id must be a UUIDv7 in lower case, not {run_id!r}")


def create_run(home: Path, run_id: str, spec: bytes) -> tuple[RunDirectory, lease.Lease]:
    """Create a run's directory atomically, with its lease held from the moment that others can see it.

    Raises `UsageError` if the home can't be written or belongs to somebody else, or if the id is not a UUIDv7 or is
    taken.
    """
    check_run_id(run_id)
    directory = RunDirectory(home / "runs" / run_id)
    new = directory.path.with_name(f".{run_id}.{uuid.uuid4().hex}")
    try:
        for folder in (home, home / "runs"):
            files.make_folder(folder)
            files.check_owner(folder)
        ignore = home / ".gitignore"
        if not os.path.lexists(ignore):
            files.write(ignore, b"*\n", 0o644)
        for folder in (new, new / "cursors"):
            files.make_folder(folder)
        files.write(new / "spec.json", spec)
        held = lease.acquire(new / "lease")
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise _cannot_keep(home, error) from error
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    try:
        new.rename(directory.path)
    except OSError as error:
        held.release()
        shutil.rmtree(new, ignore_errors=True)
        if directory.path.exists():
            raise UsageError(f"run {run_id} already exists; leave out `run_id` to start another") from error
        raise _cannot_keep(home, error) from error
    with contextlib.suppress(FileNotFoundError):
        directory.early_cancel.replace(directory.cancel)
    return directory, held


def _cannot_keep(home: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot keep a run under {home}: {error.strerror or error}; set `home_dir` or {settings.HOME} to another place"
    )


def runs(home: Path) -> list[RunDirectory]:
    """All runs of this home, oldest first."""
    try:
        with os.scandir(home / "runs") as entries:
            names = sorted(entry.name for entry in entries if _RUN_ID.fullmatch(entry.name) and _is_folder(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [RunDirectory(home / "runs" / name) for name in names]


def _is_real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory itself: a link might lead to anybody's."""
    return entry.is_dir(follow_symlinks=False)


def check_ours(run: RunDirectory) -> None:
    """Raise `UsageError` if a run belongs to somebody else, or could: its spec would run as this user.

    Its directory, and the directories above it, must belong to this user or to root.
    """
    runs_folder = run.path.parent
    try:
        if run.path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link, and links are not followed", str(run.path))
        for folder in (run.path, runs_folder, runs_folder.parent):
            files.check_owner(folder)
    except OSError as error:
        raise UsageError(
            f"run {run.run_id} is not yours: {error.filename}: {error.strerror}; act as the user who started it"
        ) from error


def find_run(home: Path, reference: str) -> RunDirectory:
    """The run named by an id, a unique prefix of one, or `latest`. Raises `RunNotFound`."""
    named = RunDirectory(home / "runs" / reference)
    if _RUN_ID.fullmatch(reference) and _is_real_folder(named.path):
        return named
    known = runs(home)
    if reference == LATEST:
        if not known:
            raise RunNotFound(f"{home} has no runs yet")
        return known[-1]
    found = [run for run in known if reference and run.run_id.startswith(reference)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RunNotFound(f"{len(found)} runs start with {reference!r}: give more of the id")
    raise RunNotFound(f"no run {reference!r} under {home}; `spanline runs` lists them")
