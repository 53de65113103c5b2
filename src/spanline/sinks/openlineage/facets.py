"""Facets of runs and jobs: plain functions from what the journal says to what OpenLineage calls it.

https://openlineage.io/docs/spec/facets. Our own (`spanline_run`, `spanline_session`, `spanline_columns`) are described
in `docs/openlineage.md`, each with its JSON schema in `docs/facets`.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Final
from urllib.parse import quote, urlsplit

import attr
from openlineage.client.constants import __version__ as client_version
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    documentation_job,
    error_message_run,
    execution_parameters_run,
    external_query_run,
    extraction_error_run,
    job_dependencies_run,
    job_type_job,
    nominal_time_run,
    ownership_job,
    parent_run,
    processing_engine_run,
    source_code_job,
    source_code_location_job,
    sql_job,
    tags_job,
    tags_run,
    test_run,
)

from spanline._version import __version__
from spanline.dbt.arguments import option
from spanline.events import LineageRun, NodeDescribed, RepositoryFound
from spanline.journal import ids
from spanline.journal.state import NodeState, RunState

HOME: Final = "https://github.com/spanline/spanline"
PRODUCER: Final = f"{HOME}/tree/v{__version__}"
PARENT_PRODUCER: Final = f"https://github.com/OpenLineage/OpenLineage/tree/{client_version}/integration/dbt"
"""DataHub takes the orchestrator from the producer of the parent facet, and refuses events whose it doesn't know."""

_MESSAGE_CHARACTERS: Final = 16_000
_UNTOLD_OPTIONS: Final = ("--vars", "--args")
"""Options whose values may hold anything."""
_SQL_OPTIONS: Final = ("--inline", "--inline-direct")


def own_schema(facet: str) -> str:
    """Where the JSON schema of a facet of ours is: `docs/facets`."""
    return f"{HOME}/blob/v{__version__}/docs/facets/{facet}.json#/$defs/{facet}"


RunFacets = dict[str, RunFacet]
JobFacets = dict[str, JobFacet]


def time_of(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as OpenLineage writes a time: ISO 8601, to the microsecond."""
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanoseconds // 1000)).isoformat()


def cut(text: str, characters: int) -> str:
    """The text, or as much of it as may be sent, with a mark."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]}\n… cut by spanline: {len(text)} characters in all"


# --- our own --------------------------------------------------------------------------------------------------------


@attr.define
class SpanlineRunFacet(RunFacet):
    """Ids by which a run's journal, logs and traces are found, and versions."""

    run_id: str
    session: int
    spanline_version: str
    step: int | None = None
    attempt: int | None = None
    unique_id: str | None = None
    invocation_id: str | None = None
    command: str | None = None
    dbt_version: str | None = None
    adapter: str | None = None
    target: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    resumes: str | None = None
    trigger_reason: str | None = None

    @staticmethod
    def _get_schema() -> str:
        return own_schema("SpanlineRunFacet")


@attr.define
class SkippedNode:
    """A node that wasn't run, and the failed one because of which."""

    unique_id: str
    cause: str | None = None


@attr.define
class NamedDataset:
    """A dataset, without what is known of it."""

    namespace: str
    name: str


@attr.define
class SpanlineSessionFacet(RunFacet):
    """How a session ended: nodes by status, those that were skipped, and what it has read and written.

    Its datasets stand here because they can't be the inputs and outputs of its run: docs/marquez.md says why.
    """

    outcome: str
    counts: dict[str, int]
    skipped: list[SkippedNode]
    skipped_count: int
    reads: list[NamedDataset]
    reads_count: int
    writes: list[NamedDataset]
    writes_count: int

    @staticmethod
    def _get_schema() -> str:
        return own_schema("SpanlineSessionFacet")


@attr.define
class SpanlineColumnsFacet(RunFacet):
    """Says that a run only carries the columns that came too late for the run `of`."""

    of: str

    @staticmethod
    def _get_schema() -> str:
        return own_schema("SpanlineColumnsFacet")


_LISTED: Final = 1000


def session_end(
    state: RunState, outcome: str, reads: Sequence[NamedDataset], writes: Sequence[NamedDataset]
) -> RunFacets:
    """What the last event of a session adds; `reads` is what it has read and not written."""
    skipped = [SkippedNode(node.unique_id, node.cause) for node in state.counted if node.status == "skipped"]
    skipped += [SkippedNode(unique_id) for unique_id in _left_out(state)]
    counts = state.counts
    if skipped:
        counts["skipped"] = len(skipped)
    incomplete = tags_run.TagsRunFacetFields("incomplete", "true", "SPANLINE")
    return {
        **({"tags": tags_run.TagsRunFacet(tags=[incomplete], producer=PRODUCER)} if state.incomplete else {}),
        "spanline_session": SpanlineSessionFacet(
            outcome=outcome,
            counts=counts,
            skipped=skipped[:_LISTED],
            skipped_count=len(skipped),
            reads=list(reads[:_LISTED]),
            reads_count=len(reads),
            writes=list(writes[:_LISTED]),
            writes_count=len(writes),
            producer=PRODUCER,
        ),
    }


def _left_out(state: RunState) -> list[str]:
    """What dbt had not come to when `--fail-fast` or a cancel ended it: skipped by its results, without an event."""
    attempt = state.attempt
    if attempt is None or attempt.finished is None:
        return []
    return [unique_id for unique_id in attempt.selection if unique_id not in state.nodes]


def late_columns(of: str) -> RunFacets:
    """What says that a run only carries columns."""
    return {"spanline_columns": SpanlineColumnsFacet(of=of, producer=PRODUCER)}


# --- runs -----------------------------------------------------------------------------------------------------------


def of_session(state: RunState) -> RunFacets:
    """The facets of every event of a session's own run."""
    found = {**engine(state), "spanline_run": _identity(state, None)}
    session = state.session
    if session is not None:
        parent = outer_parent(session.lineage_parent, session.lineage_root)
        if parent is not None:
            found["parent"] = parent
        nominal = nominal_time(session.steps)
        if nominal is not None:
            found["nominalTime"] = nominal
    return found


def of_node(state: RunState, unique_id: str, place: tuple[int, int, int]) -> RunFacets:
    """The facets of every event of a node's run, except the parent."""
    return {**engine(state), "spanline_run": _identity(state, unique_id, place)}


def _identity(state: RunState, unique_id: str | None, place: tuple[int, int, int] = (0, 0, 0)) -> SpanlineRunFacet:
    session, step, attempt = place
    number = state.session_number
    traceparent = state.session.traceparent if state.session else None
    span = ids.span_id(state.run_id, session, step, attempt, unique_id) if unique_id else None
    dbt, config = state.dbt, state.config
    return SpanlineRunFacet(
        run_id=state.run_id,
        session=number,
        spanline_version=state.session.spanline_version if state.session else __version__,
        step=step or None,
        attempt=attempt or None,
        unique_id=unique_id,
        invocation_id=dbt.invocation_id if dbt else None,
        command=dbt.command if dbt else None,
        dbt_version=dbt.dbt_version if dbt else None,
        adapter=f"{config.adapter_type}={config.adapter_version}" if config else None,
        target=config.target if config else None,
        trace_id=f"{ids.session_trace_id(state.run_id, number, traceparent):032x}",
        span_id=f"{span or ids.span_id(state.run_id, number, 'session'):016x}",
        resumes=ids.lineage_run_id(state.run_id, number - 1) if number > 1 else None,
        trigger_reason=state.trigger_reason if unique_id is None else None,
        producer=PRODUCER,
    )


def engine(state: RunState) -> RunFacets:
    """What ran: dbt, by its version."""
    return {"processing_engine": _engine(state.dbt.dbt_version if state.dbt else "unknown")}


@cache
def _engine(version: str) -> processing_engine_run.ProcessingEngineRunFacet:
    return processing_engine_run.ProcessingEngineRunFacet(
        version=version, name="dbt", openlineageAdapterVersion=__version__, producer=PRODUCER
    )


def parent(namespace: str, job: str, run_id: str, outer: parent_run.ParentRunFacet | None) -> parent_run.ParentRunFacet:
    """The session as the parent of its nodes; the root is what started the session, else the session."""
    if outer is not None and outer.root is not None:
        root = outer.root
    elif outer is not None:
        root = _root(outer.job.namespace, outer.job.name, outer.run.runId)
    else:
        root = _root(namespace, job, run_id)
    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=run_id),
        job=parent_run.Job(namespace=namespace, name=job),
        root=root,
        producer=PARENT_PRODUCER,
    )


def _root(namespace: str, job: str, run_id: str) -> parent_run.Root:
    return parent_run.Root(run=parent_run.RootRun(runId=run_id), job=parent_run.RootJob(namespace=namespace, name=job))


def outer_parent(parent: LineageRun | None, root: LineageRun | None) -> parent_run.ParentRunFacet | None:
    """The run that the session is part of, where the caller has named one."""
    if parent is None:
        return None
    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=parent.run_id),
        job=parent_run.Job(namespace=parent.namespace, name=parent.job),
        root=_root(root.namespace, root.job, root.run_id) if root is not None else None,
        producer=PARENT_PRODUCER,
    )


def nominal_time(steps: Sequence[Sequence[str]]) -> nominal_time_run.NominalTimeRunFacet | None:
    """The stretch of time that dbt was told to build, by `--event-time-start` and `--event-time-end`."""
    start, end = (_first_option(steps, f"--event-time-{name}") for name in ("start", "end"))
    if start is None:
        return None
    try:
        return nominal_time_run.NominalTimeRunFacet(
            nominalStartTime=_utc(start), nominalEndTime=_utc(end) if end else None, producer=PRODUCER
        )
    except ValueError:
        return None  # dbt says what is wrong with it


def _first_option(steps: Iterable[Sequence[str]], name: str) -> str | None:
    return next((value for argv in steps if (value := option(argv, name)) is not None), None)


def _utc(moment: str) -> str:
    # dbt takes a date, or a time in UTC.
    found = datetime.fromisoformat(moment.strip())
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).isoformat()


def execution_parameters(state: RunState, *, sql: bool) -> RunFacets:
    """What dbt was called with, without the values of vars and arguments, and without SQL where that mayn't be told."""
    dbt, config = state.dbt, state.config
    argv = list(dbt.argv) if dbt else []
    values: dict[str, object] = {
        "argv": shlex.join(_without_values(argv, _UNTOLD_OPTIONS if sql else (*_UNTOLD_OPTIONS, *_SQL_OPTIONS)))
    }
    if config is not None:
        values |= {"project": config.project, "profile": config.profile, "target": config.target}
        values["threads"] = config.threads
    parameters = [
        execution_parameters_run.ExecutionParameter(key=key, value=cut(str(value), _MESSAGE_CHARACTERS))
        for key, value in values.items()
        if value is not None
    ]
    return {
        "executionParameters": execution_parameters_run.ExecutionParametersRunFacet(
            parameters=parameters, producer=PRODUCER
        )
    }


def _without_values(argv: Sequence[str], options: Sequence[str]) -> list[str]:
    """The arguments, with the values of some options left out."""
    found: list[str] = []
    for argument in argv:
        option, equals, _ = argument.partition("=")
        if found and found[-1] in options:
            found.append("…")
        else:
            found.append(f"{option}=…" if equals and option in options else argument)
    return found


def error(message: str) -> RunFacets:
    """Why a run failed."""
    return {
        "errorMessage": error_message_run.ErrorMessageRunFacet(
            message=cut(message, _MESSAGE_CHARACTERS), programmingLanguage="SQL", producer=PRODUCER
        )
    }


def external_query(query_id: str, source: str) -> RunFacets:
    """The warehouse's own id of the query that built a node."""
    return {
        "externalQuery": external_query_run.ExternalQueryRunFacet(
            externalQueryId=query_id, source=source, producer=PRODUCER
        )
    }


def extraction_error(why: str, unique_id: str) -> RunFacets:
    """Why lineage is less than it should be."""
    return {
        "extractionError": extraction_error_run.ExtractionErrorRunFacet(
            totalTasks=1,
            failedTasks=1,
            errors=[extraction_error_run.Error(errorMessage=cut(why, _MESSAGE_CHARACTERS), task=unique_id)],
            producer=PRODUCER,
        )
    }


def dependencies(upstream: Iterable[tuple[str, str | None]], namespace: str) -> RunFacets:
    """The jobs, and where they have them their run ids, that must have succeeded before a node may start."""
    found = [
        job_dependencies_run.JobDependency(
            job=job_dependencies_run.JobIdentifier(namespace=namespace, name=job),
            run=job_dependencies_run.RunIdentifier(runId=run_id) if run_id else None,
            dependency_type="DIRECT_INVOCATION",
            sequence_trigger_rule="FINISH_TO_START",
            status_trigger_rule="EXECUTE_ON_SUCCESS",
        )
        for job, run_id in upstream
    ]
    if not found:
        return {}
    return {"jobDependencies": job_dependencies_run.JobDependenciesRunFacet(upstream=found, producer=PRODUCER)}


def run_tags(node: NodeDescribed) -> RunFacets:
    """A node's tags, and its meta, as dbt-ol has them."""
    fields = [tags_run.TagsRunFacetFields(*tag) for tag in (*tags_of(node), *meta_of(node))]
    return {"tags": tags_run.TagsRunFacet(tags=fields, producer=PRODUCER)} if fields else {}


def tags_of(node: NodeDescribed) -> Iterator[tuple[str, str, str]]:
    """A node's tags, each as key, value and source, which is the order of the client's three classes of tags."""
    return ((tag, "true", "DBT") for tag in node.tags)


def meta_of(node: NodeDescribed) -> Iterator[tuple[str, str, str]]:
    """The entries of a node's meta that are one value, in the same form."""
    for key, value in node.meta.items():
        if isinstance(value, bool):
            yield key, str(value).lower(), "DBT_META"
        elif isinstance(value, (str, int, float)) and value != "":
            yield key, cut(str(value), 1000), "DBT_META"


def test(node: NodeDescribed, result: NodeState, sql: str | None, *, arguments: bool) -> RunFacets:
    """What a test, or a unit test, found; with its SQL and arguments where they may be told."""
    info = node.test
    if info is None:
        return {}
    execution = test_run.TestExecution(
        name=node.name,
        status="error" if has_errored(result) else "fail" if found_issues(result) else "pass",
        severity=info.severity or "error",
        type=test_type(node),
        description=node.description or None,
        expected=expectation(node),
        actual=None if result.failing_rows is None else str(result.failing_rows),
        content=sql,
        contentType="sql" if sql else None,
        params=dict(info.arguments) or None if arguments else None,
    )
    return {"test": test_run.TestRunFacet(tests=[execution], producer=PRODUCER)}


def found_issues(result: NodeState) -> bool:
    """Whether a test found something, were it only worth a warning."""
    return result.status in ("warn", "fail")


def has_errored(result: NodeState) -> bool:
    """Whether a test could not be carried out, so that nothing is known of what it tests."""
    return result.is_failure and not found_issues(result)


def test_type(node: NodeDescribed) -> str:
    """What kind of test it is: not_null, unique, …, custom_sql, unit_test."""
    info = node.test
    if info is None:
        return node.resource_type
    return "custom_sql" if info.kind == "singular" else info.name


def expectation(node: NodeDescribed) -> str | None:
    """The number of failing rows that a test complains of."""
    info = node.test
    if info is None or info.kind is None:
        return None
    return info.warn_if if info.severity == "warn" else info.error_if


# --- jobs -----------------------------------------------------------------------------------------------------------


def job_type(kind: str) -> JobFacets:
    """What a job is: JOB for the session, else dbt's resource type."""
    return {"jobType": _job_type(kind.upper())}


@cache
def _job_type(kind: str) -> job_type_job.JobTypeJobFacet:
    return job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DBT", jobType=kind, producer=PRODUCER)


def code(text: str, language: str | None, characters: int) -> JobFacets:
    """The compiled code: SQL, or another language's."""
    text = cut(text, characters)
    if language in (None, "sql"):
        return {"sql": sql_job.SQLJobFacet(query=text, producer=PRODUCER)}
    return {
        "sourceCode": source_code_job.SourceCodeJobFacet(language=str(language), sourceCode=text, producer=PRODUCER)
    }


def of_job(node: NodeDescribed, repository: RepositoryFound | None, project: str | None) -> JobFacets:
    """What the project says of a node's job. Paths of other packages' nodes are not within the project."""
    found = job_type(node.resource_type)
    if node.description:
        found["documentation"] = documentation_job.DocumentationJobFacet(
            description=cut(node.description, _MESSAGE_CHARACTERS), contentType="text/markdown", producer=PRODUCER
        )
    owners = owner_names(node)
    if owners:
        found["ownership"] = ownership_job.OwnershipJobFacet(
            owners=[ownership_job.Owner(name=owner, type="OWNER") for owner in owners], producer=PRODUCER
        )
    if node.tags:
        fields = [tags_job.TagsJobFacetFields(*tag) for tag in tags_of(node)]
        found["tags"] = tags_job.TagsJobFacet(tags=fields, producer=PRODUCER)
    if repository is not None and node.path and node.package_name == project:
        found |= source_location(repository, posixpath.normpath(f"./{repository.path}/{node.path}"))
    return found


def owner_names(node: NodeDescribed) -> list[str]:
    """Who answers for a node, each once, by the name or else the addresses."""
    names = (name for owner in node.owners for name in ([owner.name] if owner.name else owner.emails))
    return list(dict.fromkeys(names))


def source_location(repository: RepositoryFound, path: str) -> JobFacets:
    """Where the code of a job is."""
    web = _web_address(repository.url)
    url = f"{web}/blob/{repository.commit}/{quote(path)}" if web else f"git:{repository.commit}/{quote(path)}"
    return {
        "sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet(
            type="git",
            url=url,
            repoUrl=repository.url,
            path=path,
            version=repository.commit,
            branch=repository.branch,
            producer=PRODUCER,
        )
    }


def _web_address(remote: str | None) -> str | None:
    """Where a browser sees a remote: hosts of git serve `ssh://git@host/x`, `git@host:x` and `https://host/x` alike."""
    try:
        parts = urlsplit(_as_url(remote or ""))
        host, path = parts.hostname, parts.path.rstrip("/").removesuffix(".git")
    except ValueError:
        return None
    if not host or not path:
        return None
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc}{path}"
    return f"https://{host}{path}" if parts.scheme in ("ssh", "git", "git+ssh") else None


def _as_url(remote: str) -> str:
    """A remote as a URL: git also takes `user@host:path`, which has no slash before its colon."""
    host, colon, path = remote.partition(":")
    if colon and "/" not in host and not path.startswith("//"):
        return f"ssh://{host}/{path.lstrip('/')}"
    return remote
