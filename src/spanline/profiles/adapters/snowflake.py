"""Snowflake: by password, key pair, OAuth, browser, programmatic token or workload identity."""

from __future__ import annotations

import base64
import binascii

from spanline.profiles.adapter import (
    Adapter,
    Field,
    Values,
    Wrong,
    content,
    mapping,
    needs,
    one_of,
    optional,
    secret,
    text,
    together,
    without,
)
from spanline.profiles.connection import Connection

_BY_TOKEN = ("oauth", "jwt", "programmatic_access_token", "workload_identity")
_AUTHENTICATORS = (*_BY_TOKEN, "snowflake", "externalbrowser", "snowflake_jwt", "username_password_mfa")
_OAUTH = "dbt-snowflake gets tokens from Snowflake itself, with a refresh_token: give that"


def finish(values: Values, _connection: Connection) -> Values:
    """With a private key, the password is its passphrase; with `refresh_token`, login and password are the client's."""
    account, region = values.get("account"), values.get("region")
    if account and region and not str(account).endswith(f".{region}"):
        values["account"] = f"{account}.{region}"
    values = _with_query_tag(_with_key(_with_refresh_token(values)))
    named = str(values.get("authenticator", "snowflake"))
    authenticator = named.lower() if named.lower() in _AUTHENTICATORS else named  # else the address of an Okta
    if "authenticator" in values:
        values["authenticator"] = authenticator
    if authenticator == "programmatic_access_token":
        values.setdefault("token", values.pop("password", None))
    if "token" in values and authenticator not in _BY_TOKEN:
        raise Wrong("authenticator", f"is missing, and a token needs it: one of {', '.join(_BY_TOKEN)}")
    if authenticator == "workload_identity":
        needs(values, ["workload_identity_provider"], authenticator)
    elif authenticator in _BY_TOKEN:
        needs(values, ["token"], f"authenticator {authenticator}")
    else:
        needs(values, ["user"], f"authenticator {authenticator}")
        if authenticator != "externalbrowser":
            one_of(values, "password", "private_key", "private_key_path")
    together(values, "oauth_client_id", "oauth_client_secret")
    return values


def _with_refresh_token(values: Values) -> Values:
    """Airflow's login and password are the client's id and secret beside a refresh token: dbt's `token`, with those."""
    if "refresh_token" not in values:
        return values
    renamed = {"user": "oauth_client_id", "password": "oauth_client_secret", "refresh_token": "token"}
    client = {renamed[name]: values[name] for name in renamed if name in values}
    return {"authenticator": "oauth", **client, **without(values, *renamed)}


def _with_key(values: Values) -> Values:
    """Where there is a key, Airflow's password is its passphrase; a key that isn't encrypted must have none."""
    if "private_key" not in values and "private_key_path" not in values:
        return values
    kept = without(values, "password", "private_key_passphrase")
    if one_of(values, "private_key", "private_key_path") == "private_key":
        kept["private_key"] = key = _pem(str(values["private_key"]))
    else:
        key = content(values["private_key_path"]) or ""
    passphrase = values.get("private_key_passphrase") or values.get("password")
    if "ENCRYPTED" in key and passphrase is None:
        raise Wrong("private_key_passphrase", "is missing, and the key is encrypted")
    if passphrase is not None and ("ENCRYPTED" in key or "-----BEGIN" not in key):
        kept["private_key_passphrase"] = passphrase
    return kept


def _pem(key: str) -> str:
    """A key as PEM has it, with lines; it may have lost them, or be that in base64. Base64 of DER stays what it is."""
    if "-----BEGIN" not in key:
        try:
            decoded = base64.b64decode(key, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return key
        return decoded if "-----BEGIN" in decoded else key
    return key.replace("\\n", "\n")


def _with_query_tag(values: Values) -> Values:
    parameters = values.get("session_parameters")
    if not isinstance(parameters, dict):
        return values
    others = [name for name in parameters if name.upper() != "QUERY_TAG"]
    if others:
        raise Wrong("session_parameters", f"has {', '.join(others)}, which dbt-snowflake can't set")
    return {"query_tag": next(iter(parameters.values()), None), **values}


ADAPTERS = (
    Adapter(
        name="snowflake",
        package="dbt-snowflake 1.12.4",
        provider="apache-airflow-providers-snowflake 6.20.0",
        conn_types=("snowflake_sql_api",),
        fields=(
            text("account", required=True),
            text("user", "login"),
            secret("password", "password"),
            text("database", required=True),
            text("schema", "schema", required=True),
            *optional(str, "warehouse role authenticator"),
            secret("private_key", "private_key_content"),
            text("private_key_path", "private_key_file"),
            secret("private_key_passphrase"),
            secret("token"),
            text("oauth_client_id"),
            secret("oauth_client_secret"),
            *optional(str, "workload_identity_provider workload_identity_entra_resource"),
            *optional(str, "query_tag host proxy_host protocol s3_stage_vpce_dns_name"),
            *optional(int, "port proxy_port connect_retries connect_timeout"),
            *optional(bool, "client_session_keep_alive retry_on_database_errors retry_all insecure_mode"),
            *optional(bool, "reuse_connections"),
            Field("platform_detection_timeout_seconds", kind=float),
        ),
        inputs=(text("region"), secret("refresh_token"), mapping("session_parameters")),
        finish=finish,
        ignored=(
            *("client_request_mfa_token", "client_store_temporary_credential", "grant_type", "scope", "redirect_uri"),
            *("json_result_force_utf8_decoding", "ocsp_fail_open"),
        ),
        refused={
            "azure_conn_id": _OAUTH,
            "token_endpoint": _OAUTH,
            "oauth_username": _OAUTH,
            "oauth_password": _OAUTH,
            "token_file_path": "dbt-snowflake does not read files: give the token",
            "proxy_user": "dbt-snowflake does not log in to proxies",
            "proxy_password": "dbt-snowflake does not log in to proxies",
        },
    ),
)
