"""A supervisor in a process of its own, which outlives whoever started it: see `process.spawn_detached`."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spanline.home import lease
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.supervisor.cancel import CancelOrder
from spanline.supervisor.handover import take
from spanline.supervisor.session import Supervisor
from spanline.system import files
from spanline.system.stdio import Stdio
from spanline.system.terminal import log_to_errors

if TYPE_CHECKING:
    from spanline.profiles import Profile


def main(arguments: Sequence[str]) -> int:
    """Supervise the run in this directory, detached from whoever started us.

    `DIRECTORY LEASE_FD` runs its steps, `--resume DIRECTORY LEASE_FD` those that are left; what the session is given
    comes by standard input (see `handover`). `--observe DIRECTORY LEASE_FD` only delivers what another process journals
    there; standard input ends when that process does.
    """
    log_to_errors()
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    *how, path, lease_fd = arguments
    profile = None if how == ["--observe"] else take(0)
    directory = RunDirectory(Path(path))
    spec = RunSpec.load(directory.spec)
    held = lease.Lease(int(lease_fd))
    if how == ["--observe"]:
        return Supervisor(directory, spec, held, detached=True).observe(0)
    return _run(directory, spec, held, profile, resumes=how == ["--resume"])


def _run(directory: RunDirectory, spec: RunSpec, held: lease.Lease, profile: Profile | None, *, resumes: bool) -> int:
    with (
        open(os.devnull, "rb") as nothing,
        files.open_to_append(directory.stdout) as out,
        files.open_to_append(directory.stderr) as err,
    ):
        stdio = Stdio(nothing.fileno(), out.fileno(), err.fileno())
        supervisor = Supervisor(directory, spec, held, stdio=stdio, profile=profile, detached=True, resumes=resumes)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda number, _: supervisor.cancel(CancelOrder(by=signal.Signals(number).name)))
        return supervisor.run()
