"""Upload: have a run's artifacts stored by a process of its own, within the time, and tell of it in the journal."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from spanline.artifacts.process import Order
from spanline.errors import UsageError
from spanline.events import ArtifactsUploaded
from spanline.home import lease
from spanline.home.home import RunDirectory, check_ours
from spanline.home.spec import RunSpec
from spanline.home.storage import Storage
from spanline.journal.appender import PatientAppender
from spanline.journal.reader import Reader
from spanline.journal.state import state_of
from spanline.runner.shared import settings
from spanline.runner.shared.secrets import secrets_of_mapping
from spanline.stats import keep_facts
from spanline.supervisor.attempt import TICK
from spanline.supervisor.replay import close_abandoned
from spanline.system import process

_MODULE: Final = "spanline.artifacts.process"
STAGING_SECONDS: Final = 300.0
"""Seconds that cutting and compressing may take before the time for the upload begins."""

log = logging.getLogger("spanline")


def upload(
    directory: RunDirectory,
    storage: Storage,
    options: Mapping[str, object],
    environ: Mapping[str, str],
    stop: Callable[[], bool] = lambda: False,
    staging: float = STAGING_SECONDS,
) -> ArtifactsUploaded:
    """Store a run's artifacts, and return the event that tells of it. `stop`, asked now and then, gives it up.

    `environ` is what dbt had. `staging` limits cutting and compressing, in seconds, as `storage` limits the rest.
    Whatever goes wrong is the event's error, and staged as far as it was.
    """
    try:
        return _by_a_process(directory, storage, options, environ, stop, staging)
    except Exception as error:  # noqa: BLE001 - an observer never changes the outcome of a run
        return ArtifactsUploaded(url=storage.url, error=f"{type(error).__name__}: {error}")


def upload_again(
    directory: RunDirectory,
    storage: Storage | None = None,
    options: Mapping[str, object] | None = None,
    staging: float = STAGING_SECONDS,
) -> ArtifactsUploaded:
    """Store the artifacts of a run that has ended: where `storage` says, else where the run was to.

    Raises `RunBusy` while the run goes on, and `UsageError` where nothing says where, or the run is somebody else's.
    """
    check_ours(directory)
    held = lease.acquire(directory.lease)
    try:
        close_abandoned(directory)
        spec = RunSpec.load(directory.spec)
        asked = storage or spec.artifacts
        if asked is None:
            raise UsageError(
                "no place to store artifacts is configured: pass `artifacts`, or set SPANLINE_ARTIFACTS_URL"
            )
        told = upload(directory, asked, options or {}, {**os.environ, **spec.environment}, staging=staging)
        _tell(directory, spec, told, options or {})
        return told
    finally:
        held.release()


def _tell(directory: RunDirectory, spec: RunSpec, told: ArtifactsUploaded, options: Mapping[str, object]) -> None:
    state = state_of(record.event for record in Reader(directory.journal).read())
    appender = PatientAppender(directory.journal, "upload")
    appender.redactor.add([*spec.secrets(os.environ), *secrets_of_mapping(options)])
    appender.locate(state.session_number, 0, 0)
    appender.append(told)
    appender.settle()
    appender.close()
    keep_facts(directory)


def _by_a_process(
    directory: RunDirectory,
    storage: Storage,
    options: Mapping[str, object],
    environ: Mapping[str, str],
    stop: Callable[[], bool],
    staging: float,
) -> ArtifactsUploaded:
    order = Order(directory=str(directory.path), storage=storage, options=dict(options))
    given, give = process.private_pipe()
    result, result_end = os.pipe()
    try:
        try:
            started = process.spawn_detached(
                _MODULE,
                [str(result_end)],
                directory.upload_log,
                environment={**environ, settings.ARTIFACTS_STORAGE_OPTIONS: ""},
                pass_fds=(result_end,),
                stdin=given,
            )
        finally:
            os.close(given)
            os.close(result_end)
        with suppress(BrokenPipeError):
            _write_all(give, msgspec.json.encode(order) + b"\n")
        why = _wait(started, storage.timeout + staging, stop)
        said = b"" if why else _read_all(result)
    finally:
        process.close(give)
        os.close(result)
    if said:
        return msgspec.json.decode(said, type=ArtifactsUploaded)
    reason = why or f"its process ended with {started.returncode}: {process.last_line(directory.upload_log)}"
    return ArtifactsUploaded(url=storage.url, error=reason)


def _wait(started: subprocess.Popen[bytes], seconds: float, stop: Callable[[], bool]) -> str:
    """Wait for its end, and say why it was ended before, if it was."""
    deadline = time.monotonic() + seconds
    while started.poll() is None:
        over = time.monotonic() > deadline
        if over or stop():
            started.kill()
            started.wait()
            return f"it took longer than {seconds:g} s" if over else "it was cancelled"
        with suppress(subprocess.TimeoutExpired):
            started.wait(TICK)
    return ""


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read_all(fd: int) -> bytes:
    pieces = []
    while piece := os.read(fd, 65536):
        pieces.append(piece)
    return b"".join(pieces)
