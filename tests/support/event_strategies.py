"""Events of every type with any content, for property tests."""

from __future__ import annotations

import types
import typing

import msgspec
from hypothesis import strategies as st

from spanline import events

TYPES: tuple[type[events.Event], ...] = typing.get_args(events.EventType)

_STAMPED = frozenset(events.Event.__struct_fields__)
"""What the writer fills in."""


def any_event(texts: st.SearchStrategy[str]) -> st.SearchStrategy[events.Event]:
    """An event of any type; every text in it is one of these."""
    return st.sampled_from(TYPES).flatmap(lambda kind: _struct(kind, texts))


def _struct(kind: type[msgspec.Struct], texts: st.SearchStrategy[str]) -> st.SearchStrategy[typing.Any]:
    hints = typing.get_type_hints(kind)
    named = {name: _of(hints[name], texts) for name in kind.__struct_fields__ if name not in _STAMPED}
    return st.builds(kind, **named)


def _of(hint: typing.Any, texts: st.SearchStrategy[str]) -> st.SearchStrategy[typing.Any]:
    origin, parts = typing.get_origin(hint), [_of(part, texts) for part in typing.get_args(hint)]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct(hint, texts)
    made: dict[typing.Any, typing.Callable[[], st.SearchStrategy[typing.Any]]] = {
        typing.Union: lambda: st.one_of(*parts),
        types.UnionType: lambda: st.one_of(*parts),
        list: lambda: st.lists(parts[0], max_size=2),
        tuple: lambda: st.tuples(*parts),
        dict: lambda: st.dictionaries(*parts, max_size=2),
        object: lambda: anything(texts),
        str: lambda: texts,
        int: lambda: st.integers(0, 2**40),
        float: lambda: st.floats(0, 1e6),
        bool: st.booleans,
        type(None): st.none,
    }
    return made[origin or hint]()


def anything(texts: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """What JSON can say, with these texts and such numbers as a secret may be."""
    leaves = texts | st.integers(0, 9999) | st.none() | st.booleans()
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
    )
