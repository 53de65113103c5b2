"""Limits: how often a step of a run is tried, and how long things may take."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TypedDict

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Unpack

Seconds = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]
"""A finite number: JSON, in which a run's limits are kept, knows no other."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one run. Delays and times are in seconds; None stands for no limit.

    `retry_limit` is the maximum number of attempts of a step, including the first. `retry_delay` is the wait before the
    second attempt; it doubles for each later one, up to a minute, with jitter. No attempt begins later than
    `retry_within` after the first. With `retry_partial`, a step is retried even if some failures are permanent. A
    session is cancelled if it takes longer than `timeout`, or if one of its nodes takes longer than `node_timeout`. A
    cancelled dbt that is still alive after `grace` is killed.
    """

    retry_limit: Annotated[int, msgspec.Meta(ge=1)] = 1
    retry_delay: Seconds = 1.0
    retry_within: Seconds | None = None
    retry_partial: bool = False
    timeout: Seconds | None = None
    node_timeout: Seconds | None = None
    grace: Seconds = 30.0

    def amended(self, **limits: Unpack[LimitArguments]) -> Limits:
        """The same limits, except those that are given."""
        return msgspec.structs.replace(self, **limits)


class LimitArguments(TypedDict, total=False):
    """The fields of `Limits` as arguments of a function; those that are left out have their defaults."""

    retry_limit: int
    retry_delay: float
    retry_within: float | None
    retry_partial: bool
    timeout: float | None
    node_timeout: float | None
    grace: float
