"""Keep an event under a megabyte, which brokers and backends take: large facets are cut, and the event says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from json.encoder import encode_basestring_ascii
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar, cast

import attr
import msgspec
from openlineage.client.event_v2 import JobEvent, OutputDataset, RunEvent
from openlineage.client.facet_v2 import JobFacet, RunFacet, column_lineage_dataset

from spanline.sinks.openlineage.facets import PRODUCER, own_schema

ColumnLineageDatasetFacet = column_lineage_dataset.ColumnLineageDatasetFacet

EVENT_BYTES: Final = 1_000_000
SQL_CHARACTERS: Final = 200_000
_SQL_IN_ALL: Final = 4_000_000
"""What SQL may amount to in a DataHub, which copies it into the lineage of each column: its producer takes 5 MiB."""
_MARK_BYTES: Final = 120_000
"""What is left free for the mark: so many names of so many characters, of six bytes at most."""
_MOST_NAMED, _NAME_CHARACTERS = 100, 200
_SCALAR_BYTES: Final = 24
_SEPARATOR: Final = 2
"""The bytes between two values, and between a name and its value."""
_SHORT: Final = 100
_SMALL_BYTES: Final = EVENT_BYTES // 32
"""As msgspec writes it, without what begins with an underscore: the client's spaces, escapes, producers and addresses
of schemas don't make it thirty times as long. To write it takes an eighth of the time of adding up its parts."""
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_FIRST: Final = ("inputs.schema", "outputs.columnLineage", "outputs.schema")
"""What goes first, in this order; all else by its size."""
_KEPT: Final = frozenset(("parent", "processing_engine", "spanline_run", "spanline_columns", "jobType"))

AnyEvent = TypeVar("AnyEvent", RunEvent, JobEvent)


@attr.define
class SpanlineCutFacet(RunFacet):
    """Facets that were left out because the event was too large: `docs/openlineage.md`."""

    facets: list[str]

    @staticmethod
    def _get_schema() -> str:
        return own_schema("SpanlineCutFacet")


class _Place(NamedTuple):
    """Where a facet is: under its name in a group (an attribute) of what has it."""

    rank: int
    size: int
    holder: Any
    group: str
    name: str
    label: str

    def cut(self) -> None:
        # A dataset's facets are shared between events: these stay as they are.
        facets = getattr(self.holder, self.group)
        setattr(self.holder, self.group, {name: facet for name, facet in facets.items() if name != self.name})


def sql_characters(outputs: Sequence[OutputDataset]) -> int:
    """How many characters of SQL an event may have beside the lineage of these columns."""
    found = [(output.facets or {}).get("columnLineage") for output in outputs]
    fields = sum(
        len(facet.fields) for facet in found if isinstance(facet, column_lineage_dataset.ColumnLineageDatasetFacet)
    )
    return min(SQL_CHARACTERS, _SQL_IN_ALL // max(1, fields))


def bounded(event: AnyEvent) -> AnyEvent:
    """The event, without its largest facets where it would be larger than `EVENT_BYTES`."""
    if len(_encode(event)) <= _SMALL_BYTES:
        return event
    size = size_of(event)
    if size <= EVENT_BYTES:
        return event
    left_out: list[str] = []
    for place in sorted(_places(event), key=lambda place: (place.rank, -place.size)):
        place.cut()
        left_out.append(place.label[:_NAME_CHARACTERS])
        size -= place.size
        if size <= EVENT_BYTES - _MARK_BYTES:
            break
    if len(left_out) > _MOST_NAMED:
        left_out[_MOST_NAMED:] = [f"and {len(left_out) - _MOST_NAMED} more"]
    mark = {"spanline_cut": SpanlineCutFacet(facets=left_out, producer=PRODUCER)}
    if isinstance(event, RunEvent):
        event.run.facets = {**(event.run.facets or {}), **mark}
    else:
        event.job.facets = {**(event.job.facets or {}), **cast("dict[str, JobFacet]", mark)}
    return event


def _places(event: RunEvent | JobEvent) -> Iterator[_Place]:
    if isinstance(event, RunEvent):
        yield from _of_holder(event.run, "facets", "run", "run")
    yield from _of_holder(event.job, "facets", "job", "job")
    for given in event.inputs or []:
        yield from _of_holder(given, "facets", "inputs", given.name)
        yield from _of_holder(given, "inputFacets", "", given.name)
    for made in event.outputs or []:
        yield from _of_holder(made, "facets", "outputs", made.name)
        yield from _of_holder(made, "outputFacets", "", made.name)


def _of_holder(holder: object, group: str, kind: str, label: str) -> Iterator[_Place]:
    for name, facet in (getattr(holder, group) or {}).items():
        if name not in _KEPT:
            which = f"{kind}.{name}"
            rank = _FIRST.index(which) if which in _FIRST else len(_FIRST)
            yield _Place(rank, size_of(facet), holder, group, name, f"{label}: {name}")


def size_of(value: Any) -> int:  # noqa: ANN401 - whatever an event is made of
    """The length of a value as JSON, or a little more: to write it takes twenty times as long."""
    kind: Any = type(value)
    if kind is str:
        return _length(value)
    if kind is dict:
        return 2 + 2 * _SEPARATOR * len(value) + sum(map(_length, value)) + sum(map(size_of, value.values()))
    if kind is list:
        return 2 + _SEPARATOR * len(value) + sum(map(size_of, value))
    fixed, parts_of = _shape(kind)
    return fixed + sum(map(size_of, parts_of(value)))


def _length(text: str) -> int:
    # Of a short text no more is known than that its signs take at most two bytes each, control characters aside.
    if len(text) <= _SHORT and text.isprintable() and text.isascii():
        return 2 * len(text) + 2
    return len(encode_basestring_ascii(text)) + 2


@cache
def _shape(kind: type) -> tuple[int, Callable[[Any], Sequence[object]]]:
    """What every value of a class takes, and a function that returns its attributes' values."""
    names = [field.name for field in attr.fields(kind)] if attr.has(kind) else []
    fixed = 2 + sum(2 * _SEPARATOR + len(name) + 2 for name in names) if names else _SCALAR_BYTES
    if len(names) > 1:
        return fixed, attrgetter(*names)
    return fixed, lambda value: [getattr(value, name) for name in names]
