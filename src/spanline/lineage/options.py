"""What lineage may tell: variables of ours, for what OpenLineage's own configuration has no word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spanline.runner.shared import settings

_OFF: Final = frozenset(("0", "false", "no", "off"))


def tells_sql(environ: Mapping[str, str]) -> bool:
    """Whether events may hold SQL text."""
    return _is_on(environ, settings.LINEAGE_SQL)


def tells_columns(environ: Mapping[str, str]) -> bool:
    """Whether events may hold names of columns; where not, none are looked for."""
    return _is_on(environ, settings.LINEAGE_COLUMNS)


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in _OFF
