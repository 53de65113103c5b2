"""What dbt means to say by an event that it could not fill, and that arrives without any data.

dbt's events are protobuf messages. One that a single value doesn't fit (a test with more than 2³¹ failures, a response
of an adapter with a date in it) holds none at all: not the node's name, not its status.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from . import frames

_OF_NODES = frozenset(
    (
        *("NodeStart", "NodeCompiling", "NodeExecuting", "NodeFinished", "SkippingDetails"),
        *("LogTestResult", "LogBatchResult", "LogHookStartLine", "LogHookEndLine"),
    )
)
"""Events that name a node, unless they are empty."""


class Unfilled:
    """Keeps the values of such events from the moment when dbt makes them to that when it fires them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], dict[str, Any]] = {}

    def notice(self) -> None:
        """Look whether an event is being made that can't be filled. Call it at a Note: dbt says so by one, at once."""
        made = frames.event_being_made()
        if made is not None:
            name, values = made
            self._kept[threading.get_ident(), name] = values

    def data_of(self, event: Any) -> Any:
        """The event's data, or where it has none, what it was to have, to be read in the same way."""
        data, name = event.data, event.info.name
        values = self._kept.pop((threading.get_ident(), name), None) if self._kept else None
        if values is None and name in _OF_NODES and not data.node_info.unique_id:
            values = frames.values()  # dbt was told to keep its Note to itself
        return data if values is None or data.ByteSize() else Values(values, data)


class Values:
    """Values that were to fill a message of protobuf, read as its fields.

    Each is what protobuf makes of it; one that doesn't fit is as dbt has given it, and one that is not given, the
    field's default.
    """

    def __init__(self, values: Mapping[str, Any], empty: Any) -> None:
        """`empty` is a message of the type that they were for."""
        self._values = values
        self._empty = empty

    def __getattr__(self, name: str) -> Any:
        from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]

        value, part = self._values.get(name), type(self._empty)()
        try:
            return getattr(ParseDict({name: value}, part), name)
        except Exception:  # noqa: BLE001 - of whatever kind: it doesn't fit, or a part of it doesn't
            inner = getattr(self._empty, name)
            if isinstance(value, Mapping) and not isinstance(inner, Mapping):
                return Values(value, inner)
            return value  # a Struct and a map are read as the dictionary is that was to fill them
