"""Everything that `spanline doctor` looks at, in its order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from spanline.doctor.backends import backends
from spanline.doctor.connection import connection
from spanline.doctor.finding import Finding
from spanline.doctor.installation import installation
from spanline.doctor.kept_runs import kept_runs
from spanline.doctor.parents import parents


def examine(python: str | None, args: Sequence[str], place: Path) -> Iterator[Finding]:
    """Yield each finding as soon as it is known.

    `python` is the interpreter that has dbt (default: this one), `args` are dbt's options for project, profile and
    target, and `place` is the home.
    """
    yield from installation()
    yield from connection(python, args)
    yield from backends()
    yield from parents(os.environ)
    yield from kept_runs(place)
