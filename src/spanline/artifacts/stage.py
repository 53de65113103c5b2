"""Stage a run's artifacts: redact them, compress them, and keep them in its directory until they have been stored.

Secrets are known only while the run's environment exists. So they are cut then, and a later upload by another process
sends the same bytes.
"""

from __future__ import annotations

import hashlib
import mmap
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import msgspec

from spanline.artifacts import collect
from spanline.artifacts.compress import SUFFIXES, compressed
from spanline.artifacts.known import values_of
from spanline.artifacts.redact import Cutter, total
from spanline.dbt.arguments import command_of
from spanline.errors import UsageError
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.home.storage import Codec, Redaction, Storage
from spanline.journal import reader
from spanline.journal.state import DIED, RunState, state_of

CONTENTS: Final = "_SUCCESS"
"""The name of the file that is written last. It means that the upload is complete, whatever the run's outcome."""
VERSION: Final = 1


class StoredFile(msgspec.Struct, frozen=True):
    """One file: its key below the upload's, bytes of its content and of what is stored, and the content's checksum."""

    key: str
    size: int
    stored: int
    sha256: str


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload consists of, as `_SUCCESS` says it: the files by their names, and the session that they are of.

    `outcome` is the session's, `ended` its end in ISO 8601; `cut` counts what was cut, by file and rule, and `left_out`
    says why a file is missing.
    """

    version: int = VERSION
    run_id: str
    session: int
    outcome: str
    ended: str
    dag: str
    task: str
    run: str
    project: str
    command: str
    dbt_version: str | None
    compression: str
    redaction: dict[str, object]
    files: dict[str, StoredFile]
    cut: dict[str, dict[str, int]]
    left_out: dict[str, str]

    @property
    def cut_in_all(self) -> dict[str, int]:
        """How much was cut, by rule."""
        return total(self.cut)

    def still_fits(self, state: RunState, storage: Storage) -> bool:
        """Whether this is of the run's last session, and as it is asked for."""
        return (self.session, self.compression, self.redaction) == (
            state.session_number,
            storage.compression,
            _plain(storage.redaction),
        )


def staged(directory: RunDirectory, storage: Storage) -> Contents | None:
    """What is staged already, if it is of the last session and as it is asked for."""
    try:
        contents = msgspec.json.decode((directory.upload / CONTENTS).read_bytes(), type=Contents)
    except (OSError, msgspec.MsgspecError):
        return None
    return contents if contents.still_fits(_state_of(directory), storage) else None


def stage(directory: RunDirectory, storage: Storage, environ: Mapping[str, str]) -> Contents:
    """Stage the artifacts of a run, the last of each kind, its journal and dbt's log of it.

    `environ` is what dbt had: by it is known what is secret. Raises `OSError`, and `UsageError` where a value that must
    be cut isn't known.
    """
    spec = msgspec.structs.replace(RunSpec.load(directory.spec), artifacts=storage)
    missing = [name for name in spec.secret_names if name not in environ]
    if missing:
        raise UsageError(
            f"to store this run's artifacts, set {', '.join(missing)}: Spanline must know the secrets to cut them"
        )
    state = _state_of(directory)
    artifacts = _last_of_each(directory)
    cutter = Cutter(storage.redaction, values_of(spec, state, environ, artifacts), state.adapter or "")
    new = directory.upload.with_name("upload.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    files: dict[str, StoredFile] = {}
    left_out: dict[str, str] = {}
    for name, pieces in _sources(directory, state, artifacts, cutter):
        reason = cutter.refuses(name)
        try:
            stored = compress(new, name, storage.compression, pieces()) if reason is None else None
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, FileNotFoundError) as error:
            reason = str(error)
        if reason is not None:
            left_out[name] = reason
            (new / f"{name}{SUFFIXES[storage.compression]}").unlink(missing_ok=True)
        elif stored is not None and stored.size:
            files[name] = stored
    contents = _contents(spec, state, storage, files, cutter, left_out)
    (new / CONTENTS).write_bytes(msgspec.json.format(msgspec.json.encode(contents), indent=1) + b"\n")
    shutil.rmtree(directory.upload, ignore_errors=True)
    new.rename(directory.upload)
    return contents


def _state_of(directory: RunDirectory) -> RunState:
    return state_of(record.event for record in reader.Reader(directory.journal).read())


def _last_of_each(directory: RunDirectory) -> list[Path]:
    """The artifacts that the run's invocations have left, by name the last."""
    found: dict[str, Path] = {}
    for folder in directory.kept_artifacts():
        found.update((file.name, file) for file in folder.glob("*.json"))
    return [found[name] for name in sorted(found)]


def _sources(
    directory: RunDirectory, state: RunState, artifacts: Iterable[Path], cutter: Cutter
) -> Iterator[tuple[str, Callable[[], Iterable[bytes]]]]:
    """Every file by its name, and what makes its content, in pieces."""
    for path in artifacts:
        yield path.name, lambda path=path: cutter.artifact(path.name, mapped(path))  # type: ignore[misc]
    name = reader.FILE_NAME
    yield name, lambda: cutter.journal(name, _lines(directory.journal))
    folder = state.config.log_path if state.config is not None else None
    if folder is not None:
        ids = {attempt.invocation_id for attempt in state.attempts if attempt.invocation_id}
        yield collect.LOG_NAME, lambda: cutter.log(collect.LOG_NAME, collect.log_lines(Path(folder), ids))


def mapped(path: Path) -> memoryview:
    """The content of a copy that is ours, which nobody truncates; let go when nobody refers to it."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def compress(folder: Path, name: str, codec: Codec, pieces: Iterable[bytes]) -> StoredFile:
    """Write the pieces into a compressed file in the folder, and return what is to be said of it."""
    path = folder / f"{name}{SUFFIXES[codec]}"
    digest, size = hashlib.sha256(), 0
    with compressed(path, codec) as write:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            write(piece)
    return StoredFile(path.name, size, path.stat().st_size, digest.hexdigest())


def _contents(
    spec: RunSpec,
    state: RunState,
    storage: Storage,
    files: dict[str, StoredFile],
    cutter: Cutter,
    left_out: dict[str, str],
) -> Contents:
    caller = spec.caller
    command = "_".join(command_of(spec.steps[-1]).split()) or "dbt"
    project = state.project or Path(spec.project_dir).name
    ended = datetime.fromtimestamp((state.last or time.time_ns()) / 1e9, timezone.utc)
    return Contents(
        run_id=spec.run_id,
        session=state.session_number,
        outcome=state.ended.outcome if state.ended is not None else DIED,
        ended=ended.isoformat(),
        dag=caller.get("dag_id") or project,
        task=_task(caller) or command,
        run=caller.get("run_id") or spec.run_id,
        project=project,
        command=command,
        dbt_version=state.dbt.dbt_version if state.dbt is not None else None,
        compression=storage.compression,
        redaction=_plain(storage.redaction),
        files=files,
        cut={
            name: {k: n for k, n in counts.items() if n}
            for name, counts in cutter.report.items()
            if any(counts.values())
        },
        left_out=left_out,
    )


def _plain(redaction: Redaction) -> dict[str, object]:
    """As JSON has it: a later version may know other rules, and what is stored must still be found."""
    return msgspec.json.decode(msgspec.json.encode(redaction), type=dict[str, object])


def _task(caller: Mapping[str, str]) -> str | None:
    """Airflow's task; of one that is mapped each is one: `load.map_index=3`, as Airflow names its log."""
    task, index = caller.get("task_id"), caller.get("map_index", "-1")
    return f"{task}.map_index={index}" if task and index not in ("", "-1") else task
