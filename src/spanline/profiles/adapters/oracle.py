"""Oracle: by host and service, by a name in tnsnames.ora, or by a connection string."""

from __future__ import annotations

from spanline.profiles.adapter import (
    Adapter,
    Field,
    Values,
    integer,
    needs,
    one_of,
    optional,
    secret,
    text,
    texts,
    without,
)
from spanline.profiles.connection import Connection

_THICK = "dbt-oracle takes its driver from the variable ORA_PYTHON_DRIVER_TYPE"
_WALLET = "dbt-oracle finds a wallet by the variable TNS_ADMIN"


def finish(values: Values, connection: Connection) -> Values:
    """By host and service, `tns_name` (a host without port and service counts as one), or `connection_string`."""
    if "service" not in values and "connection_string" not in values and connection.port is None:
        values.setdefault("tns_name", values.pop("host", None))
    ways = without(values, "host") if "tns_name" in values or "connection_string" in values else values
    if one_of(ways, "host", "tns_name", "connection_string") != "host":
        return without(ways, "port", "service", "protocol")
    needs(values, ["service"], "a host")
    return {"port": 1521, "protocol": "tcp", **values}


ADAPTERS = (
    Adapter(
        name="oracle",
        package="dbt-oracle 1.11.1",
        provider="apache-airflow-providers-oracle 4.7.1",
        fields=(
            text("host", "host"),
            integer("port", "port"),
            text("service", "service_name"),
            text("protocol", choices=("tcp", "tcps")),
            text("tns_name"),
            text("connection_string", "dsn"),
            text("user", "login", required=True),
            secret("password", "password", required=True, aliases=("pass",)),
            text("database", aliases=("dbname",)),
            text("schema", "schema", required=True),
            texts("shardingkey"),
            texts("supershardingkey"),
            text("purity", choices=("new", "self", "default")),
            *optional(str, "cclass oml_cloud_service_url https_proxy"),
            *optional(int, "retry_count retry_delay https_proxy_port"),
            Field("session_info", kind=dict[str, str]),
        ),
        finish=finish,
        ignored=("events", "expire_time", "fetch_decimals", "fetch_lobs", "module", "pool_name"),
        refused={
            "sid": "dbt-oracle connects to a service: give service_name, or dsn",
            "mode": "dbt-oracle cannot log in as SYSDBA",
            "thick_mode": _THICK,
            "thick_mode_lib_dir": _THICK,
            "thick_mode_config_dir": _THICK,
            "wallet_location": _WALLET,
            "wallet_password": _WALLET,
            "ssl_server_cert_dn": "give it in dsn",
            "ssl_server_dn_match": "give it in dsn",
        },
    ),
)
