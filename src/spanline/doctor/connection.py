"""dbt, the project, and whether dbt connects to the warehouse: an observed `dbt debug`, in a home for that alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spanline.api.start import start
from spanline.dbt import interpreter
from spanline.dbt.project import PROJECT_FILE, find_project
from spanline.doctor.finding import OFF, OK, PROBLEM, Finding
from spanline.errors import SpanlineError, UsageError
from spanline.results.result import ADVICE, RunResult
from spanline.runner.shared import settings

if TYPE_CHECKING:
    from spanline.profiles import Profile

_SINKS_OFF: Final[Mapping[str, str]] = {
    settings.OPENLINEAGE_DISABLED: "true",
    settings.OTEL_SDK_DISABLED: "true",
    settings.PROMETHEUS_TEXTFILE: "",
    f"{settings.ARTIFACTS_PREFIX}URL": "",
}
"""Nobody wants to see this run in a backend."""
_SECONDS: Final = 120.0


def connection(python: str | None, args: Sequence[str]) -> Iterator[Finding]:
    """`args` are dbt's options that say which project, profile and target."""
    found = interpreter.find_interpreter(python)
    try:
        version = interpreter.check(found)
    except UsageError as error:
        yield Finding(PROBLEM, "dbt", str(error))
        return
    adapters = ", ".join(f"dbt-{name} {number}" for name, number in interpreter.adapters(found).items())
    yield Finding(OK, "dbt", f"dbt Core {version} with {adapters or 'no adapter'} ({found})")
    if not adapters:
        yield Finding(PROBLEM, "adapter", "there is none", "install your warehouse's, such as dbt-postgres")
    project = find_project(args, Path.cwd(), os.environ)
    if project is None or not (project / PROJECT_FILE).exists():
        where = project or Path.cwd()
        yield Finding(OFF, "project", f"no {PROJECT_FILE} in {where}", "go to a dbt project, or use --project-dir")
        return
    yield Finding(OK, "project", str(project))
    yield _connects(found, args)


def _connects(python: str, args: Sequence[str]) -> Finding:
    topic = "connection"
    try:
        result = debugged(args, python=python)
    except SpanlineError as error:
        return Finding(PROBLEM, topic, str(error))
    if result.success:
        return Finding(OK, topic, "dbt reads the profile and connects to the warehouse")
    advice = ADVICE.get(result.failure.category, "") if result.failure is not None else ""
    return Finding(PROBLEM, topic, _said(result), advice or "`dbt debug` shows more")


def debugged(
    args: Sequence[str] = (),
    *,
    python: str | None = None,
    project_dir: Path | None = None,
    profile: Profile | None = None,
) -> RunResult:
    """What `dbt debug` with these arguments comes to, observed, but kept nowhere and told to no backend.

    For the other arguments, and what is raised, see `start`.
    """
    with tempfile.TemporaryDirectory(prefix="spanline-") as folder:
        # A supervisor of its own, whose sinks are what these variables say.
        run = start(
            ["debug", "--log-path", folder, *args],
            project_dir=project_dir,
            python=python,
            home_dir=folder,
            environment=_SINKS_OFF,
            profile=profile,
            detached=True,
            timeout=_SECONDS,
        )
        try:
            return run.wait()
        finally:
            if run.live:  # somebody has interrupted us
                run.cancel(grace=0.0)


def _said(result: RunResult) -> str:
    return " ".join((result.error or f"dbt debug ended with exit code {result.exit_code}").split())
