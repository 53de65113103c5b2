"""Names of datasets and jobs in OpenLineage, as dbt-ol gives them, so that histories go on and lineage joins.

Source: the naming of openlineage-dbt, and https://openlineage.io/docs/spec/naming for what it leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from spanline.events import NodeDescribed

Connection = Mapping[str, str | float | bool | None]

_SUFFIXES: Final = {"model": "run", "snapshot": "snapshot", "seed": "seed"}


def dataset_namespace(adapter: str, connection: Connection) -> str:
    """The namespace of datasets behind a connection; by default `adapter://host:port`."""
    return _NAMESPACES.get(adapter, _by_host(adapter))(connection)


def dataset_name(node: NodeDescribed) -> str | None:
    """`database.schema.identifier`, without the parts that the warehouse lacks; None where there is no relation."""
    relation = node.relation
    if relation is None:
        return None
    parts = (relation.database, relation.schema, relation.identifier)
    return ".".join(part for part in parts if part)


def job_name(node: NodeDescribed, command: str) -> str:
    """The job that builds a node: `database.schema.project.name`, and what is done with it.

    Tests, and other nodes that build no relation of their own, are named by their unique id.
    """
    suffix = _SUFFIXES.get(node.resource_type)
    if suffix is None or node.relation is None:
        return node.unique_id
    project_and_name = node.unique_id.partition(".")[2]
    parts = (node.relation.database, node.relation.schema, project_and_name)
    name = ".".join(part for part in parts if part)
    if command == "build":
        return f"{name}.build.{suffix}"
    return name if suffix == "run" else f"{name}.{suffix}"


def session_job_name(project: str) -> str:
    """The job of a whole dbt run."""
    return f"dbt-run-{project}"


def _text(connection: Connection, *keys: str) -> str:
    for key in keys:
        value = connection.get(key)
        if value not in (None, ""):
            return str(int(value)) if isinstance(value, float) else str(value)
    return ""


def _by_host(scheme: str, default_port: str = "", *hosts: str) -> Callable[[Connection], str]:
    def namespace(connection: Connection) -> str:
        host = _text(connection, *hosts, "host", "server")
        port = _text(connection, "port") or default_port
        return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"

    return namespace


def _snowflake(connection: Connection) -> str:
    locator, *rest = _text(connection, "account").split(".")
    if "-" in locator:  # organization-account: what follows it (a region, `privatelink`) is no part of the name
        return f"snowflake://{locator}"
    # The legacy form, locator[.region[.cloud]], has its defaults spelt out.
    region = rest[0] if rest else "us-west-1"
    cloud = rest[1] if len(rest) > 1 else "aws"
    return f"snowflake://{locator}.{region}.{cloud}"


def _glue(connection: Connection) -> str:
    role = _text(connection, "role_arn").split(":")
    account = _text(connection, "account_id") or (role[4] if len(role) > 4 else "")
    return f"arn:aws:glue:{_text(connection, 'region')}:{account}"


def _spark(connection: Connection) -> str:
    defaults = {"http": "443", "odbc": "443", "thrift": "10001"}
    return _by_host("spark", defaults.get(_text(connection, "method"), ""))(connection)


_NAMESPACES: Final[dict[str, Callable[[Connection], str]]] = {
    "athena": lambda c: f"awsathena://athena.{_text(c, 'region_name')}.amazonaws.com",
    "bigquery": lambda _: "bigquery",
    "databricks": lambda c: f"databricks://{_text(c, 'host')}",
    "dremio": _by_host("dremio", "", "software_host", "cloud_host"),
    "duckdb": lambda c: f"duckdb://{_text(c, 'path')}",
    "fabric": _by_host("fabric-warehouse"),
    "glue": _glue,
    "postgres": _by_host("postgres", "5432"),
    "redshift": _by_host("redshift", "5439"),
    "snowflake": _snowflake,
    "spark": _spark,
    "sqlserver": _by_host("mssql", "1433"),
    "watsonx_presto": _by_host("presto"),
}
