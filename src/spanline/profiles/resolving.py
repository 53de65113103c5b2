"""Make a profile from a connection: find its fields, check that they suit the adapter, write them."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from spanline.profiles import registry
from spanline.profiles.adapter import OF_CONNECTION, Adapter, Field, Values, Wrong, flag
from spanline.profiles.connection import Connection, failure
from spanline.profiles.profile import Profile, Writer

_THREADS: Final = Field("threads", kind=int)
"""dbt's own, for every adapter."""
_OF_EVERY_HOOK: Final = (
    *("escape_column_names", "escape_word_format", "insert_statement_format", "placeholder"),
    *("replace_statement_format", "sqlalchemy_scheme", "sqlalchemy_query"),
)
"""Keys in `extra` by which Airflow's SQL hooks write statements, which dbt writes itself: common-sql 2.4.0."""


def resolve(
    connection: Connection,
    adapter: str | None = None,
    *,
    target: str | None = None,
    threads: int | None = None,
    schema: str | None = None,
) -> Profile:
    """Make a profile from a connection, for dbt's adapter of that name (default: according to the connection's type).

    `target` is the name of the output (default: the step's `--target`, else `default`). `threads` and `schema` override
    those in the connection.
    Raises `DbtProfileException`, which names the connection and the field, and never a value.
    """
    known = registry.find(connection, adapter)
    given: dict[str, object] = {"threads": threads, "schema": schema}
    try:
        _check_keys(connection.extra, known)
        fields = (*known.fields, _THREADS)
        found = {field.name: _value(field, connection, given) for field in (*known.inputs, *fields)}
        values = known.finish({name: value for name, value in found.items() if value is not None}, connection)
        _check_required(values, fields)
        return _written(connection, known, values, fields, target)
    except Wrong as wrong:
        raise failure(f"{wrong.field} {wrong}", conn_id=connection.conn_id, field=wrong.field) from None


def _check_keys(extra: Mapping[str, object], adapter: Adapter) -> None:
    """Raise `Wrong` for a key in `extra` that nothing reads, or one that asks for what dbt can't do."""
    for key, reason in adapter.refused.items():
        if flag(extra.get(key)):
            raise Wrong(key, f"is in extra: {reason}")
    known = {*adapter.ignored, *adapter.refused, *_OF_EVERY_HOOK, *_read(adapter)}
    for key, value in extra.items():
        if key not in known and value not in (None, ""):  # Airflow keeps what was left empty in a form
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"docs/profiles.md lists what {adapter.name} reads"
            raise Wrong(key, f"is in extra, and {adapter.name} has no such field: {hint}")
    for key, names in _read_within(adapter).items():
        others = sorted(set(_within(extra.get(key))) - names)
        if others:
            raise Wrong(key, f"has {', '.join(others)} in it, which {adapter.name} cannot receive")


def _read_within(adapter: Adapter) -> dict[str, set[str]]:
    """The keys within a key of `extra` that fields are read from."""
    found: dict[str, set[str]] = {}
    for field in adapter.fields:
        for key, separator, name in (source.partition(".") for source in field.sources):
            if separator:
                found.setdefault(key, set()).add(name)
    return found


def _within(value: object) -> Mapping[str, object]:
    """What a key of `extra` has in it, which may be JSON still; nothing where it holds no mapping."""
    if isinstance(value, str):
        with contextlib.suppress(msgspec.DecodeError):
            value = msgspec.json.decode(value)
    return value if isinstance(value, Mapping) else {}


def _read(adapter: Adapter) -> Iterator[str]:
    """The keys in `extra` that this adapter's fields are read from."""
    for field in (*adapter.inputs, *adapter.fields, _THREADS):
        yield from (field.name, *field.aliases)
        yield from (source.partition(".")[0] for source in field.sources if source not in OF_CONNECTION)


def _value(field: Field, connection: Connection, given: Mapping[str, object]) -> object:
    """The value of a field, from the first place that has one. Raises `Wrong`."""
    if given.get(field.name) not in (None, ""):
        return field.convert(given[field.name])
    names = [name for name in (field.name, *field.aliases) if connection.extra.get(name) not in (None, "")]
    if len(names) > 1:
        raise Wrong(field.name, f"is in extra as {' and as '.join(names)}: give one of them")
    for source in (*names, *field.sources):
        value = field.convert(_at(source, connection, in_extra=source in names))
        if value is not None:
            return value
    return field.default


def _at(source: str, connection: Connection, *, in_extra: bool) -> object:
    if source in OF_CONNECTION and not in_extra:
        return getattr(connection, source)
    key, _, name = source.partition(".")
    found = connection.extra.get(key)
    return _within(found).get(name) if name else found


def _check_required(values: Values, fields: tuple[Field, ...]) -> None:
    for field in fields:
        if field.required and values.get(field.name) is None:
            raise Wrong(field.name, f"is missing: give {_places(field)}")


def _places(field: Field) -> str:
    """Where to put a field, in words."""
    asked = ["`schema`"] if field.name == "schema" else []
    of_connection = [f"its {source}" for source in field.sources if source in OF_CONNECTION]
    names = (field.name, *field.aliases, *(source for source in field.sources if source not in OF_CONNECTION))
    return ", or ".join([*asked, *of_connection, f"{' or '.join(names)} in its extra"])


def _written(
    connection: Connection, adapter: Adapter, values: Values, fields: tuple[Field, ...], target: str | None
) -> Profile:
    writer = Writer()
    output: dict[str, object] = {"type": adapter.name}
    for field in fields:
        value = values.get(field.name)
        if value is None:
            continue
        if field.variable:
            writer.variable(field.name, field.variable, value)
        else:
            output[field.name] = writer.field(field.name, value, secret=field.secret)
    return Profile(
        conn_id=connection.conn_id,
        adapter=adapter.name,
        output=output,
        environment=writer.environment,
        target=target,
    )
