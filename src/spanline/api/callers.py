"""Runs by who asked for them: find a caller's last one, and go on with it or start another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from spanline.api.run import LEASE_LOOKS, Run
from spanline.api.start import find_home, is_ending, retry, start
from spanline.dbt.arguments import steps_of
from spanline.dbt.interpreter import find_interpreter, find_program
from spanline.errors import RunBusy
from spanline.home import callers
from spanline.home.spec import RunSpec
from spanline.home.variables import kept_environment, variables_of
from spanline.runner.shared import settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spanline.home.limits import LimitArguments
    from spanline.home.storage import Storage
    from spanline.profiles import Profile
    from spanline.system.stdio import Stdio

_OF_A_TRY: Final = (*settings.BACKEND_PREFIXES, *settings.TRACE_CONTEXT)
"""Beginnings of variables that say what a session is told to, and part of: they do not make it another run."""


def find(
    *,
    caller: Mapping[str, str],
    home_dir: str | Path | None = None,
    project_dir: str | Path | None = None,
) -> Run | None:
    """The last run that was started with this `caller`, or None. Other runs of the home are not looked at."""
    found = callers.last_run(find_home(home_dir, project_dir), caller)
    return Run(found) if found is not None else None


def start_or_resume(
    steps: Sequence[str] | Sequence[Sequence[str]],
    *,
    caller: Mapping[str, str],
    resume: bool = True,
    project_dir: str | Path | None = None,
    python: str | Path | None = None,
    dbt: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    profile: Profile | None = None,
    home_dir: str | Path | None = None,
    run_id: str | None = None,
    artifacts: str | Storage | None = None,
    storage_options: Mapping[str, object] | None = None,
    detached: bool = False,
    stdio: Stdio | None = None,
    foreground: bool = False,
    **limits: Unpack[LimitArguments],
) -> Run:
    """Follow, resume or start a run: what a scheduler's task does at each of its tries.

    | the caller's last run | what happens |
    |---|---|
    | is under way, and was asked for the same | it is followed |
    | is ending: it is being cancelled, or its supervisor is gone | it is waited for, then resumed |
    | failed, was cancelled, or died | it is resumed: what succeeded is not run again |
    | succeeded, or was asked for something else | a new run |

    "The same" compares steps, project, dbt, connection and variables, except the variables of lineage and traces, which
    differ in each session. With `resume=False`, it is always a new run. Equal callers that ask at once take turns. For
    the other arguments see `start`.
    Raises `RunBusy` while the last run does something else, and what `start` and `retry` raise.
    """
    place = find_home(home_dir, project_dir)
    with callers.turn(place, caller):
        last = find(caller=caller, home_dir=place)
        if last is not None:
            interpreter = find_interpreter(python)
            asked = _Asked(
                steps=steps_of(steps),
                cwd=str(Path(project_dir).expanduser().resolve() if project_dir else Path.cwd()),
                python=interpreter,
                program=find_program(interpreter, dbt),
                conn_id=profile.conn_id if profile is not None else None,
                variables=_lasting(*kept_environment(variables_of(environment))),
            )
            if resume and asked == _Asked.of(RunSpec.load(last.directory.spec)) and (last.live or not last.is_complete):
                return retry(
                    last.id,
                    environment=environment,
                    home_dir=place,
                    caller=caller,
                    profile=profile,
                    artifacts=artifacts,
                    storage_options=storage_options,
                    detached=detached,
                    stdio=stdio,
                    foreground=foreground,
                    **limits,
                )
            _wait_for_end(last)
        return start(
            steps,
            project_dir=project_dir,
            python=python,
            dbt=dbt,
            environment=environment,
            profile=profile,
            home_dir=place,
            run_id=run_id,
            caller=caller,
            artifacts=artifacts,
            storage_options=storage_options,
            detached=detached,
            stdio=stdio,
            foreground=foreground,
            **limits,
        )


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two requests of a caller the same."""

    steps: list[list[str]]
    cwd: str
    python: str
    program: str | None
    conn_id: str | None
    variables: dict[str, str]

    @classmethod
    def of(cls, spec: RunSpec) -> _Asked:
        return cls(
            steps=spec.steps,
            cwd=spec.cwd,
            python=spec.python,
            program=spec.program,
            conn_id=spec.conn_id,
            variables=_lasting(spec.environment, spec.secret_names),
        )


def _lasting(kept: Mapping[str, str], secret_names: Sequence[str]) -> dict[str, str]:
    """The variables that make it another run: those of backends and traces don't. Of secret ones only the names do."""
    everything = {**kept, **dict.fromkeys(secret_names, "")}
    return {name: value for name, value in everything.items() if not name.startswith(_OF_A_TRY)}


def _wait_for_end(last: Run) -> None:
    """Wait until a run that is ending has ended: two dbt on the same tables are the worst that can happen."""
    while last.live:
        if not is_ending(last):
            raise RunBusy(
                f"run {last.id} of the same caller is under way, and was asked for something else: "
                f"wait for it, or cancel it (`spanline cancel {last.id}`)"
            )
        time.sleep(LEASE_LOOKS)
