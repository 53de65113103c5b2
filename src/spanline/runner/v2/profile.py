"""The profile that dbt v2 reads, as far as where the warehouse is can be told from the file: v2 says nothing of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..shared.in_text import masked_address
from ..shared.secrets import of_yaml, secrets_of_address, secrets_of_mapping
from ..shared.settings import DBT_PROFILE, DBT_PROFILES_DIR, DBT_TARGET
from ..shared.telling import looks_secret
from .arguments import option
from .translator import Fields

_ENV_VAR = re.compile(r"\{\{\s*env_var\(\s*(['\"])(?P<name>\w+)\1\s*(?:,\s*(['\"])(?P<default>.*?)\3\s*)?\)[^}]*\}\}")
_SHOWN = frozenset(
    (
        *("host", "server", "hostname", "port", "path", "account", "database", "dbname", "catalog", "project"),
        *("schema", "dataset", "location", "region", "region_name", "method", "http_path", "warehouse", "role", "user"),
    )
)
"""What says where a warehouse is, and who asks. Nothing else of a profile is shown."""


def configured(args: Sequence[str], project_dir: str, environ: Mapping[str, str]) -> tuple[Fields, list[str]]:
    """The fields of `dbt_configured` that the project's files tell, and the secrets of the profile.

    Values with Jinja other than `env_var` are left out.
    """
    project = _mapping(Path(project_dir) / "dbt_project.yml")
    name = option(args, "--profile") or environ.get(DBT_PROFILE) or str(project.get("profile") or "")
    fields: Fields = {"project": project.get("name"), "project_dir": project_dir, "profile": name}
    entry = _profiles(args, project_dir, environ).get(name)
    outputs = entry.get("outputs") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(outputs, Mapping):
        return fields, []
    target = (
        option(args, "--target", "-t") or environ.get(DBT_TARGET) or _rendered(entry.get("target", "default"), environ)
    )
    output = outputs.get(target)
    if not isinstance(output, Mapping):
        return fields, []
    known = {str(key): _rendered(value, environ) for key, value in output.items()}
    connection = {
        key: masked_address(value) if isinstance(value, str) else value
        for key, value in known.items()
        if key in _SHOWN and isinstance(value, (str, int, float, bool))
    }
    fields.update(target=target, connection=connection, adapter_type=known.get("type"))
    if isinstance(known.get("threads"), int):
        fields["threads"] = known["threads"]
    return fields, list(_secrets(known))


def _secrets(output: Mapping[str, Any]) -> Iterator[str]:
    yield from secrets_of_mapping(output)
    for name, value in output.items():
        if isinstance(value, str):
            yield from secrets_of_address(value)
            if name not in _SHOWN and len(value) >= (3 if looks_secret(name) else 12):
                yield value


def _profiles(args: Sequence[str], project_dir: str, environ: Mapping[str, str]) -> Mapping[str, Any]:
    named = option(args, "--profiles-dir") or environ.get(DBT_PROFILES_DIR)
    places = [named] if named else [project_dir, os.path.expanduser("~/.dbt")]  # noqa: PTH111 - as dbt does
    found = (_mapping(Path(place) / "profiles.yml") for place in places)
    return next(filter(None, found), {})


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        parsed = of_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError):
        return {}
    return parsed if isinstance(parsed, Mapping) else {}


def _rendered(value: Any, environ: Mapping[str, str]) -> Any:
    """The value with the variables that it names; None where other Jinja, or a variable that isn't set, is left."""
    if not isinstance(value, str) or "{" not in value:
        return value
    text = _ENV_VAR.sub(lambda found: environ.get(found["name"], found["default"] or "{{"), value)
    return None if "{{" in text or "{%" in text else text
