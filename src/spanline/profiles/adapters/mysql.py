"""MySQL and MariaDB."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Values, boolean, integer, optional, secret, text
from spanline.profiles.connection import Connection


def finish(values: Values, connection: Connection) -> Values:
    """With a socket, no host is needed."""
    if "unix_socket" in values:
        values.setdefault("server", connection.host or "localhost")
    return values


_FIELDS = (
    text("server", "host", required=True, aliases=("host",)),
    text("unix_socket"),
    integer("port", "port"),
    text("username", "login", required=True, aliases=("user", "UID")),
    secret("password", "password", required=True, aliases=("PWD",)),
    text("schema", "schema", required=True),
    *optional(str, "charset collation"),
)

ADAPTERS = tuple(
    Adapter(
        name=name,
        package="dbt-mysql 1.7.0",
        provider="apache-airflow-providers-mysql 6.7.1",
        fields=_FIELDS if name == "mysql" else (*_FIELDS, boolean("ssl_disabled")),
        finish=finish,
        ignored=("client", "cursor", "aws_conn_id"),
        refused={
            "iam": "dbt-mysql cannot get tokens from AWS",
            "ssl": "dbt-mysql has no fields for certificates",
            "ssl_mode": "dbt-mysql has no field for it",
        },
    )
    for name in ("mysql", "mysql5", "mariadb")
)
