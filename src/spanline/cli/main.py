"""The command line: `spanline dbt …`, which is dbt, observed; and what one does with the runs that it leaves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click
from click.core import ParameterSource

from spanline._version import __version__
from spanline.cli import run, runs, tools
from spanline.cli.options import SECONDS, Limit, Options, of_options
from spanline.runner.shared import exit_codes
from spanline.system.collector import collect_seldom
from spanline.system.stdio import open_streams
from spanline.system.terminal import Errors, say, say_line, show_exceptions

_RUNS_DBT: Final = ("dbt", "retry")
_ONLY: Final[Mapping[str, Sequence[str]]] = {
    "dbt": ("dbt",),
    "home": (*_RUNS_DBT, "cancel", "demo", "doctor", "prune", "replay", "runs", "show", "stats", "tail", "upload"),
    "python": ("dbt", "demo", "doctor"),
    "run_id": ("dbt",),
}
"""The commands that use an option of the group; those that aren't listed are for commands that run dbt."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="spanline")
@click.option("--python", metavar="PATH", help="Python interpreter that has dbt.  [default: this one]")
@click.option("--dbt", metavar="PATH", help="The dbt v2 program.  [default: beside a Python without dbt Core]")
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
@click.option("--retry-limit", cls=Limit, type=click.IntRange(min=1), help="Maximum attempts for transient failures.")
@click.option("--retry-delay", cls=Limit, type=SECONDS, help="Seconds before the second attempt.")
@click.option("--retry-within", cls=Limit, type=SECONDS, help="Seconds in which a new attempt may begin.")
@click.option("--retry-partial", cls=Limit, is_flag=True, help="Retry although other failures are permanent.")
@click.option("--timeout", cls=Limit, type=SECONDS, help="Seconds before the run is cancelled.")
@click.option("--node-timeout", cls=Limit, type=SECONDS, help="Seconds a node may take before the run is cancelled.")
@click.option("--grace", cls=Limit, type=SECONDS, help="Seconds before a cancelled dbt is killed.")
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


for _command in (
    run.dbt_command,
    run.retry_command,
    runs.cancel,
    runs.prune,
    runs.replay,
    runs.runs,
    runs.show,
    runs.tail,
    runs.upload,
    tools.classify_message,
    tools.completion,
    tools.demo,
    tools.doctor,
    tools.download,
    tools.profile_command,
    tools.stats,
):
    cli.add_command(_command)


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
    collect_seldom()
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
        say(f"spanline: {of_options(said)}", err=True)
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
