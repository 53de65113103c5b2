"""Athena: by keys, by a named profile of AWS's, or by what boto3 finds; a role may be assumed."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Field, Values, integer, mapping, optional, secret, text, together
from spanline.profiles.adapters import aws
from spanline.profiles.connection import Connection


def finish(values: Values, _connection: Connection) -> Values:
    """The id and the secret of a key go together."""
    aws.check_method(values)
    together(values, "aws_access_key_id", "aws_secret_access_key")
    return values


ADAPTERS = (
    Adapter(
        name="athena",
        package="dbt-athena 1.11.1",
        provider=aws.PROVIDER,
        conn_types=(aws.CONN_TYPE,),
        fields=(
            text("region_name", required=True),
            text("database", default="awsdatacatalog", aliases=("catalog",)),
            text("schema", "schema", required=True),
            *optional(str, "s3_staging_dir work_group spark_work_group"),
            text("aws_access_key_id", "login"),
            secret("aws_secret_access_key", "password"),
            secret("aws_session_token"),
            text("aws_profile_name", "profile_name", "profile", "session_kwargs.profile_name"),
            text("assume_role_arn", "role_arn"),  # dbt drops `role_arn` without a word
            text("assume_role_external_id", "external_id", "assume_role_kwargs.ExternalId"),
            text("assume_role_session_name", "assume_role_kwargs.RoleSessionName"),
            integer("assume_role_duration_seconds", "assume_role_kwargs.DurationSeconds"),
            *optional(str, "endpoint_url s3_data_dir s3_data_naming s3_tmp_table_dir connection_manager"),
            *optional(int, "num_retries num_boto3_retries num_iceberg_retries"),
            *optional(bool, "skip_workgroup_check debug_query_state"),
            Field("poll_interval", kind=float),
            mapping("seed_s3_upload_args"),
            Field("lf_tags_database", kind=dict[str, str]),
        ),
        inputs=(aws.METHOD,),
        finish=finish,
        ignored=aws.IGNORED,
        refused=aws.REFUSED,
    ),
)
