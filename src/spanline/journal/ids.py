"""Run ids, and all ids that are derived from (run, session, step, attempt, unique_id) alone.

Run ids are UUIDv7 (RFC 9562, section 5.7). A derived id has its run's time, and its other bits come from a hash. So it
sorts next to its run, and an event that is sent again has the same id.
"""

from __future__ import annotations

import functools
import os
import re
import time
import uuid
from typing import Final

from spanline.runner.shared.ids import digest, span_id

__all__ = [
    "is_traceparent",
    "level",
    "lineage_run_id",
    "new_run_id",
    "session_trace_id",
    "span_id",
    "trace_id",
]


def new_run_id() -> str:
    """A new UUIDv7."""
    return str(_version7(time.time_ns() // 1_000_000, os.urandom(10)))


def lineage_run_id(run_id: str, session: int = 1, *parts: object) -> str:
    """The OpenLineage run id of a session (`parts` empty), or of a part of it, named by `parts`.

    For the first session, it is the run id itself.
    """
    if session == 1 and not parts:
        return run_id
    return str(_version7(uuid.UUID(run_id).int >> 80, digest("lineage", run_id, session, *parts)))


@functools.lru_cache(maxsize=64)
def trace_id(run_id: str, session: int) -> int:
    """The trace of a session: 128 bits, never 0."""
    return int.from_bytes(digest("trace", run_id, session)[:16], "big") or 1


_TRACEPARENT: Final = re.compile(
    r"[ \t]*(?!ff|00-.*-..-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?[ \t]*"
)
"""https://www.w3.org/TR/trace-context/#traceparent-header: not ff, no zeros, in version 00 nothing more."""


def is_traceparent(text: str) -> bool:
    """Whether this is a W3C `traceparent` that names a trace."""
    return _TRACEPARENT.fullmatch(text) is not None


def session_trace_id(run_id: str, session: int, traceparent: str | None) -> int:
    """The trace of a session's spans: the one in its `traceparent`, or the session's own."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return int(found.group(1), 16) if found else trace_id(run_id, session)


def level(step: int, attempt: int, steps: int) -> tuple[object, ...]:
    """The name of the span above the phases of an attempt, in a session with this number of steps.

    It is the attempt's span, unless the attempt is the first of its step. Otherwise it is the step's span, or the
    session's if there is only one step.
    """
    if attempt > 1:
        return (step, attempt)
    return (step,) if step and steps > 1 else ("session",)


def _version7(milliseconds: int, noise: bytes) -> uuid.UUID:
    value = milliseconds << 80 | int.from_bytes(noise[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
