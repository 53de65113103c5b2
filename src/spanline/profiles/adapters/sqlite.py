"""SQLite: the connection's host is the file of the schema."""

from __future__ import annotations

from pathlib import Path

from spanline.profiles.adapter import Adapter, Field, Values, Wrong, text, texts
from spanline.profiles.connection import Connection


def finish(values: Values, connection: Connection) -> Values:
    """The host is the file of the schema; its directory holds the other files."""
    schema, path = str(values["schema"]), connection.host
    if path is not None:
        values.setdefault("schemas_and_paths", {schema: path})
        values.setdefault("schema_directory", str(Path(path).parent))
    paths = values.get("schemas_and_paths")
    if isinstance(paths, dict) and schema not in paths:
        raise Wrong("schemas_and_paths", "names no file for the schema")
    return values


ADAPTERS = (
    Adapter(
        name="sqlite",
        package="dbt-sqlite 1.10.0",
        provider="apache-airflow-providers-sqlite 4.3.4",
        fields=(
            Field("schemas_and_paths", kind=dict[str, str], required=True),
            text("schema_directory", required=True),
            text("database", default="database"),
            text("schema", default="main"),
            texts("extensions"),
        ),
        finish=finish,
    ),
)
