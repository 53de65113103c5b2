"""Commands beside the runs: statistics, stored artifacts, profiles, error messages, the demo, completion."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from spanline.cli.options import Options, artifacts_url_option, home_option, json_option, of_options
from spanline.cli.printing import echo_json, plain
from spanline.runner.shared import exit_codes
from spanline.system.terminal import say, say_line


@click.command()
@click.option(
    "--since", default="7d", show_default=True, metavar="WHEN", help="Start of the period: 12h, 7d, 2w ago, or a date."
)
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Maximum length of each list.")
@click.option("--check", is_flag=True, help="Print the alerts; exit with 1 if a critical one fires.")
@home_option
@json_option
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
        echo_json(report)
    elif check:
        say(text.alerts(report.alerts))
    else:
        say(text.text(report))
    if check and report.critical:
        sys.exit(exit_codes.FAILURE)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@artifacts_url_option
@click.option("--dag", help="Airflow DAG; outside Airflow, the dbt project.")
@click.option("--task", help="Airflow task; outside Airflow, the dbt command.")
@click.option("--run", help="Airflow run; outside Airflow, the run's id.")
@click.option("--any-outcome", is_flag=True, help="Include runs that did not succeed.")
@json_option
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
        echo_json({"url": found.url, "folder": str(folder), **plain(found.contents)})
    else:
        say_line(f"{found.url} ({found.contents.outcome}, {found.contents.ended}) is in {folder}")


@click.command("profile")
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


@click.command("classify")
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
    echo_json(plain(classify(text, adapter)))


@click.command()
@click.option("--project-dir", metavar="DIR", help="dbt project.  [default: here or above]")
@click.option("--profiles-dir", metavar="DIR", help="Directory of profiles.yml, as for dbt.")
@click.option("--profile", metavar="PROFILE", help="Profile, as for dbt.")
@click.option("--target", metavar="TARGET", help="Target, as for dbt.")
@home_option
@json_option
@click.pass_obj
def doctor(options: Options, /, *, as_json: bool, **of_dbt: str | None) -> None:
    """Check dbt, the connection, backends, disk and kept runs. Exits with 1 if there is a problem."""
    from spanline.api.start import find_home  # noqa: PLC0415
    from spanline.doctor.examine import examine  # noqa: PLC0415
    from spanline.doctor.finding import PROBLEM  # noqa: PLC0415

    args = [part for name, value in of_dbt.items() if value for part in (f"--{name.replace('_', '-')}", value)]
    problems = 0
    for finding in examine(options.python, args, find_home(options.home)):
        problems += finding.status == PROBLEM
        if as_json:
            echo_json(finding)
        else:
            say_line(of_options(finding.line))
    if problems:
        sys.exit(exit_codes.FAILURE)


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), help="Directory for the project.")
@home_option
@click.pass_obj
def demo(options: Options, directory: Path | None) -> None:
    """Build the example project on DuckDB and show what was captured."""
    from spanline.cli.demo import demo as show_demo  # noqa: PLC0415

    sys.exit(show_demo(directory, options.python, options.home))


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes spanline's commands: eval "$(spanline completion bash)"."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete for {shell}")
    say(kind(ctx.find_root().command, {}, "spanline", "_SPANLINE_COMPLETE").source())
