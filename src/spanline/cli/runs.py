"""Commands on the runs that are kept: list, show, follow, cancel, replay, upload and prune them."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

import click

from spanline.cli.options import SECONDS, Options, artifacts_url_option, home_option, json_option, run_argument
from spanline.cli.printing import echo_json, listed, plain
from spanline.runner.shared import exit_codes
from spanline.system.terminal import say, say_json, say_line

if TYPE_CHECKING:
    from spanline.home.cursor import Cursor


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of runs.")
@home_option
@json_option
@click.pass_obj
def runs(options: Options, limit: int, *, as_json: bool) -> None:
    """List the latest runs, the newest first."""
    from spanline.api.run import Run  # noqa: PLC0415
    from spanline.api.start import find_home  # noqa: PLC0415
    from spanline.home import home  # noqa: PLC0415

    for directory in reversed(home.runs(find_home(options.home))[-limit:]):
        try:
            line = listed(Run(directory))
        except OSError as error:  # somebody else's
            say_line(f"spanline: {directory.run_id}: {error.strerror or error}", err=True)
            continue
        if as_json:
            echo_json(line)
        else:
            say_line("{id}  {started}  {outcome:9}  {command}".format(**line))


@click.command()
@run_argument
@home_option
@json_option
@click.pass_obj
def show(options: Options, reference: str, *, as_json: bool) -> None:
    """Show how a run ended, or where it stands."""
    from spanline.home.cursor import undelivered  # noqa: PLC0415
    from spanline.results.from_state import result_of  # noqa: PLC0415
    from spanline.results.summary import summary  # noqa: PLC0415

    run = options.attach(reference)
    live = run.live
    state = run.state if live else run.state.closed()
    directory = run.directory
    result = result_of(state, directory.path, undelivered(directory), artifacts=directory.last_artifacts())
    if as_json:
        echo_json({**plain(result), **({"outcome": "running", "exit_code": None, "error": None} if live else {})})
    elif live:
        running = ", ".join(node.unique_id for node in state.open_nodes)
        say_line(f"running: {state.done} of {state.total} nodes done; now: {running or '-'}")
        say_line(f"  kept in {run.directory.path}")
    else:
        say(summary(result))


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Print events as they happen, until the run ends.")
@home_option
@json_option
@click.pass_obj
def tail(options: Options, reference: str, *, follow: bool, as_json: bool) -> None:
    """Print a run's events; with -f as they happen."""
    from spanline.cli.event_line import line  # noqa: PLC0415

    for record in options.attach(reference).records(live=follow):
        if as_json:
            say_json(record.line)
        elif text := line(record.event):
            say_line(text)


@click.command()
@run_argument
@click.option("--grace", type=SECONDS, help="Seconds before dbt is killed.  [default: the run's own]")
@click.option("--wait/--no-wait", default=True, help="Wait for the run to end.")
@home_option
@click.pass_obj
def cancel(options: Options, reference: str, grace: float | None, *, wait: bool) -> None:
    """Cancel a run and its queries. Nodes that are running end as cancelled."""
    run = options.attach(reference)
    if not run.live:
        say_line(f"run {run.id} has already ended")
        return
    run.cancel(grace, by=f"spanline cancel (pid {os.getpid()})")
    if wait:
        say_line(f"{run.wait().outcome}: run {run.id}")


@click.command()
@run_argument
@click.option("--all", "everything", is_flag=True, help="Send all events again, delivered ones included.")
@click.option("--timeout", type=SECONDS, default=60.0, show_default=True, help="Seconds before it gives up.")
@home_option
@json_option
@click.pass_obj
def replay(options: Options, reference: str, timeout: float, *, everything: bool, as_json: bool) -> None:
    """Send undelivered events, under their original ids. Exits with 1 if some are still undelivered."""
    from spanline.supervisor.replay import replay as replay_run  # noqa: PLC0415

    run = options.attach(reference)
    cursors = replay_run(run.directory, everything=everything, timeout=timeout)
    if not cursors:
        raise click.UsageError("no sink is configured: set OPENLINEAGE_URL, OTEL_EXPORTER_OTLP_ENDPOINT or the like")
    for name, cursor in cursors.items():
        if as_json:
            echo_json({"sink": name, **plain(cursor)})
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


@click.command()
@run_argument
@artifacts_url_option
@home_option
@json_option
@click.pass_obj
def upload(options: Options, reference: str, artifacts_url: str | None, *, as_json: bool) -> None:
    """Store the artifacts of a run that has ended, again or for the first time. Exits with 1 if that fails."""
    from spanline.api.start import upload as upload_run  # noqa: PLC0415

    told = upload_run(reference, home_dir=options.home, artifacts=artifacts_url)
    if as_json:
        from spanline.events import fields_of  # noqa: PLC0415

        echo_json(fields_of(told)[1])
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


@click.command()
@click.option("--older-than", metavar="AGE", help="Remove runs that are older: 12h, 30d, 8w.")
@click.option("--keep", type=click.IntRange(min=0), help="Maximum number of runs to keep, the latest first.")
@click.option("--max-size", metavar="SIZE", help="Maximum size of the runs to keep, the latest first: 500M, 2G.")
@click.option("--undelivered", "undelivered_too", is_flag=True, help="Include runs with undelivered events.")
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@home_option
@json_option
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
            echo_json({"id": run.run_id, "removed": kept is None and not dry_run, "kept": kept})
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
