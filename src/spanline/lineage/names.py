"""Names of datasets and jobs in OpenLineage, as dbt-ol gives them, so that histories go on and lineage joins.

A dataset has one name, dbt-ol's, and for some warehouses others, which go into the `symlinks` facet: the naming
specification's where that differs, and the name as the warehouse stores it, where that folds its case. dbt-ol knows
16 adapters; for the others the scheme is the specification's if it names the warehouse, else the adapter's own name.

Sources: openlineage-dbt 1.54 (`extract_namespace`, `fix_account_name`, `job_name`); https://openlineage.io/docs/spec/naming;
the credentials classes of the adapters for what a connection holds. The whole table is in docs/naming.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from spanline.events import NodeDescribed, Relation
from spanline.lineage.case import PROJECT, Parts, as_stored, as_written, parts_in
from spanline.runner.shared import settings

Connection = Mapping[str, str | float | bool | None]

JOB_NAME_VARIABLES: Final = (settings.OPENLINEAGE_DBT_JOB_NAME, settings.OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME)
"""dbt-ol's variables that `session_job_name` heeds."""


@dataclass(frozen=True)
class Identifier:
    """Another name of a dataset, as an entry of the `symlinks` facet.

    DataHub moves a dataset with a symlink of type `TABLE` to Glue or Hive, so only the names in a Glue catalog have it.
    """

    namespace: str
    name: str
    type: str = "ALIAS"


# --- datasets -----------------------------------------------------------------------------------------------------


def dataset_namespace(adapter: str, connection: Connection) -> str:
    """The namespace of datasets behind a connection.

    For an adapter that nobody has named, `adapter://host:port`; without a host, what else says where the warehouse
    is (an account, a path); without any of that, `adapter`. Nothing that is missing raises.
    """
    special = _NAMESPACES.get(adapter)
    if special is not None:
        return _plain(special(connection))
    scheme, port = _SERVERS.get(adapter, (adapter, ""))
    return _plain(_server(scheme, connection, port))


def dataset_name(node: NodeDescribed) -> str | None:
    """`database.schema.identifier`, without the parts that the warehouse lacks; None where there is no relation.

    Names are as the project writes them: in their case, without quotes, with dots inside of them unescaped.
    """
    return dotted(*as_written(node.relation)) if node.relation is not None else None


def name_in(case: str, adapter: str, relation: Relation) -> str:
    """The same of a relation, in another case: see `spanline.lineage.case`."""
    return dotted(*parts_in(case, adapter, relation))


def dataset_symlinks(adapter: str, connection: Connection, relation: Relation, case: str = PROJECT) -> list[Identifier]:
    """The other names of the dataset that a relation is; none where everybody calls it the same.

    `case` is that of its own name.
    """
    own = Identifier(dataset_namespace(adapter, connection), name_in(case, adapter, relation))
    stored = as_stored(adapter, relation)
    others = [Identifier(own.namespace, dotted(*parts)) for parts in (as_written(relation), stored)]
    if adapter in _SPECIFIED:
        specified = _SPECIFIED[adapter](own.namespace, connection, stored)
        others.extend(replace(other, namespace=_plain(other.namespace)) for other in specified)
    return [other for other in dict.fromkeys(others) if other != own]


# --- jobs ---------------------------------------------------------------------------------------------------------


def job_name(node: NodeDescribed, command: str, *, short: bool = False) -> str:
    """The job that works on a node: `database.schema.project.name`, and what is done with it.

    Tests, and other nodes that build no relation of their own, are named by their unique id. `command` is the step's:
    for a `dbt retry` the command that it repeats. A `short` name is `project.name`, whatever builds it and where;
    names that may be those of a model too have their kind between.
    """
    if short:
        return _short_job_name(node, command)
    suffix = _SUFFIXES.get(node.resource_type)
    if suffix is None or node.relation is None:
        # That a test's SQL was compiled says nothing of the test, whose job's last run may have failed.
        only_compiled = command in _NOT_BUILDING and node.resource_type in _TESTS
        return f"{node.unique_id}.{_NOT_BUILDING[command]}" if only_compiled else node.unique_id
    project_and_name = node.unique_id.partition(".")[2]
    name = dotted(node.relation.database, node.relation.schema, project_and_name)
    if command in _NOT_BUILDING:
        return f"{name}.{_NOT_BUILDING[command]}"
    if command == "build":
        return f"{name}.build.{suffix}"
    return name if suffix == "run" else f"{name}.{suffix}"


def _short_job_name(node: NodeDescribed, command: str) -> str:
    kind, _, project_and_name = node.unique_id.partition(".")
    project, _, name = project_and_name.partition(".")
    found = project_and_name if kind in _SUFFIXES else f"{project}.{kind}.{name}"
    only_compiled = command in _NOT_BUILDING and (kind in _SUFFIXES or kind in _TESTS)
    return f"{found}.{_NOT_BUILDING[command]}" if only_compiled else found


def session_job_name(
    project: str,
    profile: str | None = None,
    argv: Sequence[str] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
    *,
    short: bool = False,
) -> str:
    """The job of a whole dbt run: `dbt-run-<project>`, or what dbt-ol's variables in `environ` ask for.

    `OPENLINEAGE_DBT_JOB_NAME` is the name. With `OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME=true` the profile, and the
    models or the selector that `argv` names, are added. Where names are `short` it is `<project>`, with which those of
    the nodes begin.
    """
    chosen = environ.get(settings.OPENLINEAGE_DBT_JOB_NAME)
    if chosen:
        return chosen
    name = project if short else f"dbt-run-{project}"
    if environ.get(settings.OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME, "").lower() not in ("true", "1"):
        return name
    selected = _values(argv, _SELECT_OPTIONS) or _values(argv, ("--selector",))[:1]
    words = (re.sub(r"[^a-zA-Z0-9_-]", "_", word) for word in selected)
    return "-".join((name, *filter(None, (profile,)), *words))


_SUFFIXES: Final = {"model": "run", "snapshot": "snapshot", "seed": "seed"}
_NOT_BUILDING: Final = {"clone": "clone", "compile": "compile", "docs generate": "compile", "show": "show"}
_TESTS: Final = frozenset(("test", "unit_test"))
_SELECT_OPTIONS: Final = ("-m", "-s", "--model", "--models", "--select")


def _values(argv: Sequence[str], options: Sequence[str]) -> list[str]:
    """The values of some options, given as `--option value value` or `--option=value`."""
    found: list[str] = []
    inside = False
    for arg in argv:
        option, equals, value = arg.partition("=")
        if arg.startswith("-"):
            inside = arg in options
            found.extend([value] if equals and option in options else [])
        elif inside:
            found.append(arg)
    return found


# --- what a connection says ---------------------------------------------------------------------------------------


def _text(connection: Connection, *keys: str) -> str:
    """The first of these values that is there. A whole number is written as one: the journal's reader makes floats."""
    for key in keys:
        value = connection.get(key)
        if value is None or value == "" or isinstance(value, bool):
            continue
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return ""


_HOSTS: Final = ("host", "server", "hostname")
_PLACES: Final = ("unix_socket", "account", "account_name", "workspace_id", "workspace_name", "tns_name", "dsn", "path")
"""What says where a warehouse is that has no host."""


def _server(scheme: str, connection: Connection, default_port: str = "") -> str:
    host = _text(connection, *_HOSTS)
    if not host:
        return _place(scheme, _text(connection, *_PLACES))
    port = _text(connection, "port") or default_port
    return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"


def _place(scheme: str, where: str) -> str:
    where = _PARAMETERS.sub("", _USER.sub(r"\1", where))
    return f"{scheme}://{where}" if where else scheme


def _plain(namespace: str) -> str:
    """The namespace in characters that every backend takes, the bytes of others written as `=20`.

    DataHub drops a dataset whose namespace is no URI. Marquez answers 500 to a `%`, and from then on to everybody who
    asks for its namespaces: so the escape is that of https://www.rfc-editor.org/rfc/rfc2045#section-6.7, not a URI's.
    """
    return _STRANGE.sub(lambda sign: "".join(f"={byte:02X}" for byte in sign[0].encode("utf-8", "replace")), namespace)


_STRANGE: Final = re.compile(r"[^a-zA-Z0-9:;=/_.@+-]")
_USER: Final = re.compile(r"(//)[^/@\s]*@")
_PARAMETERS: Final = re.compile(r"(?i)\?.*$|\s*\b\w*(?:password|passwd|pwd|secret|token)\w*\s*=\s*(?:'[^']*'|\S*)")
"""What may hold a secret in a path or a data source name, and is no part of where it is."""


# --- namespaces ---------------------------------------------------------------------------------------------------

_SERVERS: Final[Mapping[str, tuple[str, str]]] = {
    # adapter: the scheme, and the port where the profile may leave it out
    "db2": ("db2", "50000"),
    "fabric": ("fabric-warehouse", ""),
    "hive": ("hive", "10000"),
    "ibmdb2": ("db2", "50000"),
    "impala": ("impala", "21050"),
    "mariadb": ("mysql", "3306"),
    "mysql": ("mysql", "3306"),
    "mysql5": ("mysql", "3306"),
    "postgres": ("postgres", "5432"),
    "redshift": ("redshift", "5439"),
    "sqlserver": ("mssql", "1433"),
    "starburst": ("trino", ""),
    "starrocks": ("starrocks", "9030"),
    "synapse": ("sqlserver", "1433"),
    "teradata": ("teradata", "1025"),
    "vertica": ("vertica", "5433"),
    "watsonx_presto": ("presto", ""),
}


def _athena(connection: Connection) -> str:
    region = _text(connection, "region_name")
    return f"awsathena://athena.{region}.amazonaws.com" if region else "awsathena"


def _clickhouse(connection: Connection) -> str:
    secure = connection.get("secure") is True
    if _text(connection, "driver") == "native":
        return _server("clickhouse", connection, "9440" if secure else "9000")
    return _server("clickhouse", connection, "8443" if secure else "8123")


def _dremio(connection: Connection) -> str:
    cloud = _text(connection, "cloud_host")
    if cloud:  # one host for everybody: the project tells them apart
        return f"dremio://{cloud}/{_text(connection, 'cloud_project_id')}".rstrip("/")
    return _server("dremio", {"host": _text(connection, "software_host"), "port": connection.get("port")})


def _exasol(connection: Connection) -> str:
    hosts, _, port = _text(connection, "dsn").partition(":")
    # Of `hosts/fingerprint:port` the fingerprint of the certificate is no part of the address.
    return _server("exasol", {"host": hosts.partition("/")[0], "port": port}, "8563")


def _glue(connection: Connection) -> str:
    region = _text(connection, "region")
    account = _text(connection, "account_id") or _account_of_role(_text(connection, "role_arn"))
    # DataHub would take an ARN with nothing behind its last colon for a platform of that name.
    return _glue_catalog(region, account) if account else _place("glue", region)


def _glue_catalog(region: str, account: str) -> str:
    return f"arn:aws:glue:{region}:{account}"


def _account_of_role(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) > 4 else ""


class _OracleAddress(NamedTuple):
    host: str
    port: str
    service: str


def _oracle_address(connection: Connection) -> _OracleAddress:
    """The address of a database, from the fields or the connection string, in the order in which dbt-oracle looks."""
    whole = _text(connection, "connection_string")
    if not whole:
        return _OracleAddress(*(_text(connection, key) for key in ("host", "port", "service")))
    if whole.lstrip().startswith("("):
        found = (re.search(rf"(?i)\b{key}\s*=\s*([^\s()]+)", whole) for key in ("host", "port", "(?:service_name|sid)"))
        return _OracleAddress(*(match.group(1) if match else "" for match in found))
    easy = re.match(r"(?:(?:\w+:)?//)?([^:/?]+)(?::(\d+))?(?:/([^:/?]+))?", whole)
    return _OracleAddress(*easy.groups("")) if easy else _OracleAddress("", "", "")


def _oracle(connection: Connection) -> str:
    address = _oracle_address(connection)
    place = {"host": address.host, "port": address.port, "tns_name": connection.get("tns_name")}
    return _server("oracle", place, "1521")


def _snowflake(connection: Connection) -> str:
    # dbt-snowflake writes a hyphen for each underscore of the account; dbt-ol reads the profile, where they stand.
    account = _text(connection, "account_as_written", "account")
    return f"snowflake://{_snowflake_account(account)}" if account else "snowflake"


def _snowflake_account(account: str) -> str:
    locator, *rest = account.split(".")
    if "-" in locator:  # organization-account: what follows it (a region, `privatelink`) is no part of the name
        return locator
    # The legacy form, locator.region.cloud, with dbt-ol's defaults for what isn't there.
    return ".".join((account, *("us-west-1", "aws")[len(rest) :]))


def _spark(connection: Connection) -> str:
    method = _text(connection, "method")
    if method == "session":  # Spark inside of dbt's process: the host is a placeholder
        return _place("spark", _text(connection, "host"))
    return _server("spark", connection, {"thrift": "10001", "http": "443", "odbc": "443"}.get(method, ""))


_NAMESPACES: Final[Mapping[str, Callable[[Connection], str]]] = {
    "athena": _athena,
    "bigquery": lambda _: "bigquery",
    "clickhouse": _clickhouse,
    "databricks": lambda c: _place("databricks", _text(c, "host")),
    "dremio": _dremio,
    "duckdb": lambda c: _place("duckdb", _text(c, "path") or ":memory:"),
    "exasol": _exasol,
    "fabricspark": lambda c: _place("fabric-lakehouse", _text(c, "workspaceid")),
    "glue": _glue,
    "oracle": _oracle,
    "snowflake": _snowflake,
    "spark": _spark,
    "sqlite": lambda c: _place("sqlite", _text(c, "schema_directory")),
}


# --- names --------------------------------------------------------------------------------------------------------


def dotted(*parts: str | None) -> str:
    """The parts that there are, as one name."""
    return ".".join(part for part in parts if part)


# --- the specification's names, where they differ -------------------------------------------------------------------


def _without_database(namespace: str, _: Connection, parts: Parts) -> Iterable[Identifier]:
    yield Identifier(namespace, dotted(parts.schema, parts.table))


def _of_athena(_: str, connection: Connection, parts: Parts) -> Iterable[Identifier]:
    account = _account_of_role(_text(connection, "assume_role_arn"))
    if account and parts.database in ("", "awsdatacatalog"):
        catalog = _glue_catalog(_text(connection, "region_name"), account)
        yield Identifier(catalog, f"table/{parts.schema}/{parts.table}", "TABLE")


def _of_databricks(_: str, connection: Connection, parts: Parts) -> Iterable[Identifier]:
    host = _text(connection, "host").removeprefix("https://").rstrip("/")
    if host and parts.database not in ("", "hive_metastore", "spark_catalog"):
        yield Identifier(f"unitycatalog://{host}", dotted(*parts))


def _of_dremio(namespace: str, _: Connection, parts: Parts) -> Iterable[Identifier]:
    if parts.schema == "no_schema":  # dbt-dremio's word for none: it isn't in the SQL
        yield Identifier(namespace, dotted(parts.database, parts.table))


def _of_fabric(namespace: str, connection: Connection, parts: Parts) -> Iterable[Identifier]:
    # The specification has both forms, with the port and without it. There is but one port.
    if _text(connection, *_HOSTS):
        other = namespace.removesuffix(":1433") if namespace.endswith(":1433") else f"{namespace}:1433"
        yield Identifier(other, dotted(*parts))


def _of_glue(namespace: str, _: Connection, parts: Parts) -> Iterable[Identifier]:
    if namespace.startswith("arn:"):
        yield Identifier(namespace, f"table/{parts.schema}/{parts.table}", "TABLE")


def _of_oracle(namespace: str, connection: Connection, parts: Parts) -> Iterable[Identifier]:
    service = _oracle_address(connection).service
    if service:
        yield Identifier(namespace, dotted(service, parts.schema, parts.table))


_REDSHIFT_HOST: Final = re.compile(r"([^.]+)\.[^.]+\.([^.]+)\.redshift(?:-serverless)?\.amazonaws\.com(?:\.cn)?")


def _of_redshift(_: str, connection: Connection, parts: Parts) -> Iterable[Identifier]:
    host = _REDSHIFT_HOST.fullmatch(_text(connection, "host"))
    cluster, region = host.groups() if host else (_text(connection, "cluster_id"), _text(connection, "region"))
    if cluster and region:
        yield Identifier(_server("redshift", {**connection, "host": f"{cluster}.{region}"}, "5439"), dotted(*parts))


_SNOWFLAKE_SUFFIX: Final = re.compile(r"(?i)(?:\.privatelink)?\.snowflakecomputing\.\w+$|\.privatelink$")


def _of_snowflake(_: str, connection: Connection, parts: Parts) -> Iterable[Identifier]:
    account = _SNOWFLAKE_SUFFIX.sub("", _text(connection, "account")).replace("_", "-")
    if account:
        yield Identifier(f"snowflake://{_snowflake_account(account)}", dotted(*parts))


_SPECIFIED: Final[Mapping[str, Callable[[str, Connection, Parts], Iterable[Identifier]]]] = {
    "athena": _of_athena,
    "databricks": _of_databricks,
    "dremio": _of_dremio,
    "fabric": _of_fabric,
    "glue": _of_glue,
    "oracle": _of_oracle,
    "redshift": _of_redshift,
    "snowflake": _of_snowflake,
    **dict.fromkeys(("hive", "mariadb", "mysql", "mysql5", "synapse", "teradata"), _without_database),
}
