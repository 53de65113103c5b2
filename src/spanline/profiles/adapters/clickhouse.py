"""ClickHouse."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Values, boolean, integer, mapping, optional, secret, text
from spanline.profiles.connection import Connection


def finish(values: Values, _connection: Connection) -> Values:
    """`compress`, Airflow's option for LZ4, becomes `compression`."""
    if values.get("compress"):
        values.setdefault("compression", "lz4")
    return values


ADAPTERS = (
    Adapter(
        name="clickhouse",
        package="dbt-clickhouse 1.10.3",
        provider="apache-airflow-providers-clickhousedb 1.0.1",
        fields=(
            text("host", "host", required=True),
            integer("port", "port"),
            text("user", "login"),
            secret("password", "password"),
            text("schema", "schema", required=True),  # dbt refuses a `database` that is another
            text("driver", choices=("http", "native")),
            *optional(bool, "secure verify"),
            *optional(str, "client_cert client_cert_key server_host_name compression"),
            *optional(int, "connect_timeout send_receive_timeout sync_request_timeout compress_block_size retries"),
            *optional(str, "cluster database_engine local_suffix local_db_prefix"),
            *optional(bool, "cluster_mode check_exchange use_lw_deletes allow_automatic_deduplication"),
            *optional(bool, "reuse_connections tcp_keepalive"),
            mapping("custom_settings", "session_settings"),
        ),
        inputs=(boolean("compress"),),
        finish=finish,
        ignored=("client_name",),
        refused={"client_kwargs": "dbt-clickhouse has fields of its own for them"},
    ),
)
