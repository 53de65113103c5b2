"""The command line: `spanline dbt …`, which is dbt, observed; and what one does with the runs that it leaves."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from spanline._version import __version__
from spanline.system.stdio import open_streams, write
from spanline.system.terminal import Errors, json_line, say, say_json, say_line, show_exceptions

if TYPE_CHECKING:  # each command imports what it needs: `spanline --help` must be instant
    from click.shell_completion import CompletionItem

    from spanline.api.run import Run
    from spanline.home.cursor import Cursor
    from spanline.results.result import RunResult
    from spanline.system.stdio import Stdio

USAGE_ERROR: Final = 2
_INTERRUPTED: Final = 130
_HELP: Final = frozenset(("-h", "--help"))
_VERSION: Final = frozenset(("-v", "-V", "--version"))
_LIMITS: Final = (
    *("retry_limit", "retry_delay", "retry_within", "retry_partial"),
    *("timeout", "node_timeout", "grace"),
)
_OF_THE_RUN: Final = ("python", "run_id")
"""Options that a run has once and for all."""
_LINE_COMMANDS: Final = frozenset(
    ("build", "clone", "compile", "source freshness", "run", "seed", "snapshot", "test", "retry")
)
"""dbt's commands that a live line is drawn under: they run nodes, and never ask anything."""


class Options:
    """What stands before `dbt` on the command line."""

    python: str | None = None
    home: str | None = None
    run_id: str | None = None
    detach: bool = False
    progress: bool = True
    json: bool = False
    log_json: bool = False
    retry_limit: int = 1
    retry_delay: float = 1.0
    retry_within: float | None = None
    retry_partial: bool = False
    timeout: float | None = None
    node_timeout: float | None = None
    grace: float = 30.0
    artifacts_url: str | None = None
    given: dict[str, str]
    """Those of them that were given, by name: how the command line calls them."""

    @property
    def limits(self) -> dict[str, Any]:
        """Those given that a run which is resumed takes, too."""
        return {name: getattr(self, name) for name in _LIMITS if name in self.given}


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
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return found


_SECONDS: Final = _Seconds(min=0)
_run_argument = click.argument("reference", metavar="RUN", type=_RunReference())
_artifacts_url_option = click.option(
    "--artifacts-url", metavar="URL", help="Where artifacts are stored (default: SPANLINE_ARTIFACTS_URL)."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="spanline")
@click.option("--python", metavar="PATH", help="The interpreter that has dbt (default: this one).")
@click.option("--home", metavar="DIR", help="Where runs are kept (default: .spanline in the project).")
@click.option("--run-id", metavar="UUID", help="The new run's id, a UUIDv7 (default: a new one).")
@click.option("--detach", is_flag=True, help="Leave the run to a supervisor of its own and return.")
@click.option("--progress/--no-progress", default=True, help="On a terminal, show where the run stands.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line for each event, not dbt's text.")
@click.option(
    "--log-json", is_flag=True, help="Print one JSON log line for each result, warning and error, not dbt's text."
)
@click.option("--retry-limit", type=click.IntRange(min=1), default=1, show_default=True, help="Tries in all, where "
              "what failed may pass by itself.")  # fmt: skip
@click.option("--retry-delay", type=_SECONDS, default=1.0, show_default=True, help="Seconds before the second try.")
@click.option("--retry-within", type=_SECONDS, help="Begin no new try so many seconds after the first.")
@click.option("--retry-partial", is_flag=True, help="Try again what may pass, though something else won't.")
@click.option("--timeout", type=_SECONDS, help="Cancel the run after so many seconds.")
@click.option("--node-timeout", type=_SECONDS, help="Cancel the run when a node takes so many seconds.")
@click.option("--grace", type=_SECONDS, default=30.0, show_default=True, help="Seconds that a cancelled dbt has.")
@click.option("--artifacts-url", metavar="URL", help="Where to store the artifacts when dbt has ended: s3://bucket/…")
@click.pass_context
def cli(
    ctx: click.Context,
    python: str | None,
    home: str | None,
    run_id: str | None,
    *,
    detach: bool,
    progress: bool,
    as_json: bool,
    log_json: bool,
    retry_limit: int,
    retry_delay: float,
    retry_within: float | None,
    retry_partial: bool,
    timeout: float | None,
    node_timeout: float | None,
    grace: float,
    artifacts_url: str | None,
) -> None:
    """Run dbt, and see in real time what it does.

    `spanline dbt build` is `dbt build`: the same output, the same exit code. RUN, where a command takes one, is a run's
    id, a unique prefix of it, or `latest`.
    """
    options = ctx.obj = Options()
    options.python, options.home, options.run_id = python, home, run_id
    if as_json and log_json:
        raise click.UsageError("--json prints events, --log-json log lines: choose one")
    if detach and log_json:
        raise click.UsageError("--log-json prints what is going on, for which --detach doesn't wait: choose one")
    options.detach, options.progress = detach, progress
    options.json, options.log_json = as_json, log_json
    options.retry_limit, options.retry_delay = retry_limit, retry_delay
    options.retry_within, options.retry_partial = retry_within, retry_partial
    options.timeout, options.node_timeout, options.grace = timeout, node_timeout, grace
    options.artifacts_url = artifacts_url
    options.given = {
        str(param.name): param.opts[0]
        for param in ctx.command.params
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
    }


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
    if options.json:
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
            say_line(f"spanline: run {run_id} goes on; `spanline cancel {run_id}` cancels it", err=True)
            return _INTERRUPTED


def _shown(options: Options, begin: Callable[[Stdio | None], Run], signals: _Signals, *, lined: bool) -> int:
    if options.json:
        return _run_json(begin, signals)
    if options.log_json:
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
    interactive_macros = os.environ.get("DBT_MACRO_DEBUGGING", "").lower() not in ("", "0", "false")
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
        retry_limit=options.retry_limit,
        retry_delay=options.retry_delay,
        retry_within=options.retry_within,
        retry_partial=options.retry_partial,
        timeout=options.timeout,
        node_timeout=options.node_timeout,
        grace=options.grace,
        artifacts=options.artifacts_url,
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
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, the latest.")
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
@_json_option
@click.pass_obj
def show(options: Options, reference: str, *, as_json: bool) -> None:
    """Show how a run ended, or where it stands."""
    from spanline.home.cursor import undelivered  # noqa: PLC0415
    from spanline.results.result import result_of  # noqa: PLC0415
    from spanline.results.summary import summary  # noqa: PLC0415

    run = _attach(options, reference)
    live = run.live
    state = run.state if live else run.state.closed()
    result = result_of(state, str(run.directory.path), undelivered(run.directory))
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
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
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
@click.option("--grace", type=_SECONDS, help="Seconds until dbt is killed (default: the run's own).")
@click.option("--wait/--no-wait", default=True, help="Wait until the run has ended.")
@click.pass_obj
def cancel(options: Options, reference: str, grace: float | None, *, wait: bool) -> None:
    """Cancel a run: dbt cancels its queries, open nodes end as cancelled."""
    run = _attach(options, reference)
    if not run.live:
        say_line(f"run {run.id} is over")
        return
    run.cancel(grace, by=f"spanline cancel (pid {os.getpid()})")
    if wait:
        say_line(f"{run.wait().outcome}: run {run.id}")


@cli.command("retry")
@_run_argument
@click.option("--full", is_flag=True, help="Do everything again, also what has succeeded.")
@click.option("--profiles-dir", metavar="DIR", help="Where dbt finds its profile, if that was made of a connection.")
@click.pass_obj
def retry_command(options: Options, reference: str, *, full: bool, profiles_dir: str | None) -> None:
    """Resume a run where it ended, failed, was cancelled or killed: what succeeded isn't run again.

    Options before the word `retry` hold for the run from now on; those that aren't given stay as they were.
    """
    refused = [flag for name, flag in options.given.items() if name in _OF_THE_RUN]
    if refused:
        raise click.UsageError(f"a run that is resumed keeps its own {' and '.join(refused)}: leave that out")

    def begin(stdio: Stdio | None) -> Run:
        run = _resume(options, reference, stdio, full=full, profiles_dir=profiles_dir)
        if run is None:
            say("nothing of this run is left to do (--full does it all again)")
            raise SystemExit(0)
        return run

    if options.detach:
        _name(options, begin(None))
        return
    sys.exit(_run(options, begin, lined=True))


def _resume(
    options: Options, reference: str, stdio: Stdio | None, *, full: bool, profiles_dir: str | None
) -> Run | None:
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
@click.option("--all", "everything", is_flag=True, help="Send everything again, not only what is owed.")
@click.option("--timeout", type=_SECONDS, default=60.0, show_default=True, help="Seconds to try for.")
@_json_option
@click.pass_obj
def replay(options: Options, reference: str, timeout: float, *, everything: bool, as_json: bool) -> None:
    """Send what was not delivered, under the ids that it had. Exits with 1 while something is still owed."""
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
        sys.exit(1)


def _owed(cursor: Cursor) -> str:
    """How much, as far as that was counted, and why."""
    owed = f"{cursor.undelivered if cursor.undelivered or cursor.complete else 'some'} still owed"
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
@_json_option
@click.pass_obj
def upload(options: Options, reference: str, artifacts_url: str | None, *, as_json: bool) -> None:
    """Store the artifacts of a run that has ended, again or for the first time. Exits with 1 where that fails."""
    from spanline.api.start import upload as upload_run  # noqa: PLC0415

    url = artifacts_url or options.artifacts_url
    told = upload_run(reference, home_dir=options.home, artifacts=url)
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
        sys.exit(1)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_artifacts_url_option
@click.option("--dag", help="Of this DAG (outside Airflow: this project).")
@click.option("--task", help="Of this task (outside Airflow: this command of dbt's).")
@click.option("--run", help="Of this run.")
@click.option("--any-outcome", is_flag=True, help="Also of a run that did not succeed.")
@_json_option
@click.pass_obj
def download(
    options: Options,
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

    url = artifacts_url or options.artifacts_url
    found = latest(url, dag=dag, task=task, run=run, outcome=None if any_outcome else "success")
    found.download(folder)
    if as_json:
        _echo_json({"url": found.url, "folder": str(folder), **_plain(found.contents)})
    else:
        say_line(f"{found.url} ({found.contents.outcome}, {found.contents.ended}) is in {folder}")


@cli.command()
@click.option("--older-than", metavar="AGE", help="Remove runs older than this: 12h, 30d, 8w.")
@click.option("--keep", type=click.IntRange(min=0), help="Keep at most so many runs, the latest.")
@click.option("--max-size", metavar="SIZE", help="Keep at most so much, the latest: 500M, 2G.")
@click.option("--undelivered", "undelivered_too", is_flag=True, help="Also runs that still owe a backend.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
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
        raise click.UsageError("say what to keep, with --older-than, --keep or --max-size")
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
        raise click.BadParameter(f"{text!r} is no quantity such as {known}", param_hint=option)
    return found


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


@cli.command()
@click.option("--since", default="7d", show_default=True, metavar="WHEN", help="Runs begun since: 12h, 7d, 2w, a date.")
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Lines of each list.")
@click.option("--check", is_flag=True, help="Print the alerts; exit with 1 where a critical one fires.")
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
        sys.exit(1)


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
@click.option("--directory", type=click.Path(path_type=Path), help="Where to put the project.")
@click.pass_obj
def demo(options: Options, directory: Path | None) -> None:
    """Build the example project on DuckDB and show what was captured."""
    from spanline.cli.demo import demo as show_demo  # noqa: PLC0415

    sys.exit(show_demo(directory, options.python, options.home))


@cli.command("profile")
@click.argument("connection")
@click.option(
    "--adapter", metavar="ADAPTER", help="dbt's name of the adapter (default: what the connection's type says)."
)
@click.option("--target", metavar="TARGET", help="The output's name (default: default).")
@click.option("--schema", metavar="SCHEMA", help="The schema that dbt builds in (default: the connection's).")
@click.option("--threads", type=click.IntRange(min=1), help="How many nodes dbt runs at once.")
def profile_command(
    connection: str, adapter: str | None, target: str | None, schema: str | None, threads: int | None
) -> None:
    """Print the profile that a CONNECTION makes, secrets masked.

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
@click.option("--adapter", metavar="ADAPTER", help="dbt's name of the warehouse's adapter: snowflake, bigquery, …")
@click.argument("message", required=False)
def classify_message(adapter: str | None, message: str | None) -> None:
    """Say as JSON what an error is, and whether a retry can help. Without a MESSAGE it reads standard input."""
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

    built = msgspec.to_builtins(value)
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
        say(f"spanline: {said}", err=True)
        sys.exit(USAGE_ERROR)
    except BrokenPipeError:
        raise
    except OSError as error:  # a home that is somebody else's, a directory that is gone, a full disk
        where = f"{error.filename}: " if error.filename is not None else ""
        say_line(f"spanline: {where}{error.strerror or error}", err=True)
        sys.exit(USAGE_ERROR)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
