"""The name of a dbt project, for what is told of runs that end before dbt has read the project itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from spanline.dbt.arguments import option
from spanline.system import files

_FILE: Final = "dbt_project.yml"
_NAME: Final = re.compile(r"[^\d\W]\w*")
"""What dbt takes for a name."""


def project_name(folder: Path) -> str | None:
    """The `name` in a project's `dbt_project.yml`; None where there is none, or it can't be read.

    The file is read no further than to the name: what follows may be long, or what is wrong with it.
    """
    import yaml  # noqa: PLC0415 - not where a journal is only read

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with files.open_to_read(folder / _FILE, follow=True) as file:
            name = _name(yaml.parse(file, Loader=loader))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return name if name is not None and _NAME.fullmatch(name) else None


def _name(parsed: Iterable[object]) -> str | None:
    """The value of the key `name` in the outermost mapping."""
    import yaml  # noqa: PLC0415 - see above

    depth, key = 0, None
    for event in parsed:
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return None
            said = str(event.value) if isinstance(event, yaml.ScalarEvent) else ""
            if depth == 1 and key == "name":
                return said
            if depth == 1:  # keys and values take turns
                key = said if key is None else None
            depth += isinstance(event, yaml.CollectionStartEvent)
    return None


_PROJECT_FILE: Final = "dbt_project.yml"


def find_project(args: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Path | None:
    """The project that dbt would take: `--project-dir`, `DBT_PROJECT_DIR`, or the first folder upwards that has one."""
    named = option(args, "--project-dir") or environ.get("DBT_PROJECT_DIR")
    if named:
        return (cwd / Path(named).expanduser()).resolve()
    for folder in (cwd, *cwd.parents):
        if (folder / _PROJECT_FILE).exists():
            return folder
    return None
