"""What is public: every type of ours in the signature of something public can be imported from a public place."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Iterator

import pytest
import typing_extensions

import spanline
from spanline import profiles
from spanline.system.stdio import Stdio

MODULES = (
    "spanline",
    "spanline.events",
    "spanline.profiles",
    "spanline.artifacts",
    "spanline.sinks",
    "spanline.testing",
)
FUNCTIONS = ("attach", "callback", "classify", "retry", "run", "start", "upload")


def public() -> set[object]:
    """Every object that is a name of a public module."""
    found: list[object] = []
    for name in MODULES:
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None) or [one for one in vars(module) if not one.startswith("_")]
        found += [getattr(module, one) for one in names]
    return {one for one in found if isinstance(one, type)}


def types_in(annotation: object) -> Iterator[type]:
    """Our classes in a type, whatever it is made of."""
    if isinstance(annotation, type) and annotation.__module__.startswith("spanline"):
        yield annotation
    for part in typing.get_args(annotation):
        yield from types_in(part)


def hints(owner: object) -> dict[str, object]:
    """The types in a signature, also those that its module imports for its types only."""
    names = {"Unpack": typing_extensions.Unpack, "Profile": profiles.Profile, "Stdio": Stdio}
    return typing.get_type_hints(owner, localns=names)


def signatures() -> Iterator[tuple[str, object]]:
    """Every public function, and what one calls or reads of a public class."""
    for name in FUNCTIONS:
        yield name, getattr(spanline, name)
    for kind in public():
        if not isinstance(kind, type) or not kind.__module__.startswith("spanline"):
            continue
        for name, member in vars(kind).items():
            if name.startswith("_"):
                continue
            if isinstance(member, property):
                yield f"{kind.__name__}.{name}", member.fget
            elif isinstance(member, (types.FunctionType, classmethod)):
                yield f"{kind.__name__}.{name}", inspect.unwrap(getattr(member, "__func__", member))


SIGNATURES = dict(signatures())


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_every_type_in_a_public_signature_is_public(name: str) -> None:
    named = {one for annotation in hints(SIGNATURES[name]).values() for one in types_in(annotation)}
    assert named <= public()


def test_a_type_that_is_not_public_is_noticed() -> None:
    def wrong(one: list[Hidden]) -> None: ...

    class Hidden: ...

    Hidden.__module__ = "spanline.hidden"
    wrong.__annotations__["one"] = list[Hidden]
    assert list(types_in(typing.get_type_hints(wrong)["one"])) == [Hidden]
    assert Hidden not in public()
