"""Where artifacts are stored, from an Airflow connection: its bucket as a URL, its credentials as fsspec's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

_SCHEMES: Final = {"aws": "s3", "google_cloud_platform": "gs", "wasb": "abfs", "adls": "abfs"}


def storage_url(bucket: str | None, connection: Connection | None) -> str | None:
    """The URL of a bucket, or of a folder in one; a URL stays as it is. Without a connection a bare name is of S3."""
    if not bucket or "://" in bucket:
        return bucket or None
    return f"{_SCHEMES.get(connection.conn_type, 's3') if connection is not None else 's3'}://{bucket}"


def storage_options(connection: Connection | None) -> dict[str, object] | None:
    """What fsspec is told of a connection's credentials; None where the environment has them.

    https://s3fs.readthedocs.io, https://gcsfs.readthedocs.io, https://fsspec.github.io/adlfs
    """
    if connection is None:
        return None
    extra = connection.extra_dejson
    if connection.conn_type == "aws":
        client = {"endpoint_url": extra.get("endpoint_url"), "region_name": extra.get("region_name")}
        return _given(
            key=connection.login,
            secret=connection.password,
            token=extra.get("aws_session_token"),
            profile=extra.get("profile_name"),
            client_kwargs=_given(**client) or None,
        )
    if connection.conn_type == "google_cloud_platform":
        return _given(
            token=extra.get("keyfile_dict") or extra.get("key_path"),
            project=extra.get("project"),
        )
    if connection.conn_type in ("wasb", "adls"):
        return _given(
            account_name=connection.login or extra.get("account_name"),
            account_key=connection.password,
            connection_string=extra.get("connection_string"),
            sas_token=extra.get("sas_token"),
            tenant_id=extra.get("tenant_id"),
        )
    return dict(extra)


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value}
