"""The command line: `spanline dbt …`, which is dbt, observed; and what one does with the runs that it leaves."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from spanline._version import __version__
from spanline.runner.shared import exit_codes, settings
from spanline.system.stdio import open_streams, write
from spanline.system.terminal import Errors, json_line, say, say_json, say_line, show_exceptions

if TYPE_CHECKING:  # each command imports what it needs: `spanline --help` must be instant
    from typing import Literal

    from click.shell_completion import CompletionItem

    from spanline.api.run import Run
    from spanline.home.cursor import Cursor
    from spanline.home.limits import LimitArguments
    from spanline.results.result import RunResult
    from spanline.system.stdio import Stdio

    Output = Literal["text", "json", "log-json"]

_HELP: Final = frozenset(("-h", "--help"))
_VERSION: Final = frozenset(("-v", "-V", "--version"))
_RUNS_DBT: Final = ("dbt", "retry")
_ONLY: Final[Mapping[str, Sequence[str]]] = {
    "home": (*_RUNS_DBT, "cancel", "demo", "prune", "replay", "runs", "show", "stats", "tail", "upload"),
    "python": ("dbt", "demo"),
    "run_id": ("dbt",),
}
"""The commands that use an option of the group; those that aren't listed are for commands that run dbt."""
_OPTIONS: Final[Mapping[str, str]] = {
    "artifacts": "--artifacts-url",
    "home_dir": "--home",
    "profiles_dir": "--profiles-dir",
    "python": "--python",
    "run_id": "--run-id",
    "schema": "--schema",
}
"""Options by the arguments that they are in Python."""
_LINE_COMMANDS: Final = frozenset(
    ("build", "clone", "compile", "source freshness", "run", "seed", "snapshot", "test", "retry")
)
"""dbt's commands that a live line is drawn under: they run nodes, and never ask anything."""


class Options:
    """What stands before the command."""

    def __init__(self) -> None:
        self.python: str | None = None
        self.home: str | None = None
        self.run_id: str | None = None
        self.detach = False
        self.progress = True
        self.output: Output = "text"
        self.artifacts_url: str | None = None
        self.limits: LimitArguments = {}
        """Those that were given; a run that is resumed keeps its own in place of the others."""


class _Verbatim(click.Command):
    """A command whose arguments are somebody else's: not looked at, not changed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["args"] = tuple(args)
        return []


class _RunReference(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        from spanline.api.start import find_home  # noqa: PLC0415
        from spanline.home import home  # noqa: PLC0415

        root = ctx.find_root()
        known = [run.run_id for run in home.runs(find_home(root.params.get("home")))]
        return [CompletionItem(name) for name in ("latest", *reversed(known)) if name.startswith(incomplete)]


class _Seconds(click.FloatRange):
    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):  # as JSON, which a run is kept in, knows neither inf nor nan
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return found


class _Limit(click.Option):
    """An option that is a field of `Limits`, which says its default."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from spanline.home.limits import Limits  # noqa: PLC0415

        record = super().get_help_record(ctx)
        default = getattr(Limits(), str(self.name))
        if record is None or not default:
            return record
        return record[0], f"{record[1]}  [default: {default:g}]"


_SECONDS: Final = _Seconds(min=0)


def _set_home(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj.home = value


_run_argument = click.argument("reference", metavar="RUN", type=_RunReference())
_home_option = click.option(
    "--home",
    metavar="DIR",
    callback=_set_home,
    expose_value=False,
    help="Directory of the runs.  [default: SPANLINE_HOME, else .spanline in the project, else ~/.spanline]",
)
_artifacts_url_option = click.option(
    "--artifacts-url", metavar="URL", help="Where artifacts are stored.  [default: SPANLINE_ARTIFACTS_URL]"
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="spanline")
@click.option("--python", metavar="PATH", help="Python interpreter that has dbt.  [default: this one]")
@click.option("--home", metavar="DIR", help="Directory of the runs.  [default: .spanline in the project]")
@click.option("--run-id", metavar="UUID", help="Id of the new run, a UUIDv7.  [default: a new one]")
@click.option("--detach", is_flag=True, help="Run in the background: print the run's id and return.")
@click.option("--progress/--no-progress", default=True, help="Show progress on a terminal.")
@click.option(
    "--output",
    type=click.Choice(("text", "json", "log-json")),
    default="text",
    show_default=True,
    help="Print dbt's text, each event as JSON, or a JSON log line for each result, warning and error.",
)
@click.option("--retry-limit", cls=_Limit, type=click.IntRange(min=1), help="Maximum attempts for transient failures.")
@click.option("--retry-delay", cls=_Limit, type=_SECONDS, help="Seconds before the second attempt.")
@click.option("--retry-within", cls=_Limit, type=_SECONDS, help="Seconds in which a new attempt may begin.")
@click.option("--retry-partial", cls=_Limit, is_flag=True, help="Retry although other failures are permanent.")
@click.option("--timeout", cls=_Limit, type=_SECONDS, help="Seconds before the run is cancelled.")
@click.option("--node-timeout", cls=_Limit, type=_SECONDS, help="Seconds a node may take before the run is cancelled.")
@click.option("--grace", cls=_Limit, type=_SECONDS, help="Seconds before a cancelled dbt is killed.")
@click.option("--artifacts-url", metavar="URL", help="Where to store the artifacts when dbt has ended: s3://bucket/…")
@click.pass_context
def cli(ctx: click.Context, /, **given: object) -> None:
    """Run dbt, and see in real time what it does.

    `spanline dbt build` is `dbt build`: the same output, the same exit code. RUN, where a command takes one, is a run's
    id, a unique prefix of it, or `latest`.
    """
    options = ctx.obj = Options()
    known = {
        name: value for name, value in given.items() if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    _refuse_unused(ctx, known)
    if known.get("detach") and known.get("output") == "log-json":
        raise click.UsageError("--detach returns at once, so --output log-json would print nothing: choose one")
    for name, value in known.items():
        if hasattr(options, name):
            setattr(options, name, value)
        else:
            options.limits[name] = value  # type: ignore[literal-required]


def _refuse_unused(ctx: click.Context, given: Iterable[str]) -> None:
    """Raise `UsageError` where the command doesn't use an option that stands before it."""
    command = ctx.invoked_subcommand or ""
    refused = [name for name in given if command in cli.commands and command not in _ONLY.get(name, _RUNS_DBT)]
    if not refused:
        return
    flags = {param.name: param.opts[0] for param in ctx.command.params}
    said = f"`spanline {command}` does not use {' and '.join(flags[name] for name in refused)}"
    theirs = {param.name: param.opts[0] for param in cli.commands[command].params}
    if command == "retry":
        raise click.UsageError(f"{said}: a resumed run keeps its own")
    if "output" in refused and "as_json" in theirs:
        raise click.UsageError(f"{said}: use `spanline {command} --json`")
    after = [name for name in refused if name in theirs]
    raise click.UsageError(f"{said}: use `spanline {command} {theirs[after[0]]}`" if after else f"{said}: leave it out")


@cli.command("dbt", cls=_Verbatim, add_help_option=False)
@click.pass_obj
def dbt_command(options: Options, args: tuple[str, ...]) -> None:
    """Run dbt: all that follows the word `dbt` is dbt's."""
    from spanline.dbt import interpreter  # noqa: PLC0415
    from spanline.dbt.arguments import command_of  # noqa: PLC0415

    if not args or args[0] in _VERSION or _HELP.intersection(args):
        python = interpreter.find_interpreter(options.python)
        interpreter.check(python)
        interpreter.replace_ourselves(python, args)
    if options.detach:
        _name(options, _start(options, args, None))
        return
    lined = command_of(args) in _LINE_COMMANDS
    sys.exit(_run(options, lambda stdio: _start(options, args, stdio), lined=lined))


def _name(options: Options, run: Run) -> None:
    """Say which run was left to a supervisor of its own."""
    if options.output == "json":
        _echo_json(_listed(run))
    else:
        say_line(run.id)


def _run(options: Options, begin: Callable[[Stdio | None], Run], *, lined: bool) -> int:
    """Begin a run, or find one that goes on, show it as the options say, and return its exit code."""
    with _Signals() as signals:
        try:
            return _shown(options, begin, signals, lined=lined)
        except KeyboardInterrupt:
            if signals.followed is None:
                raise
            run_id = signals.followed.id
            say_line(f"spanline: run {run_id} continues; `spanline cancel {run_id}` cancels it", err=True)
            return exit_codes.INTERRUPTED


def _shown(options: Options, begin: Callable[[Stdio | None], Run], signals: _Signals, *, lined: bool) -> int:
    if options.output == "json":
        return _run_json(begin, signals)
    if options.output == "log-json":
        return _run_log_json(begin, signals)
    if options.progress and lined and _on_terminal():
        return _run_with_line(begin, signals)
    run = begin(None)
    signals.watch(run)
    _print_log(run, sys.stdout.fileno())
    return run.wait().exit_code


def _print_log(run: Run, fd: int) -> None:
    """Of a run that isn't ours print what dbt says; else it has our streams, or those that we gave it."""
    if not run.supervised_here:
        from spanline.cli.live_line import print_log  # noqa: PLC0415

        print_log(run, fd)


def _on_terminal() -> bool:
    interactive_macros = os.environ.get(settings.DBT_MACRO_DEBUGGING, "").lower() not in ("", "0", "false")
    return sys.stdout.isatty() and sys.stderr.isatty() and not interactive_macros


def _run_with_line(begin: Callable[[Stdio | None], Run], signals: _Signals) -> int:
    from spanline.cli.live_line import LiveLine  # noqa: PLC0415
    from spanline.journal.state import RunState  # noqa: PLC0415
    from spanline.results.summary import summary  # noqa: PLC0415

    started: list[Run] = []
    with LiveLine(lambda: started[0].state if started else RunState()) as line:
        started.append(begin(line.stdio))
        signals.watch(started[0])
        _print_log(started[0], line.output)
        result = started[0].wait()
    say(f"\n{summary(result)}", err=True)
    return result.exit_code


def _run_json(begin: Callable[[Stdio | None], Run], signals: _Signals) -> int:
    with _silent() as stdio:
        run = begin(stdio)
        signals.watch(run)
        session = run.session
        for record in run.records():
            if record.event.session < session:
                continue  # of a run that is resumed, what was before
            write(sys.stdout.fileno(), json_line(record.line))
        return run.wait().exit_code


def _run_log_json(begin: Callable[[Stdio | None], Run], signals: _Signals) -> int:
    from spanline.cli.json_log import write_lines  # noqa: PLC0415

    # Of what dbt says to standard error, such as how it is used, there is no event.
    with _silent(errors_too=False) as stdio:
        run = begin(stdio)
        signals.watch(run)
        return write_lines(run, sys.stdout.fileno()).exit_code


@contextlib.contextmanager
def _silent(*, errors_too: bool = True) -> Iterator[Stdio]:
    """Streams for a dbt whose text nobody wants: it stands in the journal's log events."""
    from spanline.system.stdio import Stdio  # noqa: PLC0415

    with open(os.devnull, "r+b") as nowhere:
        yield Stdio(None, nowhere.fileno(), nowhere.fileno() if errors_too else None)


def _start(options: Options, args: tuple[str, ...], stdio: Stdio | None) -> Run:
    from spanline.api.start import start  # noqa: PLC0415

    return start(
        list(args),
        python=options.python,
        home_dir=options.home,
        run_id=options.run_id,
        detached=options.detach,
        stdio=stdio,
        foreground=_on_a_terminals_input(),
        artifacts=options.artifacts_url,
        **options.limits,
    )


def _on_a_terminals_input() -> bool:
    return sys.stdin.isatty()


class _Signals:
    """Turns Ctrl-C, SIGTERM and SIGHUP into cancels of the run: the first gently, a second one at once.

    Where the run is somebody else's, they only end our following of it, as a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.followed: Run | None = None
        self._run: Run | None = None
        self._first: tuple[float, str] | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> _Signals:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(signum)
            # nohup and `&` have SIGHUP or SIGINT ignored, and mean it.
            if before is not signal.SIG_IGN:
                self._before[signum] = before
                signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)

    def watch(self, run: Run) -> None:
        """Cancel this run from now on, and now where a signal has come already."""
        if not run.supervised_here:
            self._follow(run)
            return
        self._run = run
        if self._first is not None:
            run.cancel(by=self._first[1])

    def _follow(self, run: Run) -> None:
        self.followed = run
        for signum in self._before:
            signal.signal(signum, signal.default_int_handler)
        if self._first is not None:
            raise KeyboardInterrupt

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        now, name = time.monotonic(), signal.Signals(signum).name
        if self._first is None:
            self._first = (now, name)
            if self._run is not None:
                self._run.cancel(by=name)
        elif self._run is not None and _is_another(now - self._first[0]):
            self._run.cancel(grace=0.0, by=f"a second {name}")


def _is_another(seconds: float) -> bool:
    # Not before there is a run: until then the module may be half imported by what the signal has interrupted.
    from spanline.supervisor.cancel import BOUNCE_SECONDS  # noqa: PLC0415

    return seconds > BOUNCE_SECONDS


@cli.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of runs.")
@_home_option
@_json_option
@click.pass_obj
def runs(options: Options, limit: int, *, as_json: bool) -> None:
    """List the latest runs, the newest first."""
    from spanline.api.run import Run  # noqa: PLC0415
    from spanline.api.start import find_home  # noqa: PLC0415
    from spanline.home import home  # noqa: PLC0415

    for directory in reversed(home.runs(find_home(options.home))[-limit:]):
        try:
            line = _listed(Run(directory))
        except OSError as error:  # somebody else's
            say_line(f"spanline: {directory.run_id}: {error.strerror or error}", err=True)
            continue
        if as_json:
            _echo_json(line)
        else:
            say_line("{id}  {started}  {outcome:9}  {command}".format(**line))


def _listed(run: Run) -> dict[str, object]:
    live = run.live
    state = run.state if live else run.state.closed()
    outcome = state.ended.outcome if state.ended else ("running" if live else "died")
    steps = state.session.steps if state.session else []
    return {
        "id": run.id,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.begun / 1e9)),
        "outcome": outcome,
        "command": "; ".join(" ".join(step) for step in steps),
        "counts": state.counts,
        "directory": str(run.directory.path),
    }


@cli.command()
@_run_argument
@_home_option
@_json_option
@click.pass_obj
def show(options: Options, reference: str, *, as_json: bool) -> None:
    """Show how a run ended, or where it stands."""
    from spanline.home.cursor import undelivered  # noqa: PLC0415
    from spanline.results.from_state import result_of  # noqa: PLC0415
    from spanline.results.summary import summary  # noqa: PLC0415

    run = _attach(options, reference)
    live = run.live
    state = run.state if live else run.state.closed()
    result = result_of(state, run.directory.path, undelivered(run.directory))
    if as_json:
        _echo_json({**_plain(result), **({"outcome": "running", "exit_code": None, "error": None} if live else {})})
    elif live:
        running = ", ".join(node.unique_id for node in state.open_nodes)
        say_line(f"running: {state.done} of {state.total} nodes done; now: {running or '-'}")
        say_line(f"  kept in {run.directory.path}")
    else:
        say(summary(result))


@cli.command()
@_run_argument
@click.option("-f", "--follow", is_flag=True, help="Print events as they happen, until the run ends.")
@_home_option
@_json_option
@click.pass_obj
def tail(options: Options, reference: str, *, follow: bool, as_json: bool) -> None:
    """Print a run's events; with -f as they happen."""
    from spanline.cli.event_line import line  # noqa: PLC0415

    for record in _attach(options, reference).records(live=follow):
        if as_json:
            say_json(record.line)
        elif text := line(record.event):
            say_line(text)


@cli.command()
@_run_argument
@click.option("--grace", type=_SECONDS, help="Seconds before dbt is killed.  [default: the run's own]")
@click.option("--wait/--no-wait", default=True, help="Wait for the run to end.")
@_home_option
@click.pass_obj
def cancel(options: Options, reference: str, grace: float | None, *, wait: bool) -> None:
    """Cancel a run and its queries. Nodes that are running end as cancelled."""
    run = _attach(options, reference)
    if not run.live:
        say_line(f"run {run.id} has already ended")
        return
    run.cancel(grace, by=f"spanline cancel (pid {os.getpid()})")
    if wait:
        say_line(f"{run.wait().outcome}: run {run.id}")


@cli.command("retry")
@_run_argument
@click.option("--full", is_flag=True, help="Run everything again, what succeeded included.")
@click.option(
    "--profiles-dir",
    metavar="DIR",
    help="Directory of a profiles.yml, for a run whose profile was made of a connection.",
)
@click.pass_obj
def retry_command(options: Options, reference: str, *, full: bool, profiles_dir: str | None) -> None:
    """Resume a run that failed, was cancelled or was killed. What succeeded is not run again.

    Options before the word `retry` apply to the run from now on; all others stay as they were.
    """
    known = _attach(options, reference)
    if not full and not known.live and known.is_complete:
        say(f"run {known.id} is complete: there is nothing left to do (--full does it all again)")
        return

    def begin(stdio: Stdio | None) -> Run:
        return _resume(options, known.id, stdio, full=full, profiles_dir=profiles_dir)

    if options.detach:
        _name(options, begin(None))
        return
    sys.exit(_run(options, begin, lined=True))


def _resume(options: Options, reference: str, stdio: Stdio | None, *, full: bool, profiles_dir: str | None) -> Run:
    from spanline.api.start import retry  # noqa: PLC0415

    return retry(
        reference,
        home_dir=options.home,
        profiles_dir=profiles_dir,
        full=full,
        detached=options.detach,
        stdio=stdio,
        foreground=_on_a_terminals_input(),
        artifacts=options.artifacts_url,
        **options.limits,
    )


@cli.command()
@_run_argument
@click.option("--all", "everything", is_flag=True, help="Send all events again, delivered ones included.")
@click.option("--timeout", type=_SECONDS, default=60.0, show_default=True, help="Seconds before it gives up.")
@_home_option
@_json_option
@click.pass_obj
def replay(options: Options, reference: str, timeout: float, *, everything: bool, as_json: bool) -> None:
    """Send undelivered events, under their original ids. Exits with 1 if some are still undelivered."""
    from spanline.supervisor.replay import replay as replay_run  # noqa: PLC0415

    run = _attach(options, reference)
    cursors = replay_run(run.directory, everything=everything, timeout=timeout)
    if not cursors:
        raise click.UsageError("no sink is configured: set OPENLINEAGE_URL, OTEL_EXPORTER_OTLP_ENDPOINT or the like")
    for name, cursor in cursors.items():
        if as_json:
            _echo_json({"sink": name, **_plain(cursor)})
        else:
            say_line(f"{name}: {cursor.delivered} delivered, {_owed(cursor)}{_rejected(cursor)}")
            for one in cursor.given_up:
                say_line(f"  given up: {one.name}: {one.reason}")
    if not all(cursor.complete for cursor in cursors.values()):
        sys.exit(exit_codes.FAILURE)


def _owed(cursor: Cursor) -> str:
    """How much, as far as that was counted, and why."""
    owed = f"{cursor.undelivered if cursor.undelivered or cursor.complete else 'some'} undelivered"
    return owed if cursor.complete or cursor.error is None else f"{owed}: {cursor.error}"


def _rejected(cursor: Cursor) -> str:
    """What the backend refused for good, and what is worth another try."""
    refused = cursor.rejected - len(cursor.given_up)
    said = f", {refused} rejected ({cursor.rejection}); --all sends them again" if refused else ""
    again = f", {len(cursor.given_up)} given up; another replay tries them again" if cursor.given_up else ""
    return said + again


@cli.command()
@_run_argument
@_artifacts_url_option
@_home_option
@_json_option
@click.pass_obj
def upload(options: Options, reference: str, artifacts_url: str | None, *, as_json: bool) -> None:
    """Store the artifacts of a run that has ended, again or for the first time. Exits with 1 if that fails."""
    from spanline.api.start import upload as upload_run  # noqa: PLC0415

    told = upload_run(reference, home_dir=options.home, artifacts=artifacts_url)
    if as_json:
        from spanline.events import fields_of  # noqa: PLC0415

        _echo_json(fields_of(told)[1])
    elif told.error is None:
        size, stored = (sum(getattr(file, name) for file in told.files) for name in ("size", "stored"))
        say_line(
            f"stored {len(told.files)} files in {told.url}: {size:,} bytes as {stored:,}, {told.smaller:.0%} smaller"
        )
        cut = ", ".join(f"{number} by {rule}" for rule, number in sorted(told.cut.items()))
        say_line(f"cut: {cut or 'nothing'}")
        for name, reason in told.left_out.items():
            say_line(f"left out {name}: {reason}")
    if told.error is not None:
        say_line(f"spanline: the artifacts were not stored: {told.error}", err=True)
        sys.exit(exit_codes.FAILURE)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_artifacts_url_option
@click.option("--dag", help="Airflow DAG; outside Airflow, the dbt project.")
@click.option("--task", help="Airflow task; outside Airflow, the dbt command.")
@click.option("--run", help="Airflow run; outside Airflow, the run's id.")
@click.option("--any-outcome", is_flag=True, help="Include runs that did not succeed.")
@_json_option
def download(
    folder: Path,
    artifacts_url: str | None,
    dag: str | None,
    task: str | None,
    run: str | None,
    *,
    any_outcome: bool,
    as_json: bool,
) -> None:
    """Fetch the latest stored artifacts into FOLDER: the state for dbt's --defer --state."""
    from spanline.artifacts.stored import latest  # noqa: PLC0415

    found = latest(artifacts_url, dag=dag, task=task, run=run, outcome=None if any_outcome else "success")
    found.download(folder)
    if as_json:
        _echo_json({"url": found.url, "folder": str(folder), **_plain(found.contents)})
    else:
        say_line(f"{found.url} ({found.contents.outcome}, {found.contents.ended}) is in {folder}")


@cli.command()
@click.option("--older-than", metavar="AGE", help="Remove runs that are older: 12h, 30d, 8w.")
@click.option("--keep", type=click.IntRange(min=0), help="Maximum number of runs to keep, the latest first.")
@click.option("--max-size", metavar="SIZE", help="Maximum size of the runs to keep, the latest first: 500M, 2G.")
@click.option("--undelivered", "undelivered_too", is_flag=True, help="Include runs with undelivered events.")
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@_home_option
@_json_option
@click.pass_obj
def prune(
    options: Options,
    older_than: str | None,
    keep: int | None,
    max_size: str | None,
    *,
    undelivered_too: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove old runs. A live run is never removed."""
    from spanline.api.start import find_home  # noqa: PLC0415
    from spanline.home import home  # noqa: PLC0415
    from spanline.home import prune as pruning  # noqa: PLC0415

    bounds = pruning.Bounds(
        age=_quantity("--older-than", older_than, {"m": 60, "h": 3600, "d": 86400, "w": 604800}),
        number=keep,
        size=_whole(_quantity("--max-size", max_size, {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30})),
    )
    if bounds == pruning.Bounds():
        raise click.UsageError("no bounds are given: use --older-than, --keep or --max-size")
    place = find_home(options.home)
    if not dry_run:
        pruning.sweep(place)
    for run in pruning.beyond(home.runs(place), bounds):
        kept = pruning.prune(run, undelivered_too=undelivered_too, dry_run=dry_run)
        if as_json:
            _echo_json({"id": run.run_id, "removed": kept is None and not dry_run, "kept": kept})
        else:
            done = "would remove" if dry_run else "removed"
            say_line(f"{done} {run.run_id}" if kept is None else f"kept {run.run_id}: {kept}")


def _quantity(option: str, text: str | None, units: dict[str, int]) -> float | None:
    if text is None:
        return None
    number, unit = text.rstrip("BbKkMmGgHhDdWw"), text[len(text.rstrip("BbKkMmGgHhDdWw")) :]
    factor = units.get(unit) or units.get(unit.upper().rstrip("B"))
    try:
        found = float(number) * (factor or math.nan)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        known = ", ".join(f"5{name}" for name in units)
        raise click.BadParameter(f"{text!r} is not a quantity such as {known}", param_hint=option)
    return found


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


@cli.command()
@click.option(
    "--since", default="7d", show_default=True, metavar="WHEN", help="Start of the period: 12h, 7d, 2w ago, or a date."
)
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Maximum length of each list.")
@click.option("--check", is_flag=True, help="Print the alerts; exit with 1 if a critical one fires.")
@_home_option
@_json_option
@click.pass_obj
def stats(options: Options, since: str, limit: int, *, check: bool, as_json: bool) -> None:
    """Statistics over many runs: success, times, failing and slow nodes, retries, flaky tests. No backend needed."""
    from spanline.api.start import find_home  # noqa: PLC0415
    from spanline.stats import places, text  # noqa: PLC0415
    from spanline.stats.gather import gather  # noqa: PLC0415

    def tell(message: str) -> None:
        say_line(f"spanline: {message}", err=True)

    report = gather(places.place(options.home, find_home), since, limit, say=tell)
    left_out = text.left_out(report.left_out)
    if left_out:
        tell(left_out)
    if as_json:
        _echo_json(report)
    elif check:
        say(text.alerts(report.alerts))
    else:
        say(text.text(report))
    if check and report.critical:
        sys.exit(exit_codes.FAILURE)


@cli.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script that completes spanline's commands: eval "$(spanline completion bash)"."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete for {shell}")
    say(kind(cli, {}, "spanline", "_SPANLINE_COMPLETE").source())


@cli.command()
@click.option("--directory", type=click.Path(path_type=Path), help="Directory for the project.")
@_home_option
@click.pass_obj
def demo(options: Options, directory: Path | None) -> None:
    """Build the example project on DuckDB and show what was captured."""
    from spanline.cli.demo import demo as show_demo  # noqa: PLC0415

    sys.exit(show_demo(directory, options.python, options.home))


@cli.command("profile")
@click.argument("connection")
@click.option("--adapter", metavar="ADAPTER", help="dbt adapter.  [default: by the connection's type]")
@click.option("--target", metavar="TARGET", help="Name of the target.  [default: default]")
@click.option("--schema", metavar="SCHEMA", help="Schema that dbt builds in.  [default: the connection's]")
@click.option("--threads", type=click.IntRange(min=1), help="Maximum number of nodes that dbt runs at once.")
def profile_command(
    connection: str, adapter: str | None, target: str | None, schema: str | None, threads: int | None
) -> None:
    """Print the dbt profile made from a CONNECTION, with secrets masked.

    CONNECTION is a file with its JSON (- for standard input), or an id, whose variable AIRFLOW_CONN_<ID> holds it.
    """
    from spanline.dbt.project import find_project, profile_name  # noqa: PLC0415
    from spanline.profiles import Connection, resolve  # noqa: PLC0415

    if connection == "-":
        found = Connection.from_json(sys.stdin.buffer.read())
    elif Path(connection).exists():
        found = Connection.from_file(connection)
    else:
        found = Connection.from_environment(connection)
    profile = resolve(found, adapter, target=target, schema=schema, threads=threads)
    project = find_project((), Path.cwd(), os.environ)
    name = profile_name(project, ()) if project is not None else None
    say(profile.masked(name or "default").rstrip("\n"))


@cli.command("classify")
@click.option("--adapter", metavar="ADAPTER", help="dbt adapter of the warehouse: snowflake, bigquery, …")
@click.argument("message", required=False)
def classify_message(adapter: str | None, message: str | None) -> None:
    """Print, as JSON, what an error message means and whether a retry can help. Reads standard input by default."""
    from spanline.failures import matching  # noqa: PLC0415
    from spanline.failures.classify import classify  # noqa: PLC0415

    text = sys.stdin.buffer.read().decode(errors="replace") if message is None else message
    if adapter is not None and matching.dbts_name(adapter) not in (known := matching.adapters()):
        say_line(f"spanline: no rules for {adapter}: all are asked; there are some for {', '.join(known)}", err=True)
        adapter = None
    _echo_json(_plain(classify(text, adapter)))


def _attach(options: Options, reference: str) -> Run:
    from spanline.api.start import attach  # noqa: PLC0415

    return attach(reference, home_dir=options.home)


def _echo_json(value: object) -> None:
    import msgspec  # noqa: PLC0415

    say_json(msgspec.json.encode(value))


def _plain(value: RunResult | object) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    built = msgspec.to_builtins(value, enc_hook=str)
    if not isinstance(built, dict):
        raise TypeError(f"not an object: {value!r}")
    return built


class _Once(logging.Filter):
    """Lets a message through the first time."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in self._said
        self._said.add(message)
        return new


def _set_up_logging() -> None:
    """Our own warnings to standard error, a line each; other libraries' nowhere (sinks report what failed).

    But for what OpenTelemetry's SDK says of its variables, once.
    """
    handler = logging.StreamHandler(Errors())
    handler.setFormatter(logging.Formatter("spanline: %(message)s"))
    of_sdk = logging.StreamHandler(Errors())
    of_sdk.setFormatter(logging.Formatter("spanline: OpenTelemetry: %(message)s"))
    of_sdk.setLevel(logging.WARNING)
    of_sdk.addFilter(_Once())
    logging.getLogger("opentelemetry.sdk").addHandler(of_sdk)
    ours = logging.getLogger("spanline")
    ours.addHandler(handler)
    ours.setLevel(logging.WARNING)
    ours.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())


def _of_options(said: str) -> str:
    """A message of the library, which speaks of arguments, in the words of the command line."""
    for argument, option in _OPTIONS.items():
        said = said.replace(f"`{argument}`", option)
    return said


def main(args: Sequence[str] | None = None) -> None:
    """The entry point. Errors of use are one line, exit code 2."""
    open_streams()
    show_exceptions()
    _set_up_logging()
    from spanline.errors import SpanlineError  # noqa: PLC0415

    if not (sys.argv[1:] if args is None else args):
        args = ["--help"]
    try:
        code = cli.main(args=args, prog_name="spanline", standalone_mode=False)
    except (SpanlineError, click.ClickException) as error:
        said = error.format_message() if isinstance(error, click.ClickException) else str(error)
        say(f"spanline: {_of_options(said)}", err=True)
        sys.exit(exit_codes.ERROR)
    except BrokenPipeError:
        raise
    except OSError as error:  # a home that is somebody else's, a directory that is gone, a full disk
        where = f"{error.filename}: " if error.filename is not None else ""
        say_line(f"spanline: {where}{error.strerror or error}", err=True)
        sys.exit(exit_codes.ERROR)
    except click.Abort:
        sys.exit(exit_codes.INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
