"""Limits: the arguments of functions are the fields of the struct."""

from __future__ import annotations

import math
import typing

import msgspec
import pytest

from spanline.errors import UsageError
from spanline.home.limits import LimitArguments, Limits
from spanline.home.spec import RunSpec


def test_the_arguments_are_the_fields() -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(Limits)}
    arguments = typing.get_type_hints(LimitArguments)
    assert {name: _plain(kind) for name, kind in fields.items()} == arguments


def _plain(kind: object) -> object:
    """A field's type without its bounds."""
    if typing.get_origin(kind) is typing.Annotated:
        return typing.get_args(kind)[0]
    parts = typing.get_args(kind)
    return typing.Union[tuple(map(_plain, parts))] if parts else kind  # noqa: UP007 - made of a tuple


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"retry_limit": 0}, "retry_limit: Expected `int` >= 1"),
        ({"retry_within": math.nan}, "retry_within: Expected `float`"),
        ({"grace": "soon"}, "grace: Expected `float`, got `str`"),
    ],
)
def test_what_is_wrong_is_said_of_the_argument(wrong: dict[str, typing.Any], said: str) -> None:
    spec = RunSpec(run_id="x", steps=[["run"]], cwd="/", project_dir="/", python="python", limits=Limits(**wrong))
    with pytest.raises(UsageError, match=f"^{said}"):
        spec.check()


def test_none_lifts_a_limit_and_what_is_left_out_stays() -> None:
    before = Limits(timeout=60.0, retry_limit=3)
    assert before.amended(timeout=None) == Limits(retry_limit=3)
