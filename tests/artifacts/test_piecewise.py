"""A large object read by pieces is what it is read at once, wherever the windows end."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline.artifacts import piecewise
from spanline.artifacts.loading import Loaded, load
from tests.support.examples import examples


class Inner(msgspec.Struct):
    a: int | float | None = None
    b: str = ""


class Outer(msgspec.Struct):
    entries: dict[str, Inner]
    items: list[Inner] = []
    plain: object = None


def read(text: bytes, window: int) -> Outer:
    *_, last = piecewise.read(io.BytesIO(text), Outer, window)
    assert isinstance(last, Outer)
    return last


inner = st.fixed_dictionaries({}, optional={"a": st.none() | st.integers(-9, 10**6) | st.floats(-9, 9), "b": st.text()})
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)
outer = st.fixed_dictionaries(
    {"entries": st.dictionaries(st.text(), inner)},
    optional={"items": st.lists(inner), "plain": anything, "another": anything},
)


@given(value=outer, window=st.integers(1, 40), indent=st.sampled_from([None, 1, "\t"]), ascii_only=st.booleans())
@examples(300)
def test_it_is_what_msgspec_reads_at_once(value: dict, window: int, indent: object, *, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()  # type: ignore[arg-type]
    assert read(text, window) == msgspec.json.decode(text, type=Outer)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b'{"entries": {}', b'{"entries": {}} x', b'{"entries": {"a": {"a": "text"}}}'),
        *(
            b'{"entries": {"a": {}},}',
            b'{"entries" {}}',
            b'{"items": []}',
            b'{"entries": null}',
            b'{"entries": {"a": nul}}',
        ),
        *(b'{"entries": {"a": {"a": -}}}', b'{"entries": {"a": {"b": "\xff"}}}', b'{"entries": {1: {}}}'),
    ],
)
def test_what_msgspec_refuses_is_refused(text: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        msgspec.json.decode(text, type=Outer)
    for window in (1, 3, 1000):
        with pytest.raises((msgspec.MsgspecError, ValueError)):
            read(text, window)


class Thin(msgspec.Struct):
    """Of a manifest no more than the names of its nodes, so that what is kept takes little room."""

    class Node(msgspec.Struct):
        name: str

    nodes: dict[str, Node]


def test_memory_holds_one_entry_of_a_manifest_and_not_its_text(tmp_path: Path) -> None:
    node = {"name": "x", "depends_on": {}, "tags": [], "raw_code": "y" * 3000}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"metadata": {}, "nodes": {f"n{number}": node for number in range(2000)}, "macros": {}}))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            *_, last = piecewise.read(file, Thin)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(last, Thin)
    assert len(last.nodes) == 2000
    assert most < path.stat().st_size / 3


def test_other_words_of_a_newer_msgspec_cost_memory_and_nothing_else(tmp_path: Path) -> None:
    said = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/catalog/v1.json"}
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({"metadata": said, "nodes": {}, "sources": {}}))
    expected = load("catalog", path)
    assert isinstance(expected, Loaded)
    with mock.patch.object(piecewise, "ENDS", "nothing that it says"):
        assert load("catalog", path) == expected
