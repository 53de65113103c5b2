"""Variables of the environment that dbt's process and others read: settings of ours, and what names a trace."""

from __future__ import annotations

from collections.abc import Mapping

TRACE_CONTEXT = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")
"""https://www.w3.org/TR/trace-context/, https://www.w3.org/TR/baggage/"""
QUERY_COMMENTS = "SPANLINE_QUERY_COMMENTS"
COLLECTOR = "SPANLINE_GC"
_TRACEPARENT = "traceparent"
_AS_DBT_HAS_IT = "dbt"


def comments_queries(environ: Mapping[str, str]) -> bool:
    """Whether statements are to carry their trace context. Raises ValueError for what is no such wish."""
    value = environ.get(QUERY_COMMENTS, "").strip().lower()
    if value not in ("", "off", _TRACEPARENT):
        raise ValueError(f"{QUERY_COMMENTS} is {value!r}: it must be {_TRACEPARENT} or off")
    return value == _TRACEPARENT


def tunes_collector(environ: Mapping[str, str]) -> bool:
    """Whether the garbage collector of dbt's process is ours to set. Raises ValueError for what is no such wish."""
    value = environ.get(COLLECTOR, "").strip().lower()
    if value not in ("", _AS_DBT_HAS_IT):
        raise ValueError(f"{COLLECTOR} is {value!r}: it must be {_AS_DBT_HAS_IT}, or not be set")
    return value == ""
