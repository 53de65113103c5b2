"""Connection: how to reach a warehouse, with the fields of an Airflow connection. It does not need Airflow."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from spanline.errors import DbtProfileException, UsageError
from spanline.runner.shared import settings

_PROTOCOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LONG_NAME: Final = re.compile(r"extra__[a-z0-9_]+?__(?=[a-z])")
"""What Airflow 1 and 2 put before the names of fields that a provider has added to the form."""
_NAMES: Final = ("conn_id", "conn_type", "host", "port", "login", "password", "schema")
_SAID_BY_AIRFLOW: Final = ("id", "description", "is_encrypted", "is_extra_encrypted", "get_uri", "team_name")
"""Further fields of what `airflow connections get` and `airflow connections export` print."""


def failure(message: str, *, conn_id: str, field: str | None = None) -> DbtProfileException:
    """The exception for a connection of which no profile can be made; the message must hold no value of it."""
    error = DbtProfileException(f"connection {conn_id!r}: {message}", category="profile")
    error.conn_id, error.field = conn_id, field
    return error


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a warehouse. docs/profiles.md says what each field means for an adapter.

    `conn_type` is Airflow's connection type, or dbt's name of an adapter. An empty text and port 0 mean not set.
    Its `repr` shows neither the password nor the contents of `extra`.
    """

    conn_id: str
    conn_type: str = ""
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = None
    schema: str | None = None
    extra: Mapping[str, object] = {}

    def __repr__(self) -> str:
        return f"Connection(conn_id={self.conn_id!r}, conn_type={self.conn_type!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:  # by which rich shows local variables beside a traceback
        return [("conn_id", self.conn_id), ("conn_type", self.conn_type)]

    @classmethod
    def from_mapping(cls, fields: Mapping[str, object], conn_id: str = "") -> Connection:
        """The connection with these fields, named as Airflow names them: `extra` is a mapping, or its JSON.

        `conn_id` is its name where the fields have none. Raises `DbtProfileException` where one has no meaning.
        """
        named = str(fields.get("conn_id") or conn_id or "connection")
        unknown = sorted(set(map(str, fields)) - {*_NAMES, *_SAID_BY_AIRFLOW, "extra", "extra_dejson"})
        if unknown:
            raise failure(f"unknown fields of a connection: {', '.join(unknown)}", conn_id=named, field=unknown[0])
        extra = fields.get("extra") or fields.get("extra_dejson") or {}
        return cls(
            conn_id=named,
            conn_type=str(fields.get("conn_type") or "").replace("-", "_"),
            host=_text(fields, "host", named),
            port=_port(fields.get("port"), named),
            login=_text(fields, "login", named),
            password=_text(fields, "password", named),
            schema=_text(fields, "schema", named),
            extra=_extra(extra, named),
        )

    @classmethod
    def from_json(cls, text: str | bytes, conn_id: str = "") -> Connection:
        """The connection that a JSON object, a list of one (`airflow connections get … -o json`) or a URI describes."""
        named = conn_id or "connection"
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError):  # whose text may hold a secret
            raise failure("it is not JSON", conn_id=named) from None
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if isinstance(found, str):
            return cls.from_uri(found, named)
        if not isinstance(found, Mapping):
            raise failure("its JSON is not an object with fields such as conn_type and host", conn_id=named)
        return cls.from_mapping(found, conn_id)

    @classmethod
    def from_file(cls, path: str | Path, conn_id: str = "") -> Connection:
        """The connection in a JSON file, named by the file where it has no `conn_id`. Raises `UsageError` too."""
        place = Path(path)
        try:
            return cls.from_json(place.read_bytes(), conn_id or place.stem)
        except OSError as error:
            raise UsageError(f"cannot read {place}: {error.strerror}") from error

    @classmethod
    def from_environment(cls, conn_id: str, environ: Mapping[str, str] | None = None) -> Connection:
        """The connection in the variable `AIRFLOW_CONN_<CONN_ID>`, as JSON or as a URI. Raises `UsageError` too."""
        variable = f"{settings.AIRFLOW_CONNECTION_PREFIX}{conn_id.upper()}"
        text = (os.environ if environ is None else environ).get(variable)
        if not text:
            raise UsageError(f"there is no connection {conn_id!r}: the variable {variable} is not set")
        return cls.from_json(text, conn_id) if text.lstrip().startswith("{") else cls.from_uri(text, conn_id)

    @classmethod
    def from_uri(cls, uri: str, conn_id: str) -> Connection:
        """The connection that a URI of Airflow's describes, read as Airflow reads it.

        https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#uri-format
        """
        conn_type, _, rest = uri.partition("://")
        protocol = _PROTOCOL.match(rest)
        try:
            parts = urlsplit(f"//{rest[protocol.end() if protocol else 0 :]}")
            port = parts.port
            host = _host(parts.hostname or "", parts.netloc)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
        except ValueError:  # whose text may hold a secret
            raise failure("its URI cannot be read: are its parts percent-encoded?", conn_id=conn_id) from None
        return cls.from_mapping(
            {
                "conn_type": "postgres" if conn_type == "postgresql" else conn_type,
                "host": f"{protocol[0]}{host}" if protocol and host else host,
                "port": port,
                "login": unquote(parts.username or ""),
                "password": unquote(parts.password or ""),
                "schema": unquote(parts.path[1:]),
                "extra": query.get("__extra__", query),
            },
            conn_id,
        )


def _host(name: str, place: str) -> str:
    """The host of a URI, in lower case but where it is a path."""
    host = unquote(name)
    return unquote(place.rpartition("@")[2].partition(":")[0]) if "/" in host else host


def _text(fields: Mapping[str, object], name: str, conn_id: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise failure(f"{name} is not a string", conn_id=conn_id, field=name)
    return str(value)


def _port(value: object, conn_id: str) -> int | None:
    try:
        port = int(value) if isinstance(value, (str, int)) and value != "" else 0
    except ValueError:
        port = -1
    if not 0 <= port < 1 << 16 or (value and not isinstance(value, (str, int))):
        raise failure("port is not a port number", conn_id=conn_id, field="port") from None
    return port or None


def _extra(value: object, conn_id: str) -> dict[str, object]:
    if isinstance(value, (str, bytes)):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError):
            raise failure("extra is not JSON", conn_id=conn_id, field="extra") from None
    if not isinstance(value, Mapping):
        raise failure("extra is not a JSON object", conn_id=conn_id, field="extra")
    named = {str(name): inner for name, inner in value.items()}
    shortened = {_LONG_NAME.sub("", name): inner for name, inner in named.items()}
    return {**shortened, **{name: inner for name, inner in named.items() if not _LONG_NAME.match(name)}}
