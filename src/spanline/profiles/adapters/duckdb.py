"""DuckDB: a file, memory, MotherDuck, or a DuckLake."""

from __future__ import annotations

import msgspec

from spanline.profiles.adapter import Adapter, Field, Values, Wrong, mapping, optional, secret, text, texts
from spanline.profiles.connection import Connection


class Attachment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A database to attach."""

    path: str
    type: str | None = None
    alias: str | None = None
    secret: str | None = None  # the name of one of the profile's secrets
    read_only: bool = False
    options: dict[str, object] | None = None
    is_ducklake: bool | None = None


class Plugin(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A plugin of dbt-duckdb."""

    module: str
    alias: str | None = None
    config: dict[str, object] | None = None


def finish(values: Values, connection: Connection) -> Values:
    """A password is a MotherDuck token; the connection's schema is then the database, otherwise dbt's schema."""
    kept = values.get("secrets")
    if isinstance(kept, list) and not all(isinstance(one, dict) and "type" in one for one in kept):
        raise Wrong("secrets", "has one without a type")
    if "token" in values:
        path = str(values.get("path") or f"md:{connection.schema or ''}")
        if not path.startswith(("md:", "motherduck:")):
            raise Wrong("path", "is a file, and a password is a token of MotherDuck's: give one of them")
        settings = values.get("settings")
        merged = {**(settings if isinstance(settings, dict) else {}), "motherduck_token": values["token"]}
        return {**values, "path": path, "settings": merged}
    return {"path": ":memory:", "schema": connection.schema, **values}


ADAPTERS = (
    Adapter(
        name="duckdb",
        package="dbt-duckdb 1.11.1",
        provider="airflow-provider-duckdb 0.2.0",
        # Never `database`, which dbt makes of the path, and refuses where it is another.
        fields=(
            text("path", "host"),
            text("schema"),
            Field("extensions", kind=list[str | dict[str, str]]),
            mapping("settings"),
            mapping("config_options"),
            Field("secrets", kind=list[dict[str, object]]),
            Field("attach", kind=list[Attachment]),
            Field("plugins", kind=list[Plugin]),
            Field("filesystems", kind=list[dict[str, object]]),
            texts("module_paths"),
            *optional(str, "external_root use_credential_provider"),
            *optional(bool, "is_ducklake disable_transactions keep_open"),
            *optional(dict[str, object], "remote retries flights"),
        ),
        inputs=(secret("token", "password", aliases=("motherduck_token",)),),
        finish=finish,
    ),
)
