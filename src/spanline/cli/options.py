"""The options of the command line: what stands before a command, and what several commands share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:  # each command imports what it needs: `spanline --help` must be instant
    from typing import Literal

    from click.shell_completion import CompletionItem

    from spanline.api.run import Run
    from spanline.home.limits import LimitArguments

    Output = Literal["text", "json", "log-json"]


class Options:
    """What stands before the command."""

    def __init__(self) -> None:
        self.python: str | None = None
        self.dbt: str | None = None
        self.home: str | None = None
        self.run_id: str | None = None
        self.detach = False
        self.progress = True
        self.output: Output = "text"
        self.artifacts_url: str | None = None
        self.limits: LimitArguments = {}
        """Those that were given; a run that is resumed keeps its own in place of the others."""

    def attach(self, reference: str) -> Run:
        """The run that RUN names. Raises `RunNotFound`."""
        from spanline.api.start import attach  # noqa: PLC0415

        return attach(reference, home_dir=self.home)


class RunReference(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A run's id, a unique prefix of it, or `latest`."""

    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The ids that begin so, the newest first."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        from spanline.api.start import find_home  # noqa: PLC0415
        from spanline.home import home  # noqa: PLC0415

        root = ctx.find_root()
        known = [run.run_id for run in home.runs(find_home(root.params.get("home")))]
        return [CompletionItem(name) for name in ("latest", *reversed(known)) if name.startswith(incomplete)]


class Seconds(click.FloatRange):
    """A number of seconds."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails for one that is not finite."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):  # as JSON, which a run is kept in, knows neither inf nor nan
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return found


class Limit(click.Option):
    """An option that is a field of `Limits`, which says its default."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Its line of the help text."""
        from spanline.home.limits import Limits  # noqa: PLC0415

        record = super().get_help_record(ctx)
        default = getattr(Limits(), str(self.name))
        if record is None or not default:
            return record
        return record[0], f"{record[1]}  [default: {default:g}]"


SECONDS: Final = Seconds(min=0)
_OF_ARGUMENTS: Final[Mapping[str, str]] = {
    "artifacts": "--artifacts-url",
    "dbt": "--dbt",
    "home_dir": "--home",
    "profiles_dir": "--profiles-dir",
    "python": "--python",
    "run_id": "--run-id",
    "schema": "--schema",
}
"""Options by the arguments that they are in Python."""


def of_options(said: str) -> str:
    """A message of the library, which speaks of arguments, in the words of the command line."""
    for argument, option in _OF_ARGUMENTS.items():
        said = said.replace(f"`{argument}`", option)
    return said


def _set_home(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj.home = value


run_argument = click.argument("reference", metavar="RUN", type=RunReference())
home_option = click.option(
    "--home",
    metavar="DIR",
    callback=_set_home,
    expose_value=False,
    help="Directory of the runs.  [default: SPANLINE_HOME, else .spanline in the project, else ~/.spanline]",
)
artifacts_url_option = click.option(
    "--artifacts-url", metavar="URL", help="Where artifacts are stored.  [default: SPANLINE_ARTIFACTS_URL]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
