"""A callback for those who call dbt's runner themselves: `dbtRunner(callbacks=[spanline.callback()])`.

The callback journals in the caller's process, as the runner does in its own; beside it a supervisor is started that
only reads and delivers. dbt's CommandCompleted ends the session, and so does the end of the caller's process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spanline import events
from spanline.dbt.project import find_project
from spanline.home import home
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.home.storage import storage_of
from spanline.home.variables import kept_environment
from spanline.journal import ids
from spanline.journal.appender import Appender
from spanline.runner.recorder import Recorder
from spanline.runner.shared.writer import Writer, warn
from spanline.supervisor import trace_context
from spanline.supervisor.lineage_parent import lineage_parent
from spanline.supervisor.session import open_session
from spanline.system import process
from spanline.system.open_file import OpenFile
from spanline.system.stdio import open_descriptors

_FIRST = "MainReportVersion"
_LAST = "CommandCompleted"


def callback(*, home_dir: str | Path | None = None) -> Callable[[object], None]:
    """Return a callback for `dbtRunner(callbacks=[…])`. Each invocation of the runner becomes a separate run.

    Runs are kept in `home_dir` (default: `SPANLINE_HOME`, or `.spanline` in the project).
    The callback never raises into dbt: if a run cannot be kept, one warning on standard error says why.
    """
    return _Callback(Path(home_dir) if home_dir else None)


class _Callback:
    def __init__(self, home_dir: Path | None) -> None:
        self._home_dir = home_dir
        self._observed: _Observed | None = None

    def __call__(self, event: Any) -> None:  # noqa: ANN401 - dbt's protobuf message
        name = event.info.name
        if name == _FIRST:
            self._observed = self._begin()
        if self._observed is None:
            return
        self._observed.recorder(event)
        if name == _LAST:
            self._observed.end()
            self._observed = None

    def _begin(self) -> _Observed | None:
        try:
            return _Observed(self._home_dir)
        except Exception as error:  # noqa: BLE001 - an observer never changes the outcome of a run
            warn(f"this invocation of dbt is not observed: {error}")
            return None


class _Observed:
    """One invocation of dbt in this process, and the supervisor beside it."""

    def __init__(self, home_dir: Path | None) -> None:
        open_descriptors()
        args = _arguments()
        project = find_project(args, Path.cwd(), os.environ)
        kept, secret_names = kept_environment({})
        spec = RunSpec(
            run_id=ids.new_run_id(),
            steps=[args],
            cwd=str(Path.cwd()),
            project_dir=str(project or Path.cwd()),
            python=sys.executable,
            environment=kept,
            secret_names=secret_names,
            artifacts=storage_of(os.environ),
        )
        directory, held = home.create_run(home.home_for(project, os.environ, home_dir), spec.run_id, spec.encode())
        secrets = list(spec.secrets(os.environ))
        _announce(directory, spec, secrets)
        writer = Writer(str(directory.journal), "runner-1-1-1")
        writer.redactor.add(secrets)
        writer.locate(1, 1, 1)
        self.recorder = Recorder(writer, None, args)
        self._directory = directory
        self._journal = OpenFile(directory.journal, writer.fd)
        self._writer = writer
        lifeline, self._alive = process.private_pipe()
        self._supervisor = process.spawn_detached(
            "spanline.supervisor.detached",
            ["--observe", str(directory.path), str(held.fd)],
            directory.supervisor_log,
            pass_fds=(held.fd,),
            stdin=lifeline,
        )
        os.close(lifeline)
        held.release()  # the supervisor holds it now

    def end(self) -> None:
        self._writer.append("dbt_exited", {"exit_code": self.recorder.exit_code})
        self._writer.close()
        process.close(self._alive)
        if self._journal.is_gone:
            warn(self._directory.loss)


def _announce(directory: RunDirectory, spec: RunSpec, secrets: Sequence[str]) -> None:
    appender = Appender(directory.journal, f"caller-{os.getpid()}")
    appender.redactor.add(secrets)
    open_session(appender, spec, 1, trace_context.current(os.environ), above=lineage_parent(os.environ), detached=True)
    appender.locate(1, 1, 0)
    appender.append(events.StepStarted(argv=spec.steps[0]))
    appender.locate(1, 1, 1)
    appender.append(events.AttemptStarted(argv=spec.steps[0], pid=os.getpid(), python=sys.executable))
    appender.close()


def _arguments() -> list[str]:
    """What dbt was called with: dbt keeps it in its click context."""
    import click  # noqa: PLC0415

    context = click.get_current_context(silent=True)
    found = (context.obj or {}).get("dbt_runner_command_args") if context is not None else None
    return [str(arg) for arg in found] if found else list(sys.argv[1:])
