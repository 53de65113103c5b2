"""From a run's events to OpenLineage events: which there are, and when.

A pure function of the events so far, so that an event made again is the same event. The specification asks for exactly
one START and one of COMPLETE, FAIL and ABORT for each run id: https://openlineage.io/docs/spec/run-cycle. Skipped nodes
have no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attr
import msgspec
from openlineage.client.event_v2 import InputDataset, Job, JobEvent, OutputDataset, Run, RunEvent
from openlineage.client.event_v2 import RunState as Kind
from openlineage.client.facet_v2 import parent_run

from spanline import events
from spanline.events import ColumnsResolved, Event, NodeDescribed
from spanline.journal import ids
from spanline.journal.state import CANCELLED, DIED, INTERRUPTED, SUCCESS, NodeState, RunState
from spanline.lineage import names
from spanline.lineage.case import PROJECT
from spanline.lineage.options import case_of, has_short_job_names, tells_columns, tells_exposures, tells_sql
from spanline.runner.shared import settings
from spanline.sinks.base import Message
from spanline.sinks.openlineage import assertions, datasets, facets
from spanline.sinks.openlineage.assertions import Assertions
from spanline.sinks.openlineage.bounds import SQL_CHARACTERS, bounded, sql_characters
from spanline.sinks.openlineage.datasets import Datasets
from spanline.sinks.openlineage.facets import PRODUCER, JobFacets, RunFacets, time_of

_DEFAULT_NAMESPACE: Final = "dbt"
COLUMNS_WAIT: Final = 2_000_000_000
"""How long the beginning, and the end, of a node's run wait for its columns, in nanoseconds."""

_ABORTED: Final = frozenset((CANCELLED, INTERRUPTED))
_NOT_BUILDING: Final = frozenset(("compile", "docs generate", "show"))
_HAS_COLUMNS: Final = frozenset(("model", "snapshot"))


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What may be told, and under which names."""

    namespace: str = _DEFAULT_NAMESPACE
    sql: bool = True
    columns: bool = True
    exposures: bool = True
    case: str = PROJECT
    short_job_names: bool = False
    job_name_variables: dict[str, str] = {}

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Options:
        """The options that the environment sets. Raises ValueError for one that there isn't."""
        return cls(
            namespace=environ.get(settings.OPENLINEAGE_NAMESPACE) or _DEFAULT_NAMESPACE,
            sql=tells_sql(environ),
            columns=tells_columns(environ),
            exposures=tells_exposures(environ),
            case=case_of(environ),
            short_job_names=has_short_job_names(environ),
            job_name_variables={name: value for name, value in environ.items() if name in names.JOB_NAME_VARIABLES},
        )


_Key = tuple[int, int, int, str]
"""Session, step, attempt and unique id: what a node's run is derived from."""


class _Open(msgspec.Struct):
    """A run that has begun and whose end wasn't told. `facets` are those of each of its events.

    `expects_columns` is whether more of its columns will be known once its SQL has been looked at.
    """

    key: _Key
    run_id: str
    command: str
    facets: RunFacets
    began: int
    expects_columns: bool
    told: bool = False
    outputs: list[OutputDataset] = []
    sql: str | None = None
    has_columns: bool = False
    columns: ColumnsResolved | None = None
    ended: int = 0
    result: NodeState | None = None
    query_id: str | None = None

    @property
    def unique_id(self) -> str:
        return self.key[3]


class Translator:
    """Yields the messages that each event means."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options if options is not None else Options()
        self._handlers: dict[type[Event], Callable[[Any, RunState], Iterator[Message]]] = {
            events.SessionStarted: self._begin,
            events.RepositoryFound: self._repository_found,
            events.DbtConfigured: self._configured,
            events.NodeDescribed: self._take_description,
            events.NodeStarted: self._start,
            events.HookStarted: self._start,
            events.NodeCompiled: self._compiled,
            events.QueryStarted: self._asked,
            events.ColumnResolverStarted: self._resolver_started,
            events.ColumnResolverStopped: self._resolver_stopped,
            events.ColumnsResolved: self._columns_resolved,
            events.NodeFinished: self._finished,
            events.HookFinished: self._finished,
            events.DbtFinished: self._abort_open,
            events.AttemptEnded: self._abort_open,
            events.RunnerDied: self._abort_open,
            events.SessionEnded: self._end_session,
        }
        self._reset()

    def _reset(self) -> None:
        self._open: dict[_Key, _Open] = {}
        self._untold: dict[_Key, _Open] = {}
        self._waiting: dict[_Key, _Open] = {}
        self._gone_without: dict[_Key, _Open] = {}
        self._datasets = Datasets(columns=self._options.columns, case=self._options.case)
        self._assertions = Assertions()
        self._repository: events.RepositoryFound | None = None
        self._session_open = False
        self._resolving = False

    def __call__(self, event: Event, state: RunState) -> Iterator[Message]:
        """Yield what this event, already applied to the state, means; nothing where the run isn't known."""
        if state.session is None:
            return
        if self._untold or self._waiting:
            yield from self._overdue(state)
        handler = self._handlers.get(type(event))
        if handler is not None:
            yield from handler(event, state)

    # --- the session ----------------------------------------------------------------------------------------------

    def _begin(self, _event: events.SessionStarted, _state: RunState) -> Iterator[Message]:
        self._reset()
        yield from ()

    def _repository_found(self, event: events.RepositoryFound, _state: RunState) -> Iterator[Message]:
        self._repository = event
        yield from ()

    def _configured(self, event: events.DbtConfigured, state: RunState) -> Iterator[Message]:
        self._datasets.configure(event)
        yield from self._start_session(state.now, state)

    def _start_session(self, at: int, state: RunState) -> Iterator[Message]:
        if self._session_open:
            return
        self._session_open = True
        found = facets.execution_parameters(state, sql=self._options.sql)
        yield self._of_session(Kind.START, at, state, found)

    def _end_session(self, event: events.SessionEnded, state: RunState) -> Iterator[Message]:
        yield from self._abort_open(event, state)
        yield from self._flush_waiting(state)
        self._gone_without.clear()
        yield from self._start_session(state.started, state)  # dbt may never have been configured
        yield from self._exposures(state)
        reads, writes = self._datasets.read_and_written(state)
        found = facets.session_end(state, event.outcome, reads, writes)
        if event.outcome == SUCCESS:
            kind = Kind.COMPLETE
        elif event.outcome in (CANCELLED, DIED):
            kind = Kind.ABORT
        else:
            kind = Kind.FAIL
            found |= self._error(_session_error(state))
        self._session_open = False
        yield self._of_session(kind, state.now, state, found)

    def _of_session(self, kind: Kind, at: int, state: RunState, more: RunFacets) -> Message:
        run_id = _session_run_id(state)
        job_facets = facets.job_type("JOB")
        if self._repository is not None:
            path = f"{self._repository.path}/dbt_project.yml".lstrip("/")
            job_facets |= facets.source_location(self._repository, path)
        built = RunEvent(
            eventTime=time_of(at),
            eventType=kind,
            run=Run(runId=run_id, facets=facets.of_session(state) | more),
            job=Job(namespace=self._options.namespace, name=self._session_job(state), facets=job_facets),
            producer=PRODUCER,
        )
        return Message(bounded(built), key=run_id, barrier=True, name=_name(kind, built.job.name, run_id))

    def _session_job(self, state: RunState) -> str:
        config, session = state.config, state.session
        steps = session.steps if session else []
        argv = [argument for step in steps for argument in step]
        variables = self._options.job_name_variables
        profile = config.profile if config else None
        return names.session_job_name(state.project, profile, argv, variables, short=self._options.short_job_names)

    def _job_name(self, node: NodeDescribed, command: str = "") -> str:
        return names.job_name(node, command, short=self._options.short_job_names)

    def _exposures(self, state: RunState) -> Iterator[Message]:
        """Consumers are run by nobody here, so they are jobs without a run; they are told of what was built."""
        if not self._options.exposures:
            return
        for node in state.descriptions.values():
            if node.resource_type == "exposure" and any(_is_built(upstream, state) for upstream in node.depends_on):
                yield Message(
                    bounded(
                        JobEvent(
                            eventTime=time_of(state.now),
                            job=Job(
                                namespace=self._options.namespace,
                                name=self._job_name(node),
                                facets=self._job_facets(node, state),
                            ),
                            inputs=self._datasets.inputs(node, state),
                            producer=PRODUCER,
                        )
                    ),
                    key=node.unique_id,
                    name=f"event of {node.unique_id}",
                    reads=frozenset(datasets.read_by(node, state)),
                )

    # --- nodes and hooks ------------------------------------------------------------------------------------------

    def _take_description(self, event: NodeDescribed, _state: RunState) -> Iterator[Message]:
        self._datasets.describe(event)
        yield from ()

    def _start(self, event: events.NodeStarted | events.HookStarted, state: RunState) -> Iterator[Message]:
        unique_id = event.unique_id
        node = _description(unique_id, state)
        if node is None or node.resource_type == "exposure" or node.is_ephemeral:
            return
        key = _key(event, unique_id)
        command = _command(state, event.step)
        of_run = {**facets.of_node(state, unique_id, key[:3]), "parent": self._parent(state)}
        expects = self._options.columns and command not in _NOT_BUILDING and _has_columns(node)
        run = _Open(key, ids.lineage_run_id(state.run_id, *key), command, of_run, state.now, expects)
        self._open[key] = run
        if expects and self._resolving:
            self._untold[key] = run
        else:
            yield from self._begin_run(run, state)

    def _begin_run(self, run: _Open, state: RunState) -> Iterator[Message]:
        """The START of a run; with what it writes only where no more of that will be known at its end.

        Of an output that is told twice in a run, with other columns, a Marquez makes two versions, and either current.
        One without its column lineage takes that away from a DataHub until the end. It stands behind the STARTs of what
        has written what it reads, so that it is delivered behind their ends.
        """
        node = _described(run.unique_id, state)
        run.told = True
        self._untold.pop(run.key, None)
        read = datasets.read_by(node, state)
        for writer in [one for one in self._untold.values() if _written_by(one, state) in read]:
            yield from self._begin_run(writer, state)
        more = self._dependencies(node, run, state) | facets.run_tags(node)
        if not run.expects_columns or run.columns is not None:
            run.outputs = self._outputs(node, run, state)
        inputs, outputs = self._datasets.inputs(node, state), _copies(run.outputs)
        yield self._of_node(Kind.START, run.began, node, run, state, more, inputs, outputs)

    def _dependencies(self, node: NodeDescribed, run: _Open, state: RunState) -> facets.RunFacets:
        if node.resource_type == "unit_test":
            return {}  # it runs before its model
        return facets.dependencies(self._upstream_jobs(node, run, state), self._options.namespace)

    def _upstream_jobs(self, node: NodeDescribed, run: _Open, state: RunState) -> Iterator[tuple[str, str | None]]:
        for one in datasets.upstream(node, state):
            if one.resource_type == "source":
                continue
            ran = state.nodes.get(one.unique_id)
            here = ran is not None and (ran.step, ran.attempt) == run.key[1:3] and ran.status != "skipped"
            run_id = ids.lineage_run_id(state.run_id, *run.key[:3], one.unique_id) if here else None
            yield self._job_name(one, run.command), run_id

    def _compiled(self, event: events.NodeCompiled, state: RunState) -> Iterator[Message]:
        run, node = self._open.get(_key(event, event.unique_id)), state.descriptions.get(event.unique_id)
        if run is not None and node is not None:
            run.sql = event.sql
            run.has_columns = _has_columns(node)
        yield from ()

    def _asked(self, event: events.QueryStarted, state: RunState) -> Iterator[Message]:
        # dbt says the name of a hook where it begins with it: its SQL is what it asks the warehouse.
        if event.unique_id is not None and event.unique_id in state.hooks:
            run = self._open.get(_key(event, event.unique_id))
            if run is not None and run.sql is None:
                run.sql = event.sql
        yield from ()

    def _finished(self, event: events.NodeFinished | events.HookFinished, state: RunState) -> Iterator[Message]:
        run = self._open.pop(_key(event, event.unique_id), None)
        result = state.nodes.get(event.unique_id) or state.hooks.get(event.unique_id)
        if run is None or result is None:
            return
        run.ended = result.finished or state.now
        run.result = msgspec.structs.replace(result)
        run.query_id = event.query_id if isinstance(event, events.NodeFinished) else None
        self._take_result(run, result, state)
        lacks_columns = run.has_columns and run.columns is None and _kind(result) is Kind.COMPLETE
        if lacks_columns and self._resolving:
            self._waiting[run.key] = run
        else:
            yield from self._end(run, state)
            if lacks_columns:
                self._gone_without[run.key] = run

    def _take_result(self, run: _Open, result: NodeState, state: RunState) -> None:
        """Take what has become of the datasets that a run was about."""
        node = _described(run.unique_id, state)
        if _kind(result) is Kind.COMPLETE and run.command not in _NOT_BUILDING:
            name = self._datasets.write(node)
            if name is not None:
                self._assertions.forget(name)
        tested = self._tested(node, run, state)
        said = self._said(node, result)
        if said is not None:
            self._assertions.add(run.unique_id, tested, said)
        if tested:
            run.ended = self._assertions.after(tested, run.ended)

    def _abort_open(self, _event: Event, state: RunState) -> Iterator[Message]:
        for key, run in list(self._open.items()):
            result = state.nodes.get(run.unique_id) or state.hooks.get(run.unique_id)
            del self._open[key]
            if result is not None:
                run.ended = result.finished or state.now
                run.result = msgspec.structs.replace(result)
                yield from self._end(run, state)

    def _end(self, run: _Open, state: RunState) -> Iterator[Message]:
        if not run.told:
            yield from self._begin_run(run, state)
        node, result = _described(run.unique_id, state), run.result
        if result is None:
            raise LookupError(f"{run.unique_id} has not ended")
        kind = _kind(result)
        more: RunFacets = {}
        if kind is Kind.FAIL:
            more |= self._error(result.message or result.status)
        if run.query_id:
            more |= facets.external_query(run.query_id, datasets.namespace_of(state))
        sql = facets.cut(run.sql, SQL_CHARACTERS) if run.sql and self._options.sql else None
        if _is_tested(node, result):
            more |= facets.test(node, result, sql, arguments=self._tells_all)
        if run.columns is not None and run.columns.error and self._options.columns:
            why = run.columns.error if self._options.sql else "the SQL could not be read, or not in full"
            more |= facets.extraction_error(why, run.unique_id)
        inputs = self._datasets.inputs(node, state, self._of_input(node, run, state))
        outputs = _copies(run.outputs) or self._outputs(node, run, state)
        if kind is Kind.COMPLETE:
            for output in outputs:
                output.outputFacets = datasets.statistics(result)
        yield self._of_node(kind, run.ended, node, run, state, more, inputs, outputs)

    @property
    def _tells_all(self) -> bool:
        return self._options.sql and self._options.columns

    def _error(self, message: str) -> facets.RunFacets:
        # The first line says where it happened; what follows is the warehouse's, which quotes SQL and names columns.
        return facets.error(message if self._tells_all else message.partition("\n")[0])

    def _of_input(self, node: NodeDescribed, run: _Open, state: RunState) -> dict[str, assertions.InputFacets]:
        """What is said of the datasets that a test, or a check of freshness, was about."""
        checked = run.result.freshness if run.result is not None else None
        fresh = assertions.last_updated(checked) if checked is not None else {}
        return {name: self._assertions.facets(name) | fresh for name in self._tested(node, run, state)}

    def _tested(self, node: NodeDescribed, run: _Open, state: RunState) -> list[str]:
        """The datasets that a run has tested."""
        if run.result is None:
            return []
        if run.result.freshness is not None:
            return list(datasets.read_by(node, state))
        if node.resource_type != "test" or not _is_tested(node, run.result):
            return []
        tested = [state.descriptions[unique_id] for unique_id in _tested(node) if unique_id in state.descriptions]
        return [name for name in map(names.dataset_name, tested) if name is not None]

    def _said(self, node: NodeDescribed, result: NodeState) -> assertions.Assertion | None:
        if result.freshness is not None:
            return assertions.of_freshness(result.freshness)
        column = self._datasets.column if self._options.columns else None
        return assertions.of_test(node, result, column=column, arguments=self._tells_all)

    def _outputs(self, node: NodeDescribed, run: _Open, state: RunState) -> list[OutputDataset]:
        """What a node writes: nothing, where it is only compiled or shown."""
        return [] if run.command in _NOT_BUILDING else self._datasets.output(node, state, run.columns)

    def _of_node(
        self,
        kind: Kind,
        at: int,
        node: NodeDescribed,
        run: _Open,
        state: RunState,
        more: RunFacets,
        inputs: list[InputDataset],
        outputs: list[OutputDataset],
        run_id: str | None = None,
    ) -> Message:
        run_id = run_id or run.run_id
        job_facets = self._job_facets(node, state)
        if run.sql and kind is not Kind.START and self._options.sql:
            job_facets |= facets.code(run.sql, node.language, sql_characters(outputs))
        built = RunEvent(
            eventTime=time_of(at),
            eventType=kind,
            run=Run(runId=run_id, facets={**run.facets, **more}),
            job=Job(
                namespace=self._options.namespace,
                name=self._job_name(node, run.command),
                facets=job_facets,
            ),
            inputs=inputs,
            outputs=outputs,
            producer=PRODUCER,
        )
        return Message(
            bounded(built),
            key=run_id,
            name=_name(kind, built.job.name, run_id),
            reads=frozenset(datasets.read_by(node, state)),
            writes=frozenset(filter(None, (_written_by(run, state),))),
            unfinished=kind is Kind.START,
        )

    def _job_facets(self, node: NodeDescribed, state: RunState) -> JobFacets:
        return facets.of_job(node, self._repository, state.config.project if state.config else None)

    def _parent(self, state: RunState) -> parent_run.ParentRunFacet:
        session = state.session
        outer = facets.outer_parent(session.lineage_parent, session.lineage_root) if session else None
        return facets.parent(self._options.namespace, self._session_job(state), _session_run_id(state), outer)

    # --- columns --------------------------------------------------------------------------------------------------

    def _resolver_started(self, _event: Event, _state: RunState) -> Iterator[Message]:
        self._resolving = self._options.columns
        yield from ()

    def _resolver_stopped(self, _event: Event, state: RunState) -> Iterator[Message]:
        self._resolving = False
        yield from self._flush_waiting(state)

    def _columns_resolved(self, event: ColumnsResolved, state: RunState) -> Iterator[Message]:
        if event.session != state.session_number:
            return  # of a resolver that has outlived its session
        self._datasets.resolve(event)
        if event.origin != "sql" or not self._options.columns:
            return
        key = _key(event, event.unique_id)
        if key in self._open:
            run = self._open[key]
            run.columns = event
            if not run.told:
                yield from self._begin_run(run, state)
        elif key in self._waiting:
            run = self._waiting.pop(key)
            run.columns = event
            yield from self._end(run, state)
        elif key in self._gone_without:
            run = self._gone_without.pop(key)
            run.columns = event
            if event.columns:
                yield from self._follow(run, event, state)

    def _overdue(self, state: RunState) -> Iterator[Message]:
        # Both are in the order in which they began, or ended.
        for run in list(self._untold.values()):
            if state.now < run.began + COLUMNS_WAIT:
                break
            if not run.told:
                yield from self._begin_run(run, state)
        for key, run in list(self._waiting.items()):
            if state.now < run.ended + COLUMNS_WAIT:
                break
            del self._waiting[key]
            self._gone_without[key] = run
            yield from self._end(run, state)

    def _flush_waiting(self, state: RunState) -> Iterator[Message]:
        for run in list(self._untold.values()):
            if not run.told:
                yield from self._begin_run(run, state)
        for key in list(self._waiting):
            yield from self._end(self._waiting.pop(key), state)

    def _follow(self, run: _Open, event: ColumnsResolved, state: RunState) -> Iterator[Message]:
        """Columns that came too late: in a run of their own of the same job, as `docs/marquez.md` says why."""
        node = _described(run.unique_id, state)
        run_id = ids.lineage_run_id(state.run_id, *run.key, "columns")
        more = facets.late_columns(run.run_id)
        inputs, outputs = self._datasets.inputs(node, state), self._outputs(node, run, state)
        for kind in (Kind.START, Kind.COMPLETE):
            yield self._of_node(kind, state.now, node, run, state, more, inputs, outputs, run_id)


def _name(kind: Kind, job: str, run_id: str) -> str:
    return f"{kind.value} of {job}, run {run_id}"


def _copies(outputs: Sequence[OutputDataset]) -> list[OutputDataset]:
    """The same outputs for another event, which may leave facets of them out."""
    return [attr.evolve(output) for output in outputs]


def _key(event: Event, unique_id: str) -> _Key:
    return (event.session, event.step, event.attempt, unique_id)


def _description(unique_id: str, state: RunState) -> NodeDescribed | None:
    """What is known of a node; a hook of the project is in no manifest's list of nodes."""
    found = state.descriptions.get(unique_id)
    if found is not None or unique_id not in state.hooks:
        return found
    package, _, name = unique_id.removeprefix("operation.").partition(".")
    return NodeDescribed(
        unique_id=unique_id, resource_type="operation", name=name or unique_id, package_name=package, language="sql"
    )


def _described(unique_id: str, state: RunState) -> NodeDescribed:
    """The same of one that has a run, and so was described before."""
    found = _description(unique_id, state)
    if found is None:
        raise LookupError(f"{unique_id} has a run without having been described")
    return found


def _written_by(run: _Open, state: RunState) -> str | None:
    """The dataset that a run writes in the end, whatever its START says of it."""
    return None if run.command in _NOT_BUILDING else datasets.written_by(_described(run.unique_id, state))


def _has_columns(node: NodeDescribed) -> bool:
    """Whether the SQL of a node tells its columns."""
    return node.resource_type in _HAS_COLUMNS and node.language == "sql"


def _is_built(unique_id: str, state: RunState) -> bool:
    node = state.nodes.get(unique_id)
    return node is not None and node.status == SUCCESS and _command(state, node.step) not in _NOT_BUILDING


def _kind(result: NodeState) -> Kind:
    if result.status in _ABORTED:
        return Kind.ABORT
    return Kind.FAIL if result.is_failure else Kind.COMPLETE


def _is_tested(node: NodeDescribed, result: NodeState) -> bool:
    """Whether a test has been done: `dbt compile` and its like end with it in success, which says nothing."""
    return node.resource_type in ("test", "unit_test") and result.status != SUCCESS and result.status not in _ABORTED


def _tested(node: NodeDescribed) -> list[str]:
    """What a test speaks of. dbt attaches one of a model to it, one of a source to nothing, a singular one neither."""
    info = node.test
    if info is not None and info.attached_node:
        return [info.attached_node]
    if info is not None and info.kind == "generic":
        return [unique_id for unique_id in node.depends_on if unique_id.startswith("source.")] or node.depends_on
    return node.depends_on


def _command(state: RunState, step: int) -> str:
    """The step's command; of a `dbt retry` the one that it repeats, as jobs keep their names."""
    return next((attempt.repeats or attempt.command for attempt in state.attempts if attempt.step == step), "")


def _session_run_id(state: RunState) -> str:
    return state.session.lineage_run_id if state.session else state.run_id


def _session_error(state: RunState) -> str:
    attempt = state.attempt
    if attempt is not None and attempt.finished is not None and attempt.finished.exception:
        return attempt.finished.exception
    failed = [node.unique_id for node in state.failed_nodes]
    return f"{len(failed)} failed: {', '.join(failed[:20])}" if failed else "dbt failed"
