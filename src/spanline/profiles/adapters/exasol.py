"""Exasol."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Values, integer, needs, one_of, optional, secret, text
from spanline.profiles.connection import Connection


def finish(values: Values, connection: Connection) -> Values:
    """`dsn` is made from host and port (8563). A password, an access token or a refresh token."""
    if connection.host:
        port = f":{connection.port or 8563}" if ":" not in connection.host else ""
        values.setdefault("dsn", f"{connection.host}{port}")
    if one_of(values, "password", "access_token", "refresh_token") == "password":
        needs(values, ["user"], "a password")
    return values


ADAPTERS = (
    Adapter(
        name="exasol",
        package="dbt-exasol 1.11.0",
        provider="apache-airflow-providers-exasol 4.11.1",
        fields=(
            text("dsn", required=True),
            text("user", "login"),
            secret("password", "password", aliases=("pass",)),
            secret("access_token"),
            secret("refresh_token"),
            text("database", default="DB", aliases=("dbname",)),
            text("schema", "schema", required=True),
            *optional(str, "protocol_version row_separator timestamp_format"),
            *optional(bool, "compression encryption validate_server_certificate"),
            *optional(int, "connection_timeout socket_timeout query_timeout retries"),
            integer("pool_size"),
        ),
        finish=finish,
        ignored=("client_name", "json_lib"),
    ),
)
