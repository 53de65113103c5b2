"""Vertica."""

from __future__ import annotations

from spanline.profiles.adapter import SCHEMA, Adapter, integer, optional, secret, text, texts

_KERBEROS = "dbt-vertica logs in by password or OAuth"

ADAPTERS = (
    Adapter(
        name="vertica",
        package="dbt-vertica 1.8.6",
        provider="apache-airflow-providers-vertica 4.4.1",
        fields=(
            text("host", "host", required=True),
            integer("port", "port", default=5433),
            text("username", "login", required=True),
            secret("password", "password", required=True),
            text("database", "schema", required=True),
            SCHEMA,
            secret("oauth_access_token"),
            integer("timeout", "connection_timeout"),
            texts("backup_server_node"),
            *optional(str, "ssl_env_cafile ssl_uri"),
            *optional(bool, "ssl autocommit connection_load_balance withMaterialization"),
            *optional(int, "retries"),
        ),
        ignored=(
            *("binary_transfer", "disable_copy_local", "log_level", "request_complex_types", "session_label"),
            *("unicode_error", "use_prepared_statements", "workload"),
        ),
        refused={"kerberos_host_name": _KERBEROS, "kerberos_service_name": _KERBEROS},
    ),
)
