"""What of a query's SQL a span may show: all, all but its literals, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from spanline.runner.shared import settings

CHARACTERS: Final = 4096
"""Of longer SQL the beginning is sent: a collector takes 4 MiB at a time, and a batch has 512 spans."""
Shown = Callable[[str, str], "str | None"]
"""From the SQL and the adapter's type to what may be shown."""


def shown(environ: Mapping[str, str]) -> Shown:
    """As `SPANLINE_TRACE_SQL` has it: `on` (default), `masked` or `off`. Raises ValueError for another value."""
    asked = environ.get(settings.TRACE_SQL, "on").strip().lower()
    if asked not in _KINDS:
        raise ValueError(f"{settings.TRACE_SQL} is {asked!r}: it must be on, masked or off")
    return _KINDS[asked]


def _whole(sql: str, _adapter: str) -> str:
    return sql if len(sql) <= CHARACTERS else f"{sql[:CHARACTERS]}…"


def _nothing(_sql: str, _adapter: str) -> None:
    return None


def masked(sql: str, adapter: str) -> str | None:
    """The SQL with `?` for each literal; None where it can't be read."""
    from spanline.lineage.literals import without_literals  # noqa: PLC0415 - only who masks pays for sqlglot

    found = without_literals(sql, adapter)
    return None if found is None else _whole(found, adapter)


SHOWN_WHOLE: Final[Shown] = _whole
"""What shows all."""
_KINDS: Final[Mapping[str, Shown]] = {"on": _whole, "masked": masked, "off": _nothing}
