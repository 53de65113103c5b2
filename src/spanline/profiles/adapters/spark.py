"""Spark: over Thrift, HTTP or ODBC, or in a session of dbt's own process."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Field, Values, Wrong, integer, needs, one_of, optional, secret, text
from spanline.profiles.connection import Connection


def finish(values: Values, connection: Connection) -> Values:
    """`thrift` unless another method is named: a password means LDAP there, and is the token with `http` and `odbc`."""
    method = values.setdefault("method", "thrift")
    if method == "session":
        values.setdefault("host", "localhost")  # dbt wants one
        return values
    values.setdefault("port", 10000 if method == "thrift" else 443)
    if method == "thrift":
        needs(values, ["user"], "the method thrift")
        if "password" in values and str(values.setdefault("auth", "LDAP")).upper() not in ("LDAP", "CUSTOM"):
            raise Wrong("auth", "contradicts the password, which goes with LDAP or CUSTOM")
        return values
    values.pop("password", None)
    if connection.password:
        values.setdefault("token", connection.password)
    if method == "http":
        needs(values, ["token", "cluster"], "the method http")
    else:
        needs(values, ["driver"], "the method odbc")
        if "connection_string_suffix" not in values:
            one_of(values, "cluster", "endpoint")
            needs(values, ["token"], "the method odbc")
    return values


ADAPTERS = (
    Adapter(
        name="spark",
        package="dbt-spark 1.11.0",
        provider="apache-airflow-providers-apache-hive 9.7.1",
        conn_types=("hiveserver2", "spark_sql"),
        fields=(
            text("method", choices=("thrift", "http", "odbc", "session")),
            text("host", "host", required=True),
            integer("port", "port"),
            text("user", "login"),
            secret("password", "password"),
            text("schema", "schema", required=True),  # dbt refuses a `database` that is another
            secret("token"),
            text("auth", "auth_mechanism"),
            *optional(str, "kerberos_service_name cluster endpoint driver organization"),
            secret("connection_string_suffix"),
            Field("use_ssl", ("ssl",), kind=bool),
            Field("server_side_parameters", kind=dict[str, str]),
            *optional(int, "connect_retries connect_timeout query_timeout poll_interval query_retries"),
            *optional(bool, "retry_all"),
        ),
        finish=finish,
        ignored=("run_set_variable_statements", "use_beeline", "principal", "queue"),
        refused={
            "high_availability": "dbt-spark does not support ZooKeeper",
            "proxy_user": "dbt-spark cannot act for another user",
        },
    ),
)
