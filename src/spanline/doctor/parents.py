"""Who started us, according to the environment: the parents of a run in lineage and in a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spanline.doctor.finding import OFF, OK, PROBLEM, Finding
from spanline.journal import ids
from spanline.runner.shared import settings
from spanline.supervisor.lineage_parent import lineage_parent


def parents(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What a run that starts here would have as its parents."""
    yield _in_lineage(environ)
    yield _in_trace(environ)


def _in_lineage(environ: Mapping[str, str]) -> Finding:
    topic = "parent in lineage"
    given = [name for name in settings.LINEAGE_PARENT if environ.get(name)]
    parent, _ = lineage_parent(environ)
    if parent is not None:
        return Finding(OK, topic, f"job {parent.job} in {parent.namespace}, run {parent.run_id}")
    if given:
        how = f"write {settings.OPENLINEAGE_PARENT_ID} as namespace/job/run id, where the id is a UUID"
        return Finding(PROBLEM, topic, f"{' and '.join(given)} cannot be read", how)
    return Finding(OFF, topic, f"none: {settings.OPENLINEAGE_PARENT_ID} is not set")


def _in_trace(environ: Mapping[str, str]) -> Finding:
    topic = "parent in the trace"
    given = environ.get(settings.TRACEPARENT, "")
    if ids.is_traceparent(given):
        return Finding(OK, topic, given.strip())
    if given:
        how = "write it as https://www.w3.org/TR/trace-context/ says"
        return Finding(PROBLEM, topic, f"{settings.TRACEPARENT} cannot be read", how)
    return Finding(OFF, topic, f"none: {settings.TRACEPARENT} is not set")
