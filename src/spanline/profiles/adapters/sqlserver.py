"""SQL Server, and what speaks its protocol: Microsoft Fabric, Azure Synapse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from spanline.profiles.adapter import (
    SCHEMA,
    Adapter,
    Field,
    Values,
    Wrong,
    boolean,
    integer,
    mapping,
    needs,
    optional,
    secret,
    text,
    without,
)
from spanline.profiles.connection import Connection

Ways = Mapping[str, tuple[str, ...]]
"""What each way to log in needs, by dbt's word for it, whose case counts with some."""

_PRINCIPAL: Final = "ActiveDirectoryServicePrincipal"
_SQL_SERVER: Final[Ways] = {
    "sql": ("user", "password"),
    "ActiveDirectoryPassword": ("user", "password"),
    _PRINCIPAL: ("client_id", "client_secret"),
    "ServicePrincipal": ("tenant_id", "client_id", "client_secret"),
    "ActiveDirectoryAccessToken": ("access_token",),
    "ActiveDirectoryInteractive": ("user",),
    "ActiveDirectoryIntegrated": (),
    "ActiveDirectoryMsi": (),
    "ActiveDirectoryDefault": (),
    "ActiveDirectoryDeviceCode": (),
    "CLI": (),
    "MSI": (),
    "auto": (),
    "environment": (),
}
_FABRIC: Final[Ways] = {
    "ActiveDirectoryPassword": ("user", "password"),
    _PRINCIPAL: ("tenant_id", "client_id", "client_secret"),
    "ActiveDirectoryAccessToken": ("access_token",),
    "ActiveDirectoryInteractive": (),
    "ActiveDirectoryMSI": (),
    "ActiveDirectoryDefault": (),
    "ActiveDirectoryDeviceCodeFlow": (),
    "CLI": (),
    "environment": (),
    "notebookutils": (),
    "workload_identity": ("tenant_id", "client_id"),
    "token_credential": ("credential_class",),
}
_SYNAPSE: Final[Ways] = {
    "sql": ("user", "password"),
    "ActiveDirectoryPassword": ("user", "password"),
    _PRINCIPAL: ("client_id", "client_secret"),
    "ActiveDirectoryAccessToken": ("access_token",),
    "ActiveDirectoryInteractive": ("user",),
    "ActiveDirectoryIntegrated": (),
    "ActiveDirectoryMsi": (),
    "CLI": (),
    "auto": (),
    "environment": (),
    "synapsespark": (),
    "fabricnotebook": (),
}


def finish_by(ways: Ways, default: str | None = None) -> Callable[[Values, Connection], Values]:
    """What checks that all is there for one of these ways; `default` is the one where nothing says which."""

    def finish(values: Values, _connection: Connection) -> Values:
        """`authentication` says how. Default: a service principal's login with a tenant, otherwise SQL's."""
        if values.get("windows_login"):
            if "sql" not in ways:
                raise Wrong("windows_login", "is not supported by this adapter")
            if "password" in values:
                raise Wrong("windows_login", "contradicts the password: give one of them")
            return {**values, "authentication": "sql"}  # else dbt-synapse's own default goes before Windows
        implied = _PRINCIPAL if "tenant_id" in values else ("sql" if "password" in values else default)
        way = str(values.setdefault("authentication", implied))
        if way not in ways:
            raise Wrong("authentication", f"is missing: give one of {', '.join(ways)}")
        if "client_secret" in ways[way]:
            principal = {"client_id": values.get("user"), "client_secret": values.get("password")}
            values = {**principal, **without(values, "user", "password")}
        needs(values, ways[way], f"authentication {way}")
        return values

    return finish


def _where(ways: Ways) -> tuple[Field, ...]:
    return (
        text("host", "host", required=True, aliases=("server",)),
        text("database", "schema", required=True),
        SCHEMA,
        text("authentication", aliases=("auth",), choices=tuple(ways)),
        text("user", "login", aliases=("username", "UID")),
        secret("password", "password", aliases=("pass", "PWD")),
        boolean("windows_login", aliases=("trusted_connection",)),
        text("tenant_id", "tenantId"),
        text("client_id", aliases=("app_id",)),
        secret("client_secret", aliases=("app_secret",)),
        secret("access_token"),
        boolean("encrypt"),
        boolean("trust_cert", aliases=("TrustServerCertificate",)),
        boolean("trace_flag", aliases=("SQL_ATTR_TRACE",)),
        text("schema_authorization", aliases=("schema_auth",)),
        *optional(int, "retries login_timeout query_timeout"),
    )


_DRIVER: Final = text("driver", default="ODBC Driver 18 for SQL Server")
_PORT: Final = text("port", "port", choices=("1433",))
"""An adapter without a field for the port goes to this one."""
_OF_PYMSSQL: Final = ("charset", "tds_version", "appname", "conn_properties", "autocommit")
_PROVIDER: Final = "apache-airflow-providers-microsoft-mssql 4.7.2"

ADAPTERS = (
    Adapter(
        name="sqlserver",
        package="dbt-sqlserver 1.11.3",
        provider=_PROVIDER,
        conn_types=("mssql",),
        fields=(
            _DRIVER,
            *_where(_SQL_SERVER),
            integer("port", "port", default=1433),
            integer("access_token_expires_on"),
            text("backend", choices=("pyodbc", "mssql-python")),
            boolean("xact_abort"),
        ),
        finish=finish_by(_SQL_SERVER),
        ignored=_OF_PYMSSQL,
    ),
    Adapter(
        name="fabric",
        package="dbt-fabric 1.11.1",
        provider=_PROVIDER,
        fields=(
            *_where(_FABRIC),
            *optional(str, "token_scope workspace_id fabric_base_api_uri powerbi_base_api_uri credential_class"),
            *optional(str, "federated_token_url federated_token_file"),
            text("workspace_name", aliases=("workspace",)),
            text("purview_endpoint", aliases=("purview",)),
            secret("federated_token_header"),
            mapping("credential_kwargs"),
            integer("lock_timeout"),
        ),
        inputs=(_PORT,),
        finish=finish_by(_FABRIC, "ActiveDirectoryDefault"),
        ignored=(*_OF_PYMSSQL, "driver"),
    ),
    Adapter(
        name="synapse",
        package="dbt-synapse 1.8.5",
        provider=_PROVIDER,
        fields=(
            _DRIVER,
            *_where(_SYNAPSE),
            integer("access_token_expires_on"),
            *optional(str, "workspace_id warehouse_snapshot_name warehouse_snapshot_id snapshot_timestamp api_url"),
            boolean("pooling"),
        ),
        inputs=(_PORT,),
        finish=finish_by(_SYNAPSE),
        ignored=_OF_PYMSSQL,
    ),
)
