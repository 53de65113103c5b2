"""What lineage may tell: variables of ours, for what OpenLineage's own configuration has no word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from spanline.lineage.case import CASES
from spanline.runner.shared import settings

_OFF: Final = frozenset(("0", "false", "no", "off"))


def tells_sql(environ: Mapping[str, str]) -> bool:
    """Whether events may hold SQL text."""
    return _is_on(environ, settings.LINEAGE_SQL)


def tells_columns(environ: Mapping[str, str]) -> bool:
    """Whether events may hold names of columns; where not, none are looked for."""
    return _is_on(environ, settings.LINEAGE_COLUMNS)


def tells_exposures(environ: Mapping[str, str]) -> bool:
    """Whether exposures are told, as events of jobs without a run: DataHub takes none."""
    return _is_on(environ, settings.LINEAGE_EXPOSURES)


def has_short_job_names(environ: Mapping[str, str]) -> bool:
    """Whether jobs have short names, and not dbt-ol's. Raises ValueError for a word that is neither."""
    return _choice(environ, settings.LINEAGE_JOB_NAMES, ("dbt-ol", "short")) == "short"


def case_of(environ: Mapping[str, str]) -> str:
    """The case of names of datasets and columns. Raises ValueError for one that there isn't."""
    return _choice(environ, settings.LINEAGE_CASE, CASES)


def _choice(environ: Mapping[str, str], name: str, words: Sequence[str]) -> str:
    """Which of these words a variable holds; the first where it holds nothing."""
    found = environ.get(name, "").strip().lower() or words[0]
    if found not in words:
        raise ValueError(f"{name} is {', '.join(words[:-1])} or {words[-1]}, not {found!r}")
    return found


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in _OFF
