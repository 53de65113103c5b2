"""Glue: interactive sessions, whose role the profile names; who asks for them is for boto3 to find."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Field, Values, integer, optional, secret, text, texts, together
from spanline.profiles.adapters import aws
from spanline.profiles.connection import Connection


def finish(values: Values, _connection: Connection) -> Values:
    """The id and the secret of a key go together, and go into the environment, where boto3 finds them."""
    together(values, "aws_access_key_id", "aws_secret_access_key")
    return values


ADAPTERS = (
    Adapter(
        name="glue",
        package="dbt-glue 1.10.19",
        provider=aws.PROVIDER,
        conn_types=(aws.CONN_TYPE,),
        fields=(
            text("role_arn", required=True),
            text("region", "region_name", required=True),
            text("schema", "schema", required=True),  # dbt refuses a `database` that is another
            integer("workers", required=True),
            text("worker_type", required=True),
            # dbt-glue has no fields for keys: boto3 finds these.
            text("aws_access_key_id", "login", variable="AWS_ACCESS_KEY_ID"),
            secret("aws_secret_access_key", "password", variable="AWS_SECRET_ACCESS_KEY"),
            secret("aws_session_token", variable="AWS_SESSION_TOKEN"),
            text("aws_profile_name", "profile_name", "profile", "session_kwargs.profile_name", variable="AWS_PROFILE"),
            *optional(str, "location extra_jars glue_version security_configuration connections conf"),
            *optional(str, "extra_py_files delta_athena_prefix tags temp_schema seed_format seed_mode"),
            *optional(str, "default_arguments iceberg_glue_commit_lock_table lf_tags glue_session_id"),
            *optional(str, "datalake_formats group_session_id custom_iceberg_catalog_namespace boto_retry_mode"),
            *optional(int, "session_provisioning_timeout_in_seconds idle_timeout query_timeout_in_minutes"),
            *optional(int, "boto_retry_max_attempts"),
            *optional(bool, "use_interactive_session_role_for_api_calls glue_session_reuse"),
            *optional(bool, "enable_session_per_model use_arrow enable_spark_seed_casting"),
            Field("statement_poll_interval", kind=float),
            texts("packages"),
        ),
        finish=finish,
        ignored=aws.IGNORED,
        refused={
            **aws.REFUSED,
            "assume_role_method": "boto3 only assumes the role of an AWS profile",
            "assume_role_kwargs": "boto3 only assumes the role of an AWS profile",
            "endpoint_url": "dbt-glue always connects to AWS",
        },
    ),
)
