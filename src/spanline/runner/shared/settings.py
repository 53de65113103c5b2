"""Settings of ours that dbt's process and others read from the environment."""

from __future__ import annotations

from collections.abc import Mapping

QUERY_COMMENTS = "SPANLINE_QUERY_COMMENTS"
_TRACEPARENT = "traceparent"


def comments_queries(environ: Mapping[str, str]) -> bool:
    """Whether statements are to carry their trace context. Raises ValueError for what is no such wish."""
    value = environ.get(QUERY_COMMENTS, "").strip().lower()
    if value not in ("", "off", _TRACEPARENT):
        raise ValueError(f"{QUERY_COMMENTS} is {value!r}: it must be {_TRACEPARENT} or off")
    return value == _TRACEPARENT
