"""Databricks: by token, or by OAuth for a service principal of Databricks' or of Azure's."""

from __future__ import annotations

from spanline.profiles.adapter import (
    Adapter,
    Values,
    Wrong,
    boolean,
    mapping,
    needs,
    optional,
    secret,
    text,
    texts,
    together,
)
from spanline.profiles.connection import Connection

_FEDERATED = "dbt-databricks takes an OIDC token only by auth_type env-oidc or file-oidc"
_AZURE = "dbt-databricks logs in to Azure by a client's id and secret"


def finish(values: Values, connection: Connection) -> Values:
    """A password without a login is a token. Both belong to a service principal if `extra` says so."""
    values["host"] = str(values.get("host", "")).partition("://")[2] or values.get("host")
    values["host"] = str(values["host"] or "").rstrip("/") or None
    principal = {"azure_": "azure_tenant_id" in values, "": values.get("service_principal_oauth") is True}
    for prefix, meant in principal.items():
        if meant and "token" not in values:
            given = {f"{prefix}client_id": connection.login, f"{prefix}client_secret": connection.password}
            values = {"auth_type": "oauth", **given, **values}
            needs(values, given, "a service principal")
    if not any(principal.values()) and connection.password and "token" not in values:
        if connection.login not in (None, "token"):
            raise Wrong("token", "is missing: dbt-databricks knows no login with a password; a token has no login")
        values["token"] = connection.password
    if "token" not in values:
        needs(values, ["auth_type"], "a login without a token")
    if together(values, "azure_client_id", "azure_client_secret") or "client_secret" not in values:
        return values
    needs(values, ["client_id"], "a client_secret")
    return values


ADAPTERS = (
    Adapter(
        name="databricks",
        package="dbt-databricks 1.12.7",
        provider="apache-airflow-providers-databricks 7.23.0",
        conn_types=("databricks_sql",),
        fields=(
            text("host", "host", required=True),
            text("http_path", required=True),
            text("database", aliases=("catalog",)),
            text("schema", "schema", required=True),
            secret("token"),
            text("auth_type", choices=("oauth", "env-oidc", "file-oidc")),
            text("client_id"),
            secret("client_secret"),
            text("azure_client_id"),
            secret("azure_client_secret"),
            *optional(str, "oauth_redirect_url oidc_token_filepath query_tags"),
            texts("oauth_scopes"),
            mapping("session_properties", "session_configuration"),
            mapping("connection_parameters"),
            mapping("compute"),
            *optional(int, "connect_retries connect_timeout connect_max_idle"),
            *optional(bool, "retry_all"),
        ),
        inputs=(boolean("service_principal_oauth"), text("azure_tenant_id")),
        finish=finish,
        ignored=("azure_resource_id", "proxies"),
        refused={
            "use_azure_managed_identity": _AZURE,
            "use_default_azure_credential": _AZURE,
            "azure_managed_identity_client_id": _AZURE,
            "federated_aws": _FEDERATED,
            "federated_k8s": _FEDERATED,
            "federated_token_provider": _FEDERATED,
        },
    ),
)
