"""Redshift: by password, or by IAM, for a cluster or a serverless workgroup."""

from __future__ import annotations

from spanline.profiles.adapter import (
    SCHEMA,
    Adapter,
    Field,
    Values,
    boolean,
    integer,
    needs,
    optional,
    secret,
    text,
    texts,
    together,
    without,
)
from spanline.profiles.connection import Connection

_BY_IDENTITY_CENTER = {
    "browser_identity_center": ("idc_region", "issuer_url"),
    "oauth_token_identity_center": ("token_endpoint",),
}
_AWS = "dbt-redshift does not assume roles: name an AWS profile that does, with iam_profile"


def finish(values: Values, _connection: Connection) -> Values:
    """With `iam`, the cluster is the first part of the host, unless it is named; all but `iam_role` needs a user."""
    method = str(values.setdefault("method", "iam" if values.get("iam") else "database"))
    if method == "database":
        needs(values, ["user", "password"], method)
        return values
    values = without(values, "password")
    needs(values, _BY_IDENTITY_CENTER.get(method, ()), method)
    if method not in _BY_IDENTITY_CENTER:
        if method == "iam":
            needs(values, ["user"], method)
        if values.get("is_serverless"):
            needs(values, ["serverless_work_group"], "serverless IAM")
        elif values.get("host"):
            values.setdefault("cluster_id", str(values["host"]).partition(".")[0])
        together(values, "access_key_id", "secret_access_key")
    return values


ADAPTERS = (
    Adapter(
        name="redshift",
        package="dbt-redshift 1.11.2",
        provider="apache-airflow-providers-amazon 9.39.0",
        fields=(
            text("method", choices=("database", "iam", "iam_role", *_BY_IDENTITY_CENTER)),
            text("host", "host", required=True),  # also by IAM
            integer("port", "port", default=5439),
            text("user", "login"),
            secret("password", "password", aliases=("pass",)),
            text("database", "schema", required=True, aliases=("dbname",)),
            SCHEMA,
            text("cluster_id", "cluster_identifier"),
            text("region", "region_name"),
            text("iam_profile", "profile_name", "profile", "session_kwargs.profile_name"),
            text("access_key_id", "aws_access_key_id"),
            secret("secret_access_key", "aws_secret_access_key"),
            *optional(bool, "is_serverless"),
            *optional(str, "serverless_work_group serverless_acct_id idc_region issuer_url idc_client_display_name"),
            Field("token_endpoint", kind=dict[str, str], secret=True),
            text("sslmode", choices=("disable", "allow", "prefer", "require", "verify-ca", "verify-full")),
            texts("db_groups"),
            *optional(str, "role query_group"),
            *optional(int, "connect_timeout retries idp_listen_port idp_response_timeout"),
            *optional(int, "tcp_keepalive_idle tcp_keepalive_interval tcp_keepalive_count"),
            *optional(bool, "autocreate ra3_node datasharing retry_all autocommit tcp_keepalive"),
            *optional(bool, "allow_concurrent_drops drop_without_cascade"),
        ),
        inputs=(boolean("iam"),),
        finish=finish,
        ignored=("serverless_token_duration_seconds", "config_kwargs", "service_config", "verify", "endpoint_url"),
        refused={"role_arn": _AWS, "assume_role_method": _AWS, "assume_role_kwargs": _AWS, "aws_session_token": _AWS},
    ),
)
