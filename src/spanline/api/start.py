"""Run: start a run, follow it, wait for it, cancel it; the Python API that the command line uses as well."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from spanline.api.run import LEASE_LOOKS, Run, supervised
from spanline.dbt.arguments import steps_of
from spanline.dbt.interpreter import check as check_dbt
from spanline.dbt.interpreter import find_interpreter, find_program
from spanline.dbt.project import find_project
from spanline.errors import RunBusy, SpanlineError, UsageError
from spanline.events import ArtifactsUploaded
from spanline.failures import matching
from spanline.home import callers, home, lease
from spanline.home.home import RunDirectory
from spanline.home.limits import LimitArguments, Limits
from spanline.home.spec import RunSpec
from spanline.home.storage import Storage, storage_of, storage_options_of
from spanline.home.variables import kept_environment, variables_of
from spanline.journal import ids
from spanline.results.result import RunResult
from spanline.runner.shared import settings
from spanline.supervisor import trace_context
from spanline.supervisor.cancel import forget_order, order_version
from spanline.supervisor.handover import offer
from spanline.supervisor.profile import name_for
from spanline.supervisor.replay import close_abandoned
from spanline.supervisor.session import Supervisor
from spanline.system import process
from spanline.system.stdio import Stdio, open_descriptors

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spanline.profiles import Profile

_START_SECONDS: Final = 30.0

log = logging.getLogger("spanline")


def start(
    steps: Sequence[str] | Sequence[Sequence[str]],
    *,
    project_dir: str | Path | None = None,
    python: str | Path | None = None,
    dbt: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    profile: Profile | None = None,
    home_dir: str | Path | None = None,
    run_id: str | None = None,
    caller: Mapping[str, str] | None = None,
    artifacts: str | Storage | None = None,
    storage_options: Mapping[str, object] | None = None,
    detached: bool = False,
    stdio: Stdio | None = None,
    foreground: bool = False,
    **limits: Unpack[LimitArguments],
) -> Run:
    """Start a run and return at once.

    `steps` is one dbt command's arguments, `["build", "--select", "marts"]`, or several such lists, run in order.
    dbt runs in `project_dir` (default: the current directory) with the interpreter `python` (default: this one).
    `dbt` names a dbt v2 program instead (default: the one beside an interpreter without dbt Core, if there is one).
    dbt has the caller's environment and the variables in `environment`, which may name the parent in lineage and in a
    trace. Variables that may hold a credential are not stored. With a `profile`, made from a connection by
    `spanline.profiles`, dbt reads that one; nothing secret in it is stored. `caller` says who asks, so that the run can
    be found again.

    `limits` are the fields of `spanline.Limits`: `retry_limit`, `retry_delay`, `retry_within`, `retry_partial`,
    `timeout`, `node_timeout`, `grace`. A step is retried if all its failures are transient; nodes that succeeded are
    not run again.

    When dbt has ended, the artifacts are stored at the URL `artifacts` (default: `SPANLINE_ARTIFACTS_URL`), or as a
    `Storage` describes. `storage_options` are fsspec's, for credentials that are not in the environment.
    `detached` gives the run its own supervisor, which outlives this process. `stdio` redirects dbt's streams, and
    `foreground` keeps dbt in this process group, so that it can read from the terminal.

    If a run with this `run_id` and the same steps is under way, it is returned instead.
    Raises `UsageError` if the run cannot be started. A run that fails raises nothing (see `RunResult`).
    """
    open_descriptors()
    asked = steps_of(steps)
    cwd = Path(project_dir).expanduser().resolve() if project_dir else Path.cwd()
    if not cwd.is_dir():
        raise UsageError(f"there is no directory {cwd}")
    if run_id is not None:
        home.check_run_id(run_id)
    passed = variables_of(environment)
    variables = {**os.environ, **passed}
    project = find_project(asked[0], cwd, variables)
    place = home.home_for(project, variables, Path(home_dir) if home_dir else None)
    interpreter = find_interpreter(python)
    program = find_program(interpreter, dbt)
    if profile is not None:
        for step in asked:
            name_for(project or cwd, step)
    kept, secret_names = kept_environment(passed)
    spec = RunSpec(
        run_id=run_id or ids.new_run_id(),
        steps=asked,
        cwd=str(cwd),
        project_dir=str(project or cwd),
        python=interpreter,
        program=program,
        environment=kept,
        secret_names=secret_names,
        caller=dict(caller or {}),
        conn_id=profile.conn_id if profile is not None else None,
        limits=Limits(**limits),
        artifacts=_storage(artifacts, variables),
    ).check()
    if run_id is not None:
        running = _already_running(place, spec)
        if running is not None:
            return running
    check_dbt(interpreter, program)
    matching.of_file()  # so that a mistake in it is said now, not when a node has failed
    try:
        directory, held = home.create_run(place, spec.run_id, spec.encode())
    except UsageError:
        # Somebody may have been faster since we looked.
        running = _already_running(place, spec) if run_id is not None else None
        if running is None:
            raise
        return running
    callers.remember(place, spec.caller, spec.run_id)
    if detached:
        return _start_detached(Run(directory), held, {**passed, **_as_variable(storage_options)}, profile)
    return _start_attached(
        directory, held, spec, passed, profile, stdio, foreground=foreground, storage_options=storage_options
    )


def run(
    steps: Sequence[str] | Sequence[Sequence[str]],
    *,
    project_dir: str | Path | None = None,
    python: str | Path | None = None,
    dbt: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    profile: Profile | None = None,
    home_dir: str | Path | None = None,
    run_id: str | None = None,
    caller: Mapping[str, str] | None = None,
    artifacts: str | Storage | None = None,
    storage_options: Mapping[str, object] | None = None,
    **limits: Unpack[LimitArguments],
) -> RunResult:
    """Start a run, wait for its end, and return its result. For the arguments see `start`."""
    return start(
        steps,
        project_dir=project_dir,
        python=python,
        dbt=dbt,
        environment=environment,
        profile=profile,
        home_dir=home_dir,
        run_id=run_id,
        caller=caller,
        artifacts=artifacts,
        storage_options=storage_options,
        **limits,
    ).wait()


def retry(
    reference: str,
    *,
    environment: Mapping[str, str] | None = None,
    home_dir: str | Path | None = None,
    caller: Mapping[str, str] | None = None,
    profile: Profile | None = None,
    profiles_dir: str | Path | None = None,
    full: bool = False,
    artifacts: str | Storage | None = None,
    storage_options: Mapping[str, object] | None = None,
    detached: bool = False,
    stdio: Stdio | None = None,
    foreground: bool = False,
    **limits: Unpack[LimitArguments],
) -> Run:
    """Resume a run that has ended, in a new session. If nothing is left to do, return the run unchanged.

    Nodes that succeeded according to the journal are not run again, except hooks, which belong to the command, as in
    dbt. Arguments, variables and remaining steps are the run's own. So are its limits and the place of its artifacts,
    unless they are given here; then they apply to the run from now on, and so do the variables in `environment`.
    Variables that may hold a credential are not stored, so each resume needs them again, here or in the caller's own
    environment. With `full`, everything is run again. `caller` says who asks, if that has changed.
    `detached` gives the session its own supervisor, which outlives this process.
    If the run's profile was made from a connection, give a `profile` made from it again, or a `profiles_dir` with a
    `profiles.yml`, because none of its secrets are stored.
    A run that is under way is followed; one that is ending is waited for.
    Raises `RunNotFound`, and `UsageError` if the run cannot be resumed or belongs to somebody else.
    """
    open_descriptors()
    passed = variables_of(environment)
    run = attach(reference, home_dir=home_dir)
    home.check_ours(run.directory)
    held = _taken_over(run)
    if held is None:
        log.warning("run %s is under way: following it", run.id)
        return run
    try:
        close_abandoned(run.directory, {**os.environ, **passed})
        before = RunSpec.load(run.directory.spec)
        spec = msgspec.structs.replace(
            before,
            limits=before.limits.amended(**limits),
            caller=dict(before.caller if caller is None else caller),
            artifacts=_storage(artifacts, os.environ) or before.artifacts,
            conn_id=(profile.conn_id if profile is not None else None) or before.conn_id,
        )
        spec = spec.given(passed).check()
        check_dbt(spec.python, spec.program)
        matching.of_file()
        given = {**_secrets_again(spec, passed), **passed, **_profile_again(before, profile, profiles_dir)}
        if not full and run.is_complete:
            held.release()
            return run
        if spec != before:
            spec.keep(run.directory.spec)
        if spec.caller != before.caller:
            callers.remember(run.directory.home, spec.caller, spec.run_id)
        if detached:
            # Its sinks are configured by its environment.
            variables = {**spec.environment, **given, **_as_variable(storage_options)}
            return _start_detached(run, held, variables, profile, () if full else ("--resume",))
        supervisor = Supervisor(
            run.directory,
            spec,
            held,
            stdio=stdio,
            environment=given,
            profile=profile,
            foreground=foreground,
            resumes=not full,
            storage_options=storage_options,
        )
    except BaseException:
        held.release()
        raise
    return supervised(supervisor)


def upload(
    reference: str,
    *,
    home_dir: str | Path | None = None,
    artifacts: str | Storage | None = None,
    storage_options: Mapping[str, object] | None = None,
) -> ArtifactsUploaded:
    """Store the artifacts of a run that has ended, as for `start`; by default where the run itself was to.

    What went wrong is the `error` of what is returned. Raises `RunNotFound`, `RunBusy` while the run goes on, and
    `UsageError` where nothing says where to, or the run is somebody else's.
    """
    from spanline.supervisor.upload import upload_again  # noqa: PLC0415 - most who run dbt don't need it

    options = storage_options_of(os.environ) if storage_options is None else storage_options
    return upload_again(attach(reference, home_dir=home_dir).directory, _storage(artifacts, os.environ), options)


def _storage(artifacts: str | Storage | None, variables: Mapping[str, str]) -> Storage | None:
    return artifacts.check() if isinstance(artifacts, Storage) else storage_of(variables, artifacts)


def _as_variable(storage_options: Mapping[str, object] | None) -> dict[str, str]:
    """How a supervisor of its own gets them, which takes them out of what it gives to others."""
    return {} if storage_options is None else {settings.ARTIFACTS_STORAGE_OPTIONS: json.dumps(dict(storage_options))}


def _taken_over(run: Run) -> lease.Lease | None:
    """The lease of a run whose last session is over, or will be soon; None where there is a session to follow."""
    before, order = run.state.session_number, order_version(run.directory.cancel)
    told = False
    while True:
        if run.live:
            # Where we are one of several that want to resume it, the session that another has begun is ours, too.
            if run.state.session_number > before or not is_ending(run):
                return None
            if not told and run.state.ended is None:
                told = True
                log.warning("run %s is ending: it will be resumed after that", run.id)
            time.sleep(LEASE_LOOKS)
            continue
        try:
            held = lease.acquire(run.directory.lease)
        except RunBusy:
            continue  # somebody else resumes it
        if run.state.session_number > before:
            held.release()
            return None
        try:
            forget_order(run.directory.cancel, order)
        except OSError as error:
            held.release()
            raise UsageError(f"run {run.id} cannot be resumed: {error.filename}: {error.strerror}") from error
        return held


def is_ending(run: Run) -> bool:
    """Whether its session is or will soon be over: its supervisor is gone, or it is being cancelled."""
    state = run.state
    # An order stands in its file a moment before the journal tells of it.
    if state.cancelling or state.ended is not None or run.directory.cancel.exists():
        return True
    session = state.session
    return session is not None and session.host == platform.node() and _is_gone(session.pid, run.directory)


def _is_gone(pid: int, directory: RunDirectory) -> bool:
    """Whether this supervisor is, though another process may have its number by now."""
    holder, now = lease.read_holder(directory.lease), process.start_time(pid)
    return now is None or (holder is not None and holder.pid == pid and holder.start_time != now)


def _secrets_again(spec: RunSpec, passed: Mapping[str, str]) -> dict[str, str]:
    known = {**os.environ, **passed}
    # A backend that is turned off by now needs no credential.
    switches = zip(settings.BACKEND_PREFIXES, (settings.OPENLINEAGE_DISABLED, settings.OTEL_SDK_DISABLED), strict=True)
    off = tuple(prefix for prefix, switch in switches if known.get(switch, "").strip().lower() == "true")
    missing = [name for name in spec.secret_names if name not in known and not name.startswith(off)]
    if missing:
        raise UsageError(f"to resume this run, set {', '.join(missing)}: secrets are not kept")
    return {name: known[name] for name in spec.secret_names if name in known}


def _profile_again(spec: RunSpec, profile: Profile | None, profiles_dir: str | Path | None) -> dict[str, str]:
    """What says where dbt finds the profile, where no `profile` does."""
    given = [name for name, value in (("`profile`", profile), ("`profiles_dir`", profiles_dir)) if value is not None]
    if spec.conn_id is None and given:
        raise UsageError(f"this run has its own profile: leave out {' and '.join(given)}")
    if spec.conn_id is not None and len(given) != 1:
        raise UsageError(
            f"this run's profile was made of the connection {spec.conn_id!r}, of which no secret is kept: pass "
            "`profiles_dir`, the directory of a profiles.yml (or, in Python, `profile`, made anew)"
        )
    if profiles_dir is None:
        return {}
    place = Path(profiles_dir).expanduser().absolute()
    if not (place / "profiles.yml").is_file():
        raise UsageError(f"there is no profiles.yml in {place}")
    return {settings.DBT_PROFILES_DIR: str(place)}


def attach(reference: str, *, home_dir: str | Path | None = None) -> Run:
    """The run that an id, a unique prefix of one, or `latest` names, whoever started it. Raises `RunNotFound`."""
    return Run(home.find_run(find_home(home_dir), reference))


def cancel(
    run_id: str,
    *,
    home_dir: str | Path | None = None,
    project_dir: str | Path | None = None,
    grace: float | None = None,
    by: str = "",
    reason: str = "",
) -> None:
    """Ask for a run's cancel by its whole id, as `Run.cancel` does, even before the run has started.

    A run that starts later under this id is cancelled as soon as it begins. So a signal handler can cancel what `start`
    is only about to start, if it was given a `run_id`. Raises `UsageError` if the order can't be left there.
    """
    home.check_run_id(run_id)
    Run(RunDirectory(find_home(home_dir, project_dir) / "runs" / run_id)).cancel(grace, by=by, reason=reason)


def find_home(home_dir: str | Path | None = None, project_dir: str | Path | None = None) -> Path:
    """The home that a command here, or in this directory, would use."""
    project = find_project((), Path(project_dir).expanduser().resolve() if project_dir else Path.cwd(), os.environ)
    return home.home_for(project, os.environ, Path(home_dir) if home_dir else None)


def _already_running(place: Path, spec: RunSpec) -> Run | None:
    directory = RunDirectory(place / "runs" / spec.run_id)
    if not directory.path.exists():
        return None
    if not lease.is_held(directory.lease):
        raise UsageError(f"run {spec.run_id} has already ended; leave out `run_id` to start another")
    if not spec.asks_the_same(RunSpec.load(directory.spec)):
        raise RunBusy(f"run {spec.run_id} is under way ({lease.describe(directory.lease)}) with other arguments")
    return Run(directory)


def _start_attached(
    directory: RunDirectory,
    held: lease.Lease,
    spec: RunSpec,
    environment: Mapping[str, str],
    profile: Profile | None,
    stdio: Stdio | None,
    *,
    foreground: bool,
    storage_options: Mapping[str, object] | None,
) -> Run:
    try:
        supervisor = Supervisor(
            directory,
            spec,
            held,
            stdio=stdio,
            environment=environment,
            profile=profile,
            foreground=foreground,
            storage_options=storage_options,
        )
    except BaseException as error:
        held.release()
        shutil.rmtree(directory.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise UsageError(f"the run can't begin: {error}") from error
        raise
    return supervised(supervisor)


def _start_detached(
    run: Run, held: lease.Lease, environment: Mapping[str, str], profile: Profile | None, how: Sequence[str] = ()
) -> Run:
    """Start a supervisor for the run's next session, and return once that has begun."""
    directory, session = run.directory, run.state.session_number + 1
    try:
        given = offer({**environment, **trace_context.current(os.environ, environment)}, profile)
        try:
            supervisor = process.spawn_detached(
                "spanline.supervisor.detached",
                [*how, str(directory.path), str(held.fd)],
                directory.supervisor_log,
                pass_fds=(held.fd,),
                stdin=given,
            )
        finally:
            os.close(given)
    finally:
        held.release()  # the supervisor holds it now
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if run.state.session_number >= session:
            return run
        if supervisor.poll() is not None:
            break
        time.sleep(0.02)
    supervisor.kill()  # one that is slow must not begin when nobody expects it any more
    said = process.last_line(directory.supervisor_log) or "it said nothing"
    if not directory.path.exists():
        said = f"{directory.path} is gone"
    raise SpanlineError(f"the supervisor did not start: {said}")
