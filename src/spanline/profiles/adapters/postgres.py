"""PostgreSQL."""

from __future__ import annotations

from spanline.profiles.adapter import SCHEMA, Adapter, Values, integer, optional, secret, text
from spanline.profiles.connection import Connection


def finish(values: Values, _connection: Connection) -> Values:
    """With `sslcert`, or through a socket (a host with a `/`), no password is needed."""
    if "sslcert" in values or str(values.get("host")).startswith("/"):
        values.setdefault("password", "")
    return values


ADAPTERS = (
    Adapter(
        name="postgres",
        package="dbt-postgres 1.11.0",
        provider="apache-airflow-providers-postgres 7.1.1",
        conn_types=("postgresql",),
        fields=(
            text("host", "host", required=True),
            integer("port", "port", default=5432),
            text("user", "login", required=True),
            secret("password", "password", required=True, aliases=("pass",)),
            text("database", "schema", required=True, aliases=("dbname",)),
            SCHEMA,
            text("sslmode", choices=("disable", "allow", "prefer", "require", "verify-ca", "verify-full")),
            *optional(str, "role search_path sslcert sslkey sslrootcert application_name"),
            *optional(int, "connect_timeout keepalives_idle retries"),
            *optional(bool, "autocommit"),
        ),
        finish=finish,
        ignored=("cursor", "aws_conn_id", "azure_conn_id", "cluster-identifier", "workgroup-name"),
        refused={
            "iam": "dbt-postgres cannot get tokens from AWS or Azure",
            "redshift": "use the adapter redshift, which supports IAM",
            "redshift-serverless": "use the adapter redshift, which supports IAM",
        },
    ),
)
