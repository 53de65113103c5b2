"""The vocabulary: every type of event that a journal holds, and their codec.

An event is a frozen record. Times (`time`, and the pairs in `NodeFinished`) are nanoseconds since the epoch, durations
are seconds. `session`, `step` and `attempt` count from 1; 0 means that the event belongs to none. A type or a field
that this version doesn't know is kept in the journal, and reaches readers as `Unknown` or not at all.
"""

from __future__ import annotations

import re
from typing import Final, Union

import msgspec

VERSION: Final = 1


def _tag(class_name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_tag):
    """What every record carries: who wrote it, when, and for which invocation."""

    v: int = VERSION
    writer: str = ""
    seq: int = 0
    time: int = 0
    mono: int = 0
    session: int = 0
    step: int = 0
    attempt: int = 0


class Unknown(Event, frozen=True, kw_only=True):
    """A record of a type that this version doesn't know; `name` is its type and `raw` all its fields."""

    name: str
    raw: dict[str, object]


# --- written by the supervisor


class LineageRun(msgspec.Struct, frozen=True):
    """A run of somebody else's, as OpenLineage names it."""

    namespace: str
    job: str
    run_id: str


class SessionStarted(Event, frozen=True, kw_only=True):
    """A supervisor has taken the run in hand. `lineage_run_id` and `trace_id` name it to the backends.

    `project` is the name in `dbt_project.yml`, known before dbt has read that. One that `resumes` goes on where the
    session before has ended, else all is done from the start. `boot_id` names the boot of the host that monotonic times
    of the session count from. `conn_id` is the connection that dbt's profile is made of, where it is made of one.
    """

    run_id: str
    lineage_run_id: str
    trace_id: str
    spanline_version: str
    steps: list[list[str]]
    project_dir: str
    host: str
    pid: int
    detached: bool = False
    resumes: bool = False
    traceparent: str | None = None
    tracestate: str | None = None
    lineage_parent: LineageRun | None = None
    lineage_root: LineageRun | None = None
    caller: dict[str, str] = {}
    project: str | None = None
    boot_id: str = ""
    conn_id: str | None = None


class SessionEnded(Event, frozen=True, kw_only=True):
    """The session is over. `outcome` is success, failed, cancelled or died; `exit_code` is dbt's meaning of it."""

    outcome: str
    exit_code: int


class SinkDelivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a sink had come. `lag` is in seconds, from the first event that its backend had not acknowledged."""

    sink: str
    undelivered: int = 0
    lag: float = 0.0
    error: str | None = None


class DeliveryEnded(Event, frozen=True, kw_only=True):
    """The sinks have delivered all, or were given up. Stands behind the session's end, or that of a replay."""

    sinks: list[SinkDelivery]


class UploadedFile(msgspec.Struct, frozen=True):
    """A stored object: its name below the upload's URL; bytes of its content, and bytes that it takes there."""

    name: str
    size: int
    stored: int


class ArtifactsUploaded(Event, frozen=True, kw_only=True):
    """The session's artifacts were stored below `url`, or were not, for the reason in `error`.

    `cut` counts what was cut from them, by rule; `left_out` says of files why they are not among `files`.
    Stands behind the session's end, or where an upload was repeated.
    """

    url: str
    files: list[UploadedFile] = []
    cut: dict[str, int] = {}
    left_out: dict[str, str] = {}
    error: str | None = None

    @property
    def smaller(self) -> float:
        """By how much compression has made them smaller: 0.8 is to a fifth."""
        size = sum(file.size for file in self.files)
        return 1 - sum(file.stored for file in self.files) / size if size else 0.0


class RepositoryFound(Event, frozen=True, kw_only=True):
    """The project is in a git repository: its remote without credentials, and the project's path within it."""

    commit: str
    url: str | None = None
    branch: str | None = None
    path: str = ""


class StepStarted(Event, frozen=True, kw_only=True):
    """One dbt command of the run begins."""

    argv: list[str]


class AttemptStarted(Event, frozen=True, kw_only=True):
    """A runner has been started for a try of the step; `pid` is its process.

    `unfinished` is how many nodes it is to do, where earlier attempts have done the others.
    """

    argv: list[str]
    pid: int
    python: str
    unfinished: int | None = None


class AttemptEnded(Event, frozen=True, kw_only=True):
    """The runner's process has ended by itself."""

    exit_code: int


class RetryScheduled(Event, frozen=True, kw_only=True):
    """The attempt has failed because of something that may pass: another begins in `delay` seconds."""

    delay: float
    reason: str

    @property
    def category(self) -> str:
        """The category of the error that it was, with which the reason begins."""
        return self.reason.partition(" (")[0]


class RunnerDied(Event, frozen=True, kw_only=True):
    """The runner's process ended without a word from dbt: killed by `signal`, or with `exit_code`."""

    signal: str | None = None
    exit_code: int | None = None
    detail: str = ""

    @property
    def how(self) -> str:
        """`SIGKILL`, `exit code 3`."""
        return self.signal or f"exit code {self.exit_code}"

    @property
    def said(self) -> str:
        """What is known of it, in words."""
        return f"the process that ran dbt died ({self.how}). {self.detail}".strip()


class RunnerKilled(Event, frozen=True, kw_only=True):
    """The supervisor has killed the runner and its descendants."""

    reason: str


class CancelRequested(Event, frozen=True, kw_only=True):
    """The supervisor was asked to cancel; after `grace` seconds the runner is killed.

    `unique_id` is the node that took too long, where it is for that.
    """

    by: str
    reason: str = ""
    grace: float = 0.0
    unique_id: str | None = None


class JournalStopped(Event, frozen=True, kw_only=True):
    """The runner could journal no more, for this `reason`: the attempt's journal is incomplete.

    How its nodes ended is from here on what dbt's `run_results.json` says, where there is one of this invocation.
    """

    reason: str


class Heartbeat(Event, frozen=True, kw_only=True):
    """The supervisor is alive."""


# --- written by the runner: the invocation


class InterruptReceived(Event, frozen=True, kw_only=True):
    """The runner was interrupted, by a signal or because its supervisor asked for it or is gone."""

    reason: str


class RunnerFailed(Event, frozen=True, kw_only=True):
    """An exception has left dbt that dbt didn't catch."""

    exception: str
    traceback: str = ""


class DbtStarted(Event, frozen=True, kw_only=True):
    """dbt has begun an invocation."""

    dbt_version: str
    python_version: str
    invocation_id: str
    argv: list[str] = []
    command: str = ""


class DbtConfigured(Event, frozen=True, kw_only=True):
    """dbt has read its project and profile. `connection` is the public part of the profile's credentials."""

    adapter_type: str
    adapter_version: str
    profile: str | None = None
    target: str | None = None
    threads: int | None = None
    project: str | None = None
    project_dir: str | None = None
    target_path: str | None = None
    log_path: str | None = None
    connection: dict[str, str | float | bool | None] = {}


class PhaseStarted(Event, frozen=True, kw_only=True):
    """dbt enters a phase: parse, compile or run."""

    phase: str


class Selection(Event, frozen=True, kw_only=True):
    """Everything that this invocation is to do; `repeats` is the command that a `dbt retry` repeats."""

    unique_ids: list[str]
    repeats: str | None = None


class NodesGone(Event, frozen=True, kw_only=True):
    """Nodes that this invocation was to do, as they were left undone, and that the project no longer has (enabled)."""

    unique_ids: list[str]


class ArtifactWritten(Event, frozen=True, kw_only=True):
    """dbt has written an artifact."""

    artifact_type: str
    path: str


class ArtifactKept(Event, frozen=True, kw_only=True):
    """The supervisor has copied an artifact of this invocation: the file's `name`, and its `size` in bytes."""

    name: str
    size: int


class Log(Event, frozen=True, kw_only=True):
    """A line of dbt's log of level info, warn or error, with the node that it speaks of."""

    level: str
    name: str
    message: str
    unique_id: str | None = None


class DbtFinished(Event, frozen=True, kw_only=True):
    """dbt has ended an invocation. `stats` are dbt's own counts (pass, warn, error, skip, total).

    `line` is where the exception stands in a file that can't be parsed, as in `NodeFinished`.
    """

    success: bool
    exit_code: int
    elapsed: float
    stats: dict[str, int] = {}
    exception: str | None = None
    line: tuple[int, str] | None = None


class DbtExited(Event, frozen=True, kw_only=True):
    """dbt's command line has returned, with its exit code."""

    exit_code: int


# --- written by the runner: nodes


class Relation(msgspec.Struct, frozen=True):
    """Where a node is in the warehouse. `name` is the relation as dbt writes it in SQL."""

    identifier: str
    name: str
    database: str | None = None
    schema: str | None = None


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column of a relation."""

    name: str
    data_type: str | None = None
    description: str | None = None


class Owner(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who answers for a node: a person or a team, by name, by their addresses, or by both."""

    name: str | None = None
    emails: list[str] = []


class TestInfo(msgspec.Struct, frozen=True):
    """What a test tests: its kind's name, the column, the node that it is attached to; when it warns and fails."""

    name: str
    kind: str | None = None
    severity: str | None = None
    column: str | None = None
    attached_node: str | None = None
    warn_if: str | None = None
    error_if: str | None = None
    arguments: dict[str, object] = {}


class ExposureInfo(msgspec.Struct, frozen=True):
    """A consumer of the project's data: https://docs.getdbt.com/docs/build/exposures."""

    type: str | None = None
    url: str | None = None
    label: str | None = None


class NodeDescribed(Event, frozen=True, kw_only=True):
    """What dbt's manifest says of a node; once for each node, before it starts.

    `columns` are the documented ones, of a seed those in its header. `added_columns` are those that dbt adds to what a
    snapshot selects. `on_schema_change` says what becomes of a relation that is there when its SQL has other columns:
    absent where it is made anew.
    """

    unique_id: str
    resource_type: str
    name: str
    package_name: str
    materialized: str | None = None
    language: str | None = None
    path: str | None = None
    description: str | None = None
    relation: Relation | None = None
    columns: list[Column] = []
    depends_on: list[str] = []
    tags: list[str] = []
    meta: dict[str, object] = {}
    owners: list[Owner] = []
    checksum: str | None = None
    added_columns: list[str] = []
    on_schema_change: str | None = None
    table_format: str | None = None
    catalog: str | None = None
    test: TestInfo | None = None
    exposure: ExposureInfo | None = None

    @property
    def is_ephemeral(self) -> bool:
        """Whether it is a model that dbt only compiles, into what reads it, and never names in its results."""
        return self.materialized == "ephemeral"


class NodeStarted(Event, frozen=True, kw_only=True):
    """dbt has begun to work on a node (skipped nodes never start)."""

    unique_id: str
    thread: str


class NodeCompiled(Event, frozen=True, kw_only=True):
    """The node's compiled code."""

    unique_id: str
    sql: str


Batch = tuple[str, str]
"""The (start, end) of a batch of a microbatch model, in ISO 8601."""


class Batches(msgspec.Struct, frozen=True):
    """Batches of a microbatch model. Those that failed are all that are not done, be it that they had not begun."""

    successful: list[Batch] = []
    failed: list[Batch] = []


class NodeFinished(Event, frozen=True, kw_only=True):
    """A node's result. `status` is dbt's; `compile` and `execute` are (start, end) in nanoseconds since the epoch.

    `line` is where its error stands: the number, and whether it is a line of the `file`, the `compiled code` or the
    `statement` that was sent to the warehouse. `cause` is the failed node for which dbt interrupted this one, under
    `--fail-fast`: whatever the status, it was cancelled.
    """

    unique_id: str
    status: str
    thread: str = ""
    execution_time: float = 0.0
    message: str | None = None
    compile: tuple[int, int] | None = None
    execute: tuple[int, int] | None = None
    failures: int | None = None
    rows_affected: int | None = None
    bytes_processed: int | None = None
    query_id: str | None = None
    batches: Batches | None = None
    line: tuple[int, str] | None = None
    cause: str | None = None


class NodeSkipped(Event, frozen=True, kw_only=True):
    """dbt has skipped a node, because of the failed node `cause` where one is known."""

    unique_id: str
    cause: str | None = None


_PERIODS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
"""dbt's units of freshness, in seconds: https://docs.getdbt.com/reference/resource-properties/freshness."""
_NEVER: Final = "0001-01-01"
"""When dbt takes a source without rows to have been loaded."""


class TestResult(Event, frozen=True, kw_only=True):
    """A test's result: pass, warn, fail or error, and the number of failing rows."""

    unique_id: str
    status: str
    failures: int = 0


class FreshnessResult(Event, frozen=True, kw_only=True):
    """How fresh a source is. Times are ISO 8601, `age` is in seconds; the limits are as the project says them."""

    unique_id: str
    status: str
    max_loaded_at: str | None = None
    snapshotted_at: str | None = None
    age: float | None = None
    warn_after: str | None = None
    error_after: str | None = None

    @property
    def complaint(self) -> str | None:
        """How stale it is, and against which limit: dbt says no more than `error` or `warn`. None of a fresh one."""
        exceeded, other = ("warn_after", "error_after") if self.status == "warn" else ("error_after", "warn_after")
        limit = getattr(self, exceeded)
        if self.status == "pass" or self.age is None or limit is None:
            return None
        count, _, period = limit.rpartition(" ")
        unit = period if period in _PERIODS else "second"
        beyond = f"{exceeded} is {limit}{'s' if period in _PERIODS and count != '1' else ''}"
        loaded = f"last loaded {self.age / _PERIODS.get(unit, 1):.1f} {unit}s ago"
        if (self.max_loaded_at or "").startswith(_NEVER):
            loaded = "never loaded"
        facts = [(name, getattr(self, name)) for name in ("max_loaded_at", "snapshotted_at", other)]
        known = ", ".join(f"{name} {value}" for name, value in facts if value)
        return f"stale: {loaded}, {beyond}{f' ({known})' if known else ''}"


class BatchesPlanned(Event, frozen=True, kw_only=True):
    """dbt has divided a microbatch model into batches, and begins the first of those that are not done yet."""

    unique_id: str
    batches: Batches


class BatchFinished(Event, frozen=True, kw_only=True):
    """One batch of a microbatch model has ended; `batch` of `batches`. `start` and `end` are ISO 8601."""

    unique_id: str
    status: str
    batch: int
    batches: int
    execution_time: float = 0.0
    start: str | None = None
    end: str | None = None


class HookStarted(Event, frozen=True, kw_only=True):
    """An on-run-start or on-run-end hook begins."""

    unique_id: str
    statement: str = ""


class HookFinished(Event, frozen=True, kw_only=True):
    """A hook has ended; `message` is dbt's, with the warehouse's error where it failed."""

    unique_id: str
    status: str
    execution_time: float = 0.0
    message: str | None = None


class QueryStarted(Event, frozen=True, kw_only=True):
    """A query was sent to the warehouse; `query` numbers it within its writer."""

    query: int
    sql: str
    connection_name: str = ""
    unique_id: str | None = None


class QueryFinished(Event, frozen=True, kw_only=True):
    """The warehouse has answered the query of that number, after `elapsed` seconds."""

    query: int
    status: str
    elapsed: float
    unique_id: str | None = None


# --- written by the column resolver, a process beside the session (and `ColumnsResolved` by the runner, of sources)


class ColumnResolverStarted(Event, frozen=True, kw_only=True):
    """From here on every compiled SQL node gets a `ColumnsResolved`, for which readers may wait."""

    sqlglot_version: str
    compiled: bool


class ColumnResolverStopped(Event, frozen=True, kw_only=True):
    """No more of them will come; written by the supervisor."""

    reason: str


class ColumnInput(msgspec.Struct, frozen=True, array_like=True):
    """A column that is read: the number of its dataset in `ColumnsResolved.datasets`, its name, and what for.

    `transformations` are `TYPE:SUBTYPE`:
    https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet.
    """

    dataset: int
    field: str
    transformations: list[str] = []


class ColumnsResolved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The columns of a node's relation, and what each is made from.

    `origin` is where that comes from: `sql` (the compiled code: the last word), `catalog`, `earlier` (a run before) or
    `warehouse` (which the runner has asked). `lineage` is by column; `reads` is what affects every column (joins,
    filters, grouping). `datasets` are names as lineage has them. `error` says why something is missing.
    """

    unique_id: str
    origin: str
    columns: list[Column] = []
    datasets: list[str] = []
    lineage: dict[str, list[ColumnInput]] = {}
    reads: list[ColumnInput] = []
    error: str | None = None


EventType = Union[  # noqa: UP007 - as a union of thirty with bars it would read worse
    SessionStarted,
    SessionEnded,
    DeliveryEnded,
    ArtifactsUploaded,
    RepositoryFound,
    StepStarted,
    AttemptStarted,
    AttemptEnded,
    RetryScheduled,
    RunnerDied,
    RunnerKilled,
    CancelRequested,
    JournalStopped,
    Heartbeat,
    InterruptReceived,
    RunnerFailed,
    DbtStarted,
    DbtConfigured,
    PhaseStarted,
    Selection,
    NodesGone,
    ArtifactWritten,
    ArtifactKept,
    Log,
    DbtFinished,
    DbtExited,
    NodeDescribed,
    NodeStarted,
    NodeCompiled,
    NodeFinished,
    NodeSkipped,
    TestResult,
    FreshnessResult,
    BatchesPlanned,
    BatchFinished,
    HookStarted,
    HookFinished,
    QueryStarted,
    QueryFinished,
    ColumnResolverStarted,
    ColumnResolverStopped,
    ColumnsResolved,
]

_decoder = msgspec.json.Decoder(EventType)
_raw_decoder = msgspec.json.Decoder(dict[str, object])
_COMMON: Final = tuple(field for field in Event.__struct_fields__)


class TornRecord(ValueError):  # noqa: N818 - it names what it is
    """A line of a journal that is no whole record."""


def decode(line: bytes) -> Event:
    """Read one record.

    A record of a type, or with a field of a shape, that this version doesn't know becomes `Unknown`.
    Raises `TornRecord` where the line is no JSON object with a type, or one that is nested too deeply.
    """
    try:
        event: Event = _decoder.decode(line)
    except msgspec.ValidationError:
        return _unknown(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TornRecord(str(error)) from error
    return event


def _unknown(line: bytes) -> Unknown:
    try:
        raw = _raw_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TornRecord(str(error)) from error
    name = raw.get("type")
    if not isinstance(name, str):
        raise TornRecord("the record has no type")
    # A newer version may have changed these too: a default stands for what isn't of our shape.
    shapes = {key: str if key == "writer" else int for key in _COMMON}
    common = {key: raw[key] for key, shape in shapes.items() if type(raw.get(key)) is shape}
    return Unknown(name=name, raw=raw, **common)  # type: ignore[arg-type]


def fields_of(event: Event) -> tuple[str, dict[str, object]]:
    """Return an event's type and its own fields, without those that the writer stamps."""
    built = msgspec.to_builtins(event)
    kind = built.pop("type")
    return kind, {name: value for name, value in built.items() if name not in _COMMON}
