"""OpenLineage: a run for the session and for each node that starts, over openlineage-python's own transport.

The specification asks for exactly one START and one of COMPLETE, FAIL and ABORT for each run id:
https://openlineage.io/docs/spec/run-cycle. Skipped nodes have no run.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import msgspec
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    JobFacet,
    RunFacet,
    error_message_run,
    job_type_job,
    parent_run,
    processing_engine_run,
    schema_dataset,
    sql_job,
)
from openlineage.client.transport.http import HttpTransport

from spanline import __version__, events, ids
from spanline.events import Event, NodeDescribed
from spanline.lineage import names
from spanline.sinks.base import Message, Rejected
from spanline.state import CANCELLED, DIED, INTERRUPTED, SUCCESS
from spanline.state import RunState as State

PRODUCER: Final = f"https://pypi.org/project/spanline/{__version__}"
NAMESPACE_VARIABLE: Final = "OPENLINEAGE_NAMESPACE"
_DEFAULT_NAMESPACE: Final = "dbt"
_HTTP_LANES: Final = 8
_REJECTED: Final = frozenset((400, 405, 410, 413, 415, 422))
_ABORTED: Final = frozenset((CANCELLED, INTERRUPTED))
_CLOSING: Final = (events.DbtFinished, events.AttemptEnded, events.RunnerDied, events.SessionEnded)


class OpenLineageSink:
    """Tells an OpenLineage backend of one run."""

    name = "openlineage"
    batch = 1
    linger = 0.0

    def __init__(self) -> None:
        self._client = _configured_client()
        self._of_threads = threading.local()
        self._translator = Translator(os.environ.get(NAMESPACE_VARIABLE) or _DEFAULT_NAMESPACE)
        # Only HTTP gains by several connections; files and consoles must be written by one.
        self.lanes = _HTTP_LANES if isinstance(self._client.transport, HttpTransport) else 1

    def translate(self, event: Event, state: State) -> Iterable[Message]:
        """See `Translator`."""
        return self._translator(event, state)

    def deliver(self, payloads: Sequence[object]) -> None:
        """Emit over the configured transport. Raises `Rejected` where the backend says that the event is wrong."""
        for payload in payloads:
            if not isinstance(payload, RunEvent):
                raise TypeError(f"no OpenLineage event: {payload!r}")
            try:
                self._client_of_thread().emit(payload)
            except Exception as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status in _REJECTED:
                    raise Rejected(str(error)) from error
                raise

    def close(self) -> None:
        """Close the client; those of the other threads end with them."""
        self._client.close(timeout=1.0)

    def _client_of_thread(self) -> OpenLineageClient:
        # An HTTP transport holds a session, which is not for several threads.
        transport = self._client.transport
        if not isinstance(transport, HttpTransport):
            return self._client
        client: OpenLineageClient | None = getattr(self._of_threads, "client", None)
        if client is None:
            client = self._of_threads.client = copy.copy(self._client)
            client.transport = HttpTransport(transport.config)
        return client


def _configured_client() -> OpenLineageClient:
    """The client that the environment configures.

    It writes the variables that it makes of `OPENLINEAGE_URL` and the API key into our environment, where they would
    outlast a change of these, and reach dbt: they are taken out again.
    """
    before = set(os.environ)
    client = OpenLineageClient()
    for name in set(os.environ) - before:
        if name.startswith("OPENLINEAGE__"):
            del os.environ[name]
    return client


class _Open(msgspec.Struct):
    """A run that has begun and not ended."""

    run_id: str
    session: int
    step: int
    attempt: int
    command: str
    sql: str | None = None


class Translator:
    """From events to OpenLineage events: a function of the events so far, and nothing else."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._open: dict[str, _Open] = {}
        self._session_open = False

    def __call__(self, event: Event, state: State) -> Iterator[Message]:
        """Yield what this event, already applied to the state, means."""
        if isinstance(event, events.SessionStarted):
            self._open.clear()
            self._session_open = False
        elif isinstance(event, events.DbtConfigured):
            yield from self._start_session(event, state)
        elif isinstance(event, events.NodeStarted):
            yield from self._start_node(event, state)
        elif isinstance(event, events.NodeCompiled):
            if event.unique_id in self._open:
                self._open[event.unique_id].sql = event.sql
        elif isinstance(event, events.NodeFinished):
            yield from self._end_node(event.unique_id, event, state)
        elif isinstance(event, _CLOSING):
            for unique_id in list(self._open):
                yield from self._end_node(unique_id, event, state)
            if isinstance(event, events.SessionEnded):
                yield from self._end_session(event, state)

    # --- the session ----------------------------------------------------------------------------------------------

    def _start_session(self, event: Event, state: State) -> Iterator[Message]:
        if self._session_open:
            return
        self._session_open = True
        yield self._session_message(RunState.START, event, state, {})

    def _end_session(self, event: events.SessionEnded, state: State) -> Iterator[Message]:
        yield from self._start_session(event, state)
        facets: dict[str, RunFacet] = {}
        if event.outcome == SUCCESS:
            kind = RunState.COMPLETE
        elif event.outcome in (CANCELLED, DIED):
            kind = RunState.ABORT
        else:
            kind = RunState.FAIL
            facets["errorMessage"] = _error_facet(_session_error(state))
        self._session_open = False
        yield self._session_message(kind, event, state, facets)

    def _session_message(self, kind: RunState, event: Event, state: State, facets: dict[str, RunFacet]) -> Message:
        run_id = _session_run_id(state)
        parent = _parent_facet(state.session.lineage_parent if state.session else None)
        if parent is not None:
            facets["parent"] = parent
        return Message(
            self._event(
                kind,
                event,
                run_id,
                self._session_job(state),
                {**_engine(state), **facets},
                {"jobType": _job_type("JOB")},
            ),
            key=run_id,
            barrier=True,
        )

    def _session_job(self, state: State) -> str:
        project = state.config.project if state.config else None
        if project is None:
            project = Path(state.session.project_dir).name if state.session else "unknown"
        return names.session_job_name(project)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _start_node(self, event: events.NodeStarted, state: State) -> Iterator[Message]:
        node = state.descriptions.get(event.unique_id)
        if node is None or node.materialized == "ephemeral":
            return
        place = (event.session, event.step, event.attempt)
        run_id = ids.lineage_run_id(state.run_id, *place, event.unique_id)
        attempt = state.attempt
        command = attempt.command if attempt is not None else ""
        self._open[event.unique_id] = _Open(run_id, *place, command)
        yield self._node_message(RunState.START, event, node, self._open[event.unique_id], state)

    def _end_node(self, unique_id: str, event: Event, state: State) -> Iterator[Message]:
        run = self._open.pop(unique_id, None)
        node = state.descriptions.get(unique_id)
        result = state.nodes.get(unique_id)
        if run is None or node is None or result is None:
            return
        facets: dict[str, RunFacet] = {}
        if result.status in _ABORTED:
            kind = RunState.ABORT
        elif result.failed:
            kind = RunState.FAIL
            facets["errorMessage"] = _error_facet(result.message or result.status)
        else:
            kind = RunState.COMPLETE
        yield self._node_message(kind, event, node, run, state, facets)

    def _node_message(
        self,
        kind: RunState,
        event: Event,
        node: NodeDescribed,
        run: _Open,
        state: State,
        facets: dict[str, RunFacet] | None = None,
    ) -> Message:
        job_facets: dict[str, JobFacet] = {"jobType": _job_type(node.resource_type.upper())}
        if run.sql and kind is not RunState.START:
            job_facets["sql"] = sql_job.SQLJobFacet(query=run.sql, producer=PRODUCER)
        parent = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=_session_run_id(state)),
            job=parent_run.Job(namespace=self._namespace, name=self._session_job(state)),
            producer=PRODUCER,
        )
        namespace = _dataset_namespace(state)
        built = self._event(
            kind,
            event,
            run.run_id,
            names.job_name(node, run.command),
            {**_engine(state), "parent": parent, **(facets or {})},
            job_facets,
        )
        built.inputs = [
            InputDataset(namespace=namespace, name=name, facets=_schema(upstream))
            for name, upstream in _inputs(node, state).items()
        ]
        output = names.dataset_name(node) if node.resource_type in _WRITERS else None
        if output is not None:
            built.outputs = [OutputDataset(namespace=namespace, name=output, facets=_schema(node))]
        return Message(built, key=run.run_id)

    def _event(
        self,
        kind: RunState,
        event: Event,
        run_id: str,
        job: str,
        run_facets: dict[str, RunFacet],
        job_facets: dict[str, JobFacet],
    ) -> RunEvent:
        return RunEvent(
            eventTime=_iso(event.time),
            eventType=kind,
            run=Run(runId=run_id, facets=run_facets),
            job=Job(namespace=self._namespace, name=job, facets=job_facets),
            producer=PRODUCER,
        )


_WRITERS: Final = frozenset(("model", "seed", "snapshot"))


def _upstream_relations(node: NodeDescribed, state: State) -> Iterator[NodeDescribed]:
    """What a node reads: its upstream nodes, an ephemeral one replaced by what that reads; each once."""
    waiting = list(reversed(node.depends_on))
    seen = set()
    while waiting:
        unique_id = waiting.pop()
        upstream = state.descriptions.get(unique_id)
        if unique_id in seen or upstream is None:
            continue
        seen.add(unique_id)
        if upstream.materialized == "ephemeral":
            waiting.extend(reversed(upstream.depends_on))
        else:
            yield upstream


def _inputs(node: NodeDescribed, state: State) -> dict[str, NodeDescribed]:
    """The datasets that a node reads, by name: two nodes (a seed and a source over it) may be one table."""
    found: dict[str, NodeDescribed] = {}
    for upstream in _upstream_relations(node, state):
        name = names.dataset_name(upstream)
        if name is not None and (name not in found or not found[name].columns):
            found[name] = upstream
    return found


def _session_run_id(state: State) -> str:
    return state.session.lineage_run_id if state.session else state.run_id


def _dataset_namespace(state: State) -> str:
    config = state.config
    return names.dataset_namespace(config.adapter_type, config.connection) if config else "dbt"


def _session_error(state: State) -> str:
    attempt = state.attempt
    if attempt is not None and attempt.finished is not None and attempt.finished.exception:
        return attempt.finished.exception
    failed = [node.unique_id for node in state.failed]
    return f"{len(failed)} failed: {', '.join(failed[:20])}" if failed else "dbt failed"


def _parent_facet(parent: str | None) -> parent_run.ParentRunFacet | None:
    """The parent that `namespace/name/run id` names, as OPENLINEAGE_PARENT_ID does."""
    parts = parent.rsplit("/", 2) if parent else []
    if len(parts) != 3:
        return None
    namespace, name, run_id = parts
    try:
        run = parent_run.Run(runId=run_id)
    except ValueError:
        return None
    return parent_run.ParentRunFacet(run=run, job=parent_run.Job(namespace=namespace, name=name), producer=PRODUCER)


def _engine(state: State) -> dict[str, RunFacet]:
    if state.dbt is None:
        return {}
    return {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=state.dbt.dbt_version,
            name="dbt",
            openlineageAdapterVersion=__version__,
            producer=PRODUCER,
        )
    }


def _job_type(kind: str) -> job_type_job.JobTypeJobFacet:
    return job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DBT", jobType=kind, producer=PRODUCER)


def _error_facet(message: str) -> error_message_run.ErrorMessageRunFacet:
    return error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="SQL", producer=PRODUCER)


def _schema(node: NodeDescribed) -> dict[str, DatasetFacet]:
    if not node.columns:
        return {}
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name=column.name, type=column.data_type, description=column.description)
        for column in node.columns
    ]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)}


def _iso(nanoseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanoseconds // 1000)
    return moment.isoformat()
