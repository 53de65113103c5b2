"""Names of spans, keys of attributes of spans and log lines: docs/traces.md and docs/logs.md have them in tables.

Where OpenTelemetry's semantic conventions have a key, it is theirs (https://opentelemetry.io/docs/specs/semconv/);
what is dbt's own has the bare keys that dbt v2 gives its own telemetry; what is only ours begins with `spanline.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions that the keys are from: by it a backend can translate them, should they be renamed."""

# --- names of spans

SESSION: Final = "dbt"
"""With the command and the project: `dbt build shop`."""
ATTEMPT: Final = "attempt"
START: Final = "start"
"""From the start of dbt's process, the imports included, to dbt's first word."""
CONFIGURE: Final = "configure"
"""dbt reads project and profile, and imports its adapter."""
EXECUTE: Final = "execute"
PHASES: Final[Mapping[str, str]] = {"parse": "parse", "compile": "compile", "run": EXECUTE}
PREPARE: Final = "prepare"
"""Before the first node: schemas, the cache of relations, hooks."""
FINISH: Final = "finish"
"""After the last node: hooks, dbt's artifacts."""
EXIT: Final = "exit"
"""From dbt's last word to the end of its process."""
END: Final = "end"
"""What is done after dbt: its artifacts are kept, and columns that are still looked for waited for."""
WAIT: Final = "wait"
"""For the next attempt."""
DELIVERY: Final = "delivery"
"""After the session, to the backends."""
HOOK: Final = "hook"
"""One whose place its id doesn't tell."""
QUERY: Final = "query"
"""Of which nothing is known."""

# --- names of a span's events

RETRY: Final = "retry scheduled"
CANCEL: Final = "cancel requested"
KILLED: Final = "dbt killed"
DIED: Final = "dbt died"
EXCEPTION: Final = "exception"

# --- of the run: semantic conventions

PIPELINE_NAME: Final = "cicd.pipeline.name"
PIPELINE_RUN: Final = "cicd.pipeline.run.id"
PIPELINE_RESULT: Final = "cicd.pipeline.result"
EXIT_CODE: Final = "process.exit.code"
ERROR_TYPE: Final = "error.type"
ERROR_MESSAGE: Final = "error.message"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
STACKTRACE: Final = "exception.stacktrace"
FILE_PATH: Final = "code.file.path"

# --- of the warehouse: semantic conventions

DB_SYSTEM: Final = "db.system.name"
DB_NAMESPACE: Final = "db.namespace"
DB_OPERATION: Final = "db.operation.name"
DB_COLLECTION: Final = "db.collection.name"
DB_SUMMARY: Final = "db.query.summary"
DB_QUERY: Final = "db.query.text"
DB_CODE: Final = "db.response.status_code"
SERVER: Final = "server.address"
PORT: Final = "server.port"

# --- dbt's own

UNIQUE_ID: Final = "unique_id"
NODE_TYPE: Final = "node_type"
MATERIALIZATION: Final = "materialization"
DATABASE: Final = "database"
SCHEMA: Final = "schema"
IDENTIFIER: Final = "identifier"
RELATIVE_PATH: Final = "relative_path"
ROWS: Final = "rows_affected"
BYTES: Final = "bytes_processed"
OUTCOME: Final = "node_outcome"
QUERY_ID: Final = "query_id"
QUERY_OUTCOME: Final = "query_outcome"
FAILURES: Final = "test_failures"
CAUSE: Final = "upstream_unique_id"
INVOCATION: Final = "invocation_id"
DBT_VERSION: Final = "dbt.version"
PROJECT: Final = "dbt.project"
TARGET: Final = "dbt.target"
EXECUTION_TIME: Final = "execution_time"
EVENT_NAME: Final = "dbt.event.name"
THREAD: Final = "thread.name"
NODES: Final = "dbt.nodes."
"""With a status, blanks as `_`: how many nodes of the session have it."""

# --- ours

RUN: Final = "spanline.run.id"
SESSION_NUMBER: Final = "spanline.session"
STEP_NUMBER: Final = "spanline.step"
ATTEMPT_NUMBER: Final = "spanline.attempt"
RUN_OUTCOME: Final = "spanline.outcome"
RULE: Final = "spanline.rule"
TRIGGER_REASON: Final = "spanline.trigger_reason"
OPENLINEAGE_RUN: Final = "openlineage.run.id"
DELAY: Final = "delay"
REASON: Final = "reason"

SYSTEMS: Final[Mapping[str, str]] = {
    "postgres": "postgresql",
    "redshift": "aws.redshift",
    "sqlserver": "microsoft.sql_server",
    "synapse": "microsoft.sql_server",
    "fabric": "microsoft.sql_server",
    "oracle": "oracle.db",
    "ibmdb2": "ibm.db2",
    "netezza": "ibm.netezza",
    "saphana": "sap.hana",
    "mysql5": "mysql",
}
"""The name that the conventions have for an adapter's warehouse; every other is called as dbt calls it."""

RESULTS: Final[Mapping[str, str]] = {
    "success": "success",
    "failed": "failure",
    "cancelled": "cancellation",
    "timed out": "timeout",
    "died": "error",
}
"""`cicd.pipeline.result` of an outcome."""
