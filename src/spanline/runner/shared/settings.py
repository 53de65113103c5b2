"""Every variable of the environment that is read: Spanline's own, and those of others that it heeds.

docs/configuration.md says of each what it does. A test compares the two, and looks for names that stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

# --- Spanline's own

HOME = "SPANLINE_HOME"
RULES = "SPANLINE_RULES"
SECRET_NAMES = "SPANLINE_SECRET_NAMES"  # noqa: S105 - a variable
FLUSH_TIMEOUT = "SPANLINE_FLUSH_TIMEOUT"
COLLECTOR = "SPANLINE_GC"
LINEAGE_SQL = "SPANLINE_LINEAGE_SQL"
LINEAGE_COLUMNS = "SPANLINE_LINEAGE_COLUMNS"
LINEAGE_EXPOSURES = "SPANLINE_LINEAGE_EXPOSURES"
LINEAGE_JOB_NAMES = "SPANLINE_LINEAGE_JOB_NAMES"
LINEAGE_CASE = "SPANLINE_LINEAGE_CASE"
WAREHOUSE_COLUMNS = "SPANLINE_WAREHOUSE_COLUMNS"
QUERY_COMMENTS = "SPANLINE_QUERY_COMMENTS"
TRACE_SQL = "SPANLINE_TRACE_SQL"
OTLP_FILE = "SPANLINE_OTLP_FILE"
METRICS_NODES = "SPANLINE_METRICS_NODES"
PROMETHEUS_TEXTFILE = "SPANLINE_PROMETHEUS_TEXTFILE"
ARTIFACTS_PREFIX = "SPANLINE_ARTIFACTS_"
"""Of the variables of storage, one for each field of `Storage`."""
ARTIFACTS_STORAGE_OPTIONS = "SPANLINE_ARTIFACTS_STORAGE_OPTIONS"
"""Not for users: it brings a profile to a supervisor of its own."""
PROFILE_SECRET_PREFIX = "DBT_ENV_SECRET_SPANLINE_"  # noqa: S105 - a variable
"""Not for users: of the variables by which dbt is given the secrets of a profile."""

# --- dbt's: https://docs.getdbt.com/reference/global-configs/about-global-configs

DBT_PREFIX = "DBT_"
DBT_ENGINE_PREFIX = "DBT_ENGINE_"
"""What newer versions of dbt Core put before the rest of the name."""
DBT_SECRET_PREFIXES = ("DBT_ENV_SECRET", "DBT_ENGINE_SECRET")
"""Variables that dbt itself takes for secrets: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var"""
DBT_CUSTOM_PREFIXES = ("DBT_ENV_CUSTOM_ENV_", "DBT_ENGINE_CUSTOM_ENV_")
"""Variables whose values dbt writes into its artifacts."""
DBT_PROJECT_DIR = "DBT_PROJECT_DIR"
DBT_PROFILES_DIR = "DBT_PROFILES_DIR"
DBT_ENGINE_PROFILES_DIR = "DBT_ENGINE_PROFILES_DIR"
DBT_PROFILE = "DBT_PROFILE"
DBT_SCHEMA_OVERRIDE = "DBT_SCHEMA_OVERRIDE"
"""Not dbt's own: the macro `generate_schema_name` of docs/airflow.md reads it."""
DBT_TARGET = "DBT_TARGET"
DBT_TARGET_PATH = "DBT_TARGET_PATH"
DBT_OTEL_FILE_NAME = "DBT_OTEL_FILE_NAME"
"""The file to which dbt v2 writes its telemetry."""
DBT_SEND_ANONYMOUS_USAGE_STATS = "DBT_SEND_ANONYMOUS_USAGE_STATS"
DBT_WRITE_JSON = "DBT_WRITE_JSON"
DBT_MACRO_DEBUGGING = "DBT_MACRO_DEBUGGING"
DBT_OWN_SPANS = "DBT_ENGINE_SNOWFLAKE_PROJECTS_OTEL"
"""Turns on dbt Core 1.12's own spans, of the same nodes."""

# --- OpenLineage's: https://openlineage.io/docs/client/python/configuration, and openlineage-dbt's

OPENLINEAGE_DISABLED = "OPENLINEAGE_DISABLED"
OPENLINEAGE_URL = "OPENLINEAGE_URL"
OPENLINEAGE_CONFIG = "OPENLINEAGE_CONFIG"
OPENLINEAGE_PREFIX = "OPENLINEAGE__"
OPENLINEAGE_TRANSPORT_PREFIX = "OPENLINEAGE__TRANSPORT"
OPENLINEAGE_NAMESPACE = "OPENLINEAGE_NAMESPACE"
OPENLINEAGE_CONTEXT = "OPENLINEAGE_CONTEXT"
OPENLINEAGE_PARENT_ID = "OPENLINEAGE_PARENT_ID"
OPENLINEAGE_ROOT_PARENT_ID = "OPENLINEAGE_ROOT_PARENT_ID"
OPENLINEAGE_DBT_JOB_NAME = "OPENLINEAGE_DBT_JOB_NAME"
OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME = "OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME"
LINEAGE_PARENT = (OPENLINEAGE_PARENT_ID, OPENLINEAGE_ROOT_PARENT_ID, OPENLINEAGE_CONTEXT)

# --- OpenTelemetry's: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables

TRACEPARENT, TRACESTATE, BAGGAGE = TRACE_CONTEXT = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")
"""https://www.w3.org/TR/trace-context/, https://www.w3.org/TR/baggage/"""
OTEL_SDK_DISABLED = "OTEL_SDK_DISABLED"
OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME"
OTEL_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
OTEL_TRACES_SAMPLER = "OTEL_TRACES_SAMPLER"
OTEL_TRACES_SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG"
OTEL_METRIC_EXPORT_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OTLP_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
OTLP_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
OTLP_CREDENTIAL_PROVIDERS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_METRICS_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER",
)
"""They name a session for the exporter, with credentials of its own."""

BACKEND_PREFIXES = ("OPENLINEAGE_", "OTEL_")
"""All variables of OpenLineage and OpenTelemetry, read by us or by their clients only."""

# --- others'

AIRFLOW_CONNECTION_PREFIX = "AIRFLOW_CONN_"
"""https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html"""
XDG_CACHE_HOME = "XDG_CACHE_HOME"
"""https://specifications.freedesktop.org/basedir-spec/latest/"""


def exporter_variable(signal: str) -> str:
    """The variable that names the exporters of `traces`, `metrics` or `logs`."""
    return f"OTEL_{signal.upper()}_EXPORTER"


def otlp_variable(signal: str, what: str) -> str:
    """The variable of one signal that goes before a general one of OTLP: of its `ENDPOINT`, its `PROTOCOL`."""
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}"


_TRACEPARENT = "traceparent"
_AS_DBT_HAS_IT = "dbt"


def comments_queries(environ: Mapping[str, str]) -> bool:
    """Whether statements are to carry their trace context. Raises ValueError for what is no such wish."""
    value = environ.get(QUERY_COMMENTS, "").strip().lower()
    if value not in ("", "off", _TRACEPARENT):
        raise ValueError(f"{QUERY_COMMENTS} is {value!r}: it must be {_TRACEPARENT} or off")
    return value == _TRACEPARENT


def tunes_collector(environ: Mapping[str, str]) -> bool:
    """Whether the garbage collector of dbt's process is ours to set. Raises ValueError for what is no such wish."""
    value = environ.get(COLLECTOR, "").strip().lower()
    if value not in ("", _AS_DBT_HAS_IT):
        raise ValueError(f"{COLLECTOR} is {value!r}: it must be {_AS_DBT_HAS_IT}, or not be set")
    return value == ""
