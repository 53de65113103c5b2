"""Trino and Starburst: by password (LDAP), JWT, certificate, Kerberos, OAuth, or none."""

from __future__ import annotations

from spanline.profiles.adapter import (
    Adapter,
    Field,
    Values,
    Wrong,
    boolean,
    content,
    integer,
    mapping,
    needs,
    one_of,
    optional,
    secret,
    text,
    texts,
)
from spanline.profiles.connection import Connection

_OF_AIRFLOW = {"certs": "certificate", "basic": "ldap"}
_NEEDED = {
    "ldap": ("user", "password"),
    "jwt": ("jwt_token",),
    "certificate": ("client_certificate", "client_private_key"),
    "kerberos": ("user",),
    "none": ("user",),
}
_METHODS = (*_NEEDED, "gssapi", "oauth", "oauth_console")


def finish(values: Values, _connection: Connection) -> Values:
    """A password means `ldap`, without which dbt drops it, and goes by http; with neither the method is `none`."""
    named = str(values.get("method") or values.get("auth") or ("ldap" if "password" in values else "none")).lower()
    method = _OF_AIRFLOW.get(named, named)
    if method not in _METHODS:
        raise Wrong("method", f"must be one of {', '.join(_METHODS)}")
    if "password" in values and method != "ldap":
        raise Wrong("password", f"contradicts the method {method}")
    if method == "jwt" and "jwt_file" in values:
        one_of(values, "jwt_token", "jwt_file")
        values["jwt_token"] = (content(values["jwt_file"]) or "").strip() or None
    needs(values, _NEEDED.get(method, ()), f"the method {method}")
    secure = method != "none" or str(values.get("http_scheme")).lower() == "https"
    values.setdefault("port", 443 if secure else 8080)
    if values.get("cert") in ("true", "false"):  # whether to check the server's certificate, which dbt does by itself
        values["cert"] = False if values["cert"] == "false" else None
    return {**values, "method": method}


ADAPTERS = (
    Adapter(
        name="trino",
        package="dbt-trino 1.11.0",
        provider="apache-airflow-providers-trino 6.7.1",
        conn_types=("starburst",),
        fields=(
            text("method"),
            text("host", "host", required=True),
            integer("port", "port"),
            text("user", "login"),
            secret("password", "password"),
            text("database", required=True, aliases=("catalog",)),
            text("schema", "schema", required=True),
            secret("jwt_token", "jwt__token"),
            text("client_certificate", "certs__client_cert_path"),
            text("client_private_key", "certs__client_key_path"),
            text("http_scheme", "protocol", choices=("http", "https")),
            text("cert", "verify"),
            text("principal", "kerberos__principal"),
            text("krb5_config", "kerberos__config"),
            text("service_name", "kerberos__service_name"),
            text("mutual_authentication", "kerberos__mutual_authentication"),
            text("hostname_override", "kerberos__hostname_override"),
            boolean("force_preemptive", "kerberos__force_preemptive"),
            boolean("sanitize_mutual_error_response", "kerberos__sanitize_mutual_error_response"),
            boolean("delegate", "kerberos__delegate"),
            text("keytab"),
            texts("client_tags"),
            Field("roles", kind=dict[str, str]),
            mapping("session_properties"),
            Field("http_headers", kind=dict[str, str]),
            secret("starburst_secret_key"),
            *optional(str, "timezone impersonation_user"),
            *optional(str, "starburst_url starburst_client_id starburst_metadata_failure_strategy"),
            *optional(int, "retries starburst_max_column_batch_size"),
            *optional(bool, "prepared_statements_enabled suppress_cert_warning"),
        ),
        inputs=(text("auth"), text("jwt_file", "jwt__file")),
        finish=finish,
        ignored=("isolation_level", "source"),
        refused={
            "impersonate_as_owner": "dbt-trino knows no owner of a DAG: give impersonation_user",
            "extra_credential": "dbt-trino sends none",
            "kerberos__ca_bundle": "give it as cert",
        },
    ),
)
