"""Commands that run dbt: `dbt` and `retry`, shown as the options say."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import click

from spanline.cli.options import Options, run_argument
from spanline.cli.printing import echo_json, listed
from spanline.cli.signals import Signals
from spanline.runner.shared import exit_codes, settings
from spanline.system.stdio import write
from spanline.system.terminal import json_line, say, say_line

if TYPE_CHECKING:
    from spanline.api.run import Run
    from spanline.system.stdio import Stdio

_HELP: Final = frozenset(("-h", "--help"))
_VERSION: Final = frozenset(("-v", "-V", "--version"))
_LINE_COMMANDS: Final = frozenset(
    ("build", "clone", "compile", "source freshness", "run", "seed", "snapshot", "test", "retry")
)
"""dbt's commands that a live line is drawn under: they run nodes, and never ask anything."""


class _Verbatim(click.Command):
    """A command whose arguments are somebody else's: not looked at, not changed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep all of them."""
        ctx.params["args"] = tuple(args)
        return []


@click.command("dbt", cls=_Verbatim, add_help_option=False)
@click.pass_obj
def dbt_command(options: Options, args: tuple[str, ...]) -> None:
    """Run dbt: all that follows the word `dbt` is dbt's."""
    from spanline.dbt import interpreter  # noqa: PLC0415
    from spanline.dbt.arguments import command_of  # noqa: PLC0415

    if not args or args[0] in _VERSION or _HELP.intersection(args):
        python = interpreter.find_interpreter(options.python)
        program = interpreter.find_program(python, options.dbt)
        interpreter.check(python, program)
        interpreter.replace_ourselves(python, args, program)
    if options.detach:
        _name(options, _start(options, args, None))
        return
    lined = command_of(args) in _LINE_COMMANDS
    sys.exit(_run(options, lambda stdio: _start(options, args, stdio), lined=lined))


@click.command("retry")
@run_argument
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
    known = options.attach(reference)
    if not full and not known.live and known.is_complete:
        say(f"run {known.id} is complete: there is nothing left to do (--full does it all again)")
        return

    def begin(stdio: Stdio | None) -> Run:
        return _resume(options, known.id, stdio, full=full, profiles_dir=profiles_dir)

    if options.detach:
        _name(options, begin(None))
        return
    sys.exit(_run(options, begin, lined=True))


def _name(options: Options, run: Run) -> None:
    """Say which run was left to a supervisor of its own."""
    if options.output == "json":
        echo_json(listed(run))
    else:
        say_line(run.id)


def _start(options: Options, args: tuple[str, ...], stdio: Stdio | None) -> Run:
    from spanline.api.start import start  # noqa: PLC0415

    return start(
        list(args),
        python=options.python,
        dbt=options.dbt,
        home_dir=options.home,
        run_id=options.run_id,
        detached=options.detach,
        stdio=stdio,
        foreground=_on_a_terminals_input(),
        artifacts=options.artifacts_url,
        **options.limits,
    )


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


def _on_a_terminals_input() -> bool:
    return sys.stdin.isatty()


def _run(options: Options, begin: Callable[[Stdio | None], Run], *, lined: bool) -> int:
    """Begin a run, or find one that goes on, show it as the options say, and return its exit code."""
    with Signals() as signals:
        try:
            return _shown(options, begin, signals, lined=lined)
        except KeyboardInterrupt:
            if signals.followed is None:
                raise
            run_id = signals.followed.id
            say_line(f"spanline: run {run_id} continues; `spanline cancel {run_id}` cancels it", err=True)
            return exit_codes.INTERRUPTED


def _shown(options: Options, begin: Callable[[Stdio | None], Run], signals: Signals, *, lined: bool) -> int:
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


def _run_with_line(begin: Callable[[Stdio | None], Run], signals: Signals) -> int:
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


def _run_json(begin: Callable[[Stdio | None], Run], signals: Signals) -> int:
    with _silent() as stdio:
        run = begin(stdio)
        signals.watch(run)
        session = run.session
        for record in run.records():
            if record.event.session < session:
                continue  # of a run that is resumed, what was before
            write(sys.stdout.fileno(), json_line(record.line))
        return run.wait().exit_code


def _run_log_json(begin: Callable[[Stdio | None], Run], signals: Signals) -> int:
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
