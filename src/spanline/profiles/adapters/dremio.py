"""Dremio: software by user and password or personal access token, cloud by token."""

from __future__ import annotations

from spanline.profiles.adapter import (
    Adapter,
    Values,
    Wrong,
    integer,
    needs,
    one_of,
    optional,
    secret,
    text,
    without,
)
from spanline.profiles.connection import Connection


def finish(values: Values, connection: Connection) -> Values:
    """Dremio Cloud if there is a project or a host of dremio.cloud; a password is then a token. Otherwise software."""
    host = connection.host
    if "cloud_host" in values or "cloud_project_id" in values or str(host).endswith("dremio.cloud"):
        if "software_host" in values:
            raise Wrong("software_host", "and cloud_host contradict each other: give one of them")
        values.setdefault("cloud_host", host)
        values.setdefault("pat", values.pop("password", None))
        needs(values, ["cloud_host", "cloud_project_id", "user", "pat"], "Dremio Cloud")
        return without(values, "port", "password")
    values.setdefault("software_host", host)
    values.setdefault("port", 9047)
    needs(values, ["software_host", "user"], "a login")
    one_of(values, "password", "pat")
    return values


ADAPTERS = (
    Adapter(
        name="dremio",
        package="dbt-dremio 1.11.0",
        # dbt invents a space (`@user`, or `@None`) and a folder where there are none.
        fields=(
            text("software_host"),
            integer("port", "port"),
            text("cloud_host"),
            text("cloud_project_id"),
            text("user", "login", aliases=("username", "UID")),
            secret("password", "password", aliases=("PWD",)),
            secret("pat"),
            text("database", required=True, aliases=("dremio_space",)),
            text("schema", "schema", required=True, aliases=("dremio_space_folder",)),
            text("datalake", aliases=("object_storage_source",)),
            text("root_path", aliases=("object_storage_path",)),
            *optional(bool, "use_ssl verify_ssl"),
            *optional(str, "environment"),
        ),
        finish=finish,
    ),
)
