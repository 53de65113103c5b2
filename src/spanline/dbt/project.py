"""A dbt project before dbt has read it: where it is, its name, its profile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from spanline.dbt.arguments import option
from spanline.runner.shared import settings
from spanline.system import files

_FILE: Final = "dbt_project.yml"
_NAME: Final = re.compile(r"[^\d\W]\w*")
"""The names that dbt accepts."""


def project_name(folder: Path) -> str | None:
    """The `name` in a project's `dbt_project.yml`; None if there is none, or it can't be read."""
    name = _value(folder, "name")
    return name if name is not None and _NAME.fullmatch(name) else None


def profile_name(folder: Path, args: Sequence[str]) -> str | None:
    """The name of the profile that dbt would use: `--profile`, or the project's; None if that is Jinja."""
    name = option(args, "--profile") or _value(folder, "profile")
    return name if name and "{" not in name else None


def _value(folder: Path, key: str) -> str | None:
    """The text under a key of `dbt_project.yml`. The file is not read further: the rest may be long, or wrong."""
    import yaml  # noqa: PLC0415 - not where a journal is only read

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with files.open_to_read(folder / _FILE, follow=True) as file:
            return _found(key, yaml.parse(file, Loader=loader))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _found(wanted: str, parsed: Iterable[object]) -> str | None:
    """The value of this key in the outermost mapping."""
    import yaml  # noqa: PLC0415 - see above

    depth, key = 0, None
    for event in parsed:
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return None
            said = str(event.value) if isinstance(event, yaml.ScalarEvent) else ""
            if depth == 1 and key == wanted:
                return said
            if depth == 1:  # keys and values alternate
                key = said if key is None else None
            depth += isinstance(event, yaml.CollectionStartEvent)
    return None


PROJECT_FILE: Final = "dbt_project.yml"


def find_project(args: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Path | None:
    """The project that dbt would take: `--project-dir`, `DBT_PROJECT_DIR`, or the first folder upwards that has one."""
    named = option(args, "--project-dir") or environ.get(settings.DBT_PROJECT_DIR)
    if named:
        return (cwd / Path(named).expanduser()).resolve()
    for folder in (cwd, *cwd.parents):
        if (folder / PROJECT_FILE).exists():
            return folder
    return None
