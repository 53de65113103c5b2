"""Adapters: the fields of a dbt profile, where each is found in a connection, and how they are checked.

An adapter is data, with a function only if a field depends on others. Its fields have dbt's names in `profiles.yml`.
All of them are listed, because dbt itself accepts any field and drops unknown ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, get_origin

import msgspec

from spanline.profiles.connection import Connection

Values = dict[str, object]
"""The fields that a connection has, by dbt's names of them."""
Kind = object
"""What a value is, as a type: `str`, `int`, `float`, `bool`, `list[str]`, `dict[str, object]`, `dict[str, str]`."""

OF_CONNECTION: Final = frozenset(("host", "port", "login", "password", "schema"))
"""The fields of a connection that a source may name; any other source is a path in `extra`."""
_WORDS: Final[Mapping[object, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list[str]: "a list of texts",
    dict[str, str]: "a mapping of texts",
    dict[str, object]: "a mapping",
}


class Wrong(Exception):  # noqa: N818 - it is about a value
    """A field is wrong. `field` is dbt's name of it; the message must not contain a value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Field(msgspec.Struct, frozen=True):
    """One field of a profile.

    It is looked for in `extra` by its name and its `aliases` (dbt's other names of it), then in the `sources`: a field
    of the connection, or a key in `extra`, `a.b` for one within another; then it is the `default`. One of which
    `variable` is given isn't written into the profile, but into that variable of dbt's environment.
    """

    name: str
    sources: tuple[str, ...] = ()
    kind: Kind = str
    required: bool = False
    default: object = None
    secret: bool = False
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    variable: str = ""

    def convert(self, value: object) -> object:
        """The value in the form that dbt accepts for this field; None if it is empty. Raises `Wrong`."""
        found = _converted(self.name, value, self.kind)
        if found is None or not self.choices:
            return found
        for choice in self.choices:
            if str(found).lower() == choice.lower():
                return choice
        raise Wrong(self.name, f"must be one of {', '.join(self.choices)}")


def _unchanged(values: Values, _connection: Connection) -> Values:
    return values


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection becomes a profile of one of dbt's adapters.

    `name` is the adapter's `type` in a profile, `package` its package and version whose fields these are, and
    `provider` that of Airflow whose keys in `extra` they are. `conn_types` are Airflow's types of such a connection.
    `inputs` are read as fields are, and not written: `finish` makes fields of them. It gets what was found, and returns
    what is to be written. Of `extra`'s other keys `ignored` ones mean nothing to dbt, and `refused` ones, with the
    reason, ask for what dbt can't do.
    """

    name: str
    package: str
    fields: tuple[Field, ...]
    conn_types: tuple[str, ...] = ()
    provider: str = ""
    inputs: tuple[Field, ...] = ()
    finish: Callable[[Values, Connection], Values] = _unchanged
    ignored: tuple[str, ...] = ()
    refused: Mapping[str, str] = {}


# --- fields, shortly


def text(name: str, *sources: str, **more: object) -> Field:
    """A text."""
    return _field(name, sources, str, more)


def secret(name: str, *sources: str, **more: object) -> Field:
    """A text that nobody may read."""
    return _field(name, sources, str, {"secret": True, **more})


def integer(name: str, *sources: str, **more: object) -> Field:
    """A whole number."""
    return _field(name, sources, int, more)


def boolean(name: str, *sources: str, **more: object) -> Field:
    """True or false."""
    return _field(name, sources, bool, more)


def texts(name: str, *sources: str, **more: object) -> Field:
    """A list of texts."""
    return _field(name, sources, list[str], more)


def mapping(name: str, *sources: str, **more: object) -> Field:
    """A mapping; what stands in it under a telling name is a secret."""
    return _field(name, sources, dict[str, object], more)


def optional(kind: Kind, names: str) -> tuple[Field, ...]:
    """Fields of one kind that only `extra` has, each by its name."""
    return tuple(Field(name, kind=kind) for name in names.split())


def _field(name: str, sources: tuple[str, ...], kind: Kind, more: Mapping[str, object]) -> Field:
    return msgspec.convert({"name": name, "sources": sources, "kind": kind, **more}, Field)


SCHEMA: Final = text("schema", required=True)
"""Where a connection's own `schema` is the database, as with PostgreSQL."""


# --- what depends on other fields


def needs(values: Values, names: Iterable[str], what_for: str) -> None:
    """Raise `Wrong` for the first of these that is missing."""
    for name in names:
        if values.get(name) is None:
            raise Wrong(name, f"is missing, and {what_for} needs it")


def one_of(values: Values, *names: str) -> str:
    """The one of these that is set. Raises `Wrong` if none or several are."""
    found = [name for name in names if values.get(name) is not None]
    if not found:
        raise Wrong(names[0], f"is missing: give one of {', '.join(names)}")
    if len(found) > 1:
        raise Wrong(found[1], f"and {found[0]} contradict each other: give one of them")
    return found[0]


def together(values: Values, *names: str) -> bool:
    """Whether all of these are set. Raises `Wrong` if only some are."""
    found = [name for name in names if values.get(name) is not None]
    if found:
        needs(values, names, found[0])
    return bool(found)


def without(values: Values, *names: str) -> Values:
    """All but these."""
    return {name: value for name, value in values.items() if name not in names}


def content(path: object) -> str | None:
    """The text of a file that a field names; None where this process can't read it."""
    place = Path(str(path))
    try:
        return place.read_text() if place.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def flag(value: object) -> bool:
    """Whether a key of `extra` asks for what it names."""
    return str(value).strip().lower() not in ("", "none", "false", "0", "no", "off", "{}", "[]")


# --- values


def _converted(name: str, value: object, kind: Kind) -> object:
    """The value as this kind. Raises `Wrong`, which doesn't tell the value."""
    plain = value.strip() if isinstance(value, str) and kind is not str else value
    if plain in (None, ""):
        return None
    if kind is str:
        return _text(name, plain)
    if isinstance(plain, str) and kind not in (int, float, bool):
        plain = _decoded(name, plain, kind)
    if kind == dict[str, str] and isinstance(plain, Mapping):
        plain = {str(key): _text(name, inner) for key, inner in plain.items()}
    try:
        return msgspec.to_builtins(msgspec.convert(plain, kind, strict=False))
    except msgspec.ValidationError as error:
        raise Wrong(name, f"is not {_WORDS[kind]}" if kind in _WORDS else f"is wrong: {error}") from None


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise Wrong(name, f"is not {_WORDS[str]}")


def _decoded(name: str, text: str, kind: Kind) -> object:
    """What a text in `extra` stands for: JSON, or, for a list, `a, b`."""
    if get_origin(kind) is list and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise Wrong(name, "is not JSON") from None
