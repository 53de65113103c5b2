"""Variables passed to a run: those to save with it, and those of which only the name may be saved.

What may hold a credential reaches the processes of a session by a pipe or their environment, and no file. Who resumes
the run gives it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from spanline.errors import UsageError
from spanline.runner.shared import settings
from spanline.runner.shared.secrets import of_yaml, secrets_of_address, secrets_of_environment, secrets_of_mapping
from spanline.runner.shared.telling import looks_secret

_OF_A_SESSION: Final = frozenset((*settings.TRACE_CONTEXT, *settings.LINEAGE_PARENT))
"""They say what a session is part of: one that resumes the run is part of something else."""
_MAY_HOLD_A_KEY: Final = re.compile(r"OPENLINEAGE__TRANSPORT|^AIRFLOW_CONN_|_HEADERS?$")
"""Names of configuration that may contain a credential, under any name.

https://openlineage.io/docs/client/python/configuration, https://opentelemetry.io/docs/specs/otel/protocol/exporter,
https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html
"""
_IS_A_KEY: Final = re.compile(r"PRIVATE KEY-----|\b[Bb](?:earer|asic)\s+\S{6}|^eyJ[\w-]{20}")
"""A key in PEM, a header's value, a token or a document in base64 (`eyJ` is how JSON begins there)."""
_WORD: Final = re.compile(r"[\w.-]+")


def variables_of(environment: Mapping[str, str] | None) -> dict[str, str]:
    """The variables that a caller passes. Raises `UsageError` if a process can't have them."""
    passed = {}
    for name, value in (environment or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"environment variables must be strings, and {name!r} or its value is not")
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(
                f"the environment variable {name!r} is not valid: its name is empty or holds =, or it holds a NUL"
            )
        passed[str.__str__(name)] = str.__str__(value)
    return passed


def kept_environment(passed: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split a new run's variables, those passed for it and `DBT_*`, into those to keep and the names of secret ones."""
    return kept_of(
        {**{name: value for name, value in os.environ.items() if name.startswith(settings.DBT_PREFIX)}, **passed}
    )


def kept_of(variables: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split variables into those to save and the names of those that may hold a secret. A session's own are neither."""
    lasting = {name: value for name, value in variables.items() if name not in _OF_A_SESSION}
    secret = sorted(name for name, value in lasting.items() if may_hold_secret(name, value))
    return {name: value for name, value in lasting.items() if name not in secret}, secret


def may_hold_secret(name: str, value: str) -> bool:
    """Whether a variable may hold a credential, judging by its name or by the form of its value."""
    if looks_secret(name) or _MAY_HOLD_A_KEY.search(name) or _IS_A_KEY.search(value):
        return True
    found = (*secrets_of_environment({name: value}), *secrets_of_address(value))
    return bool(found) or _has_secret_inside(value)


def _has_secret_inside(text: str) -> bool:
    """Whether a JSON or YAML text has a value under a secret name."""
    if text.lstrip()[:1] not in ("{", "[") and "\n" not in text.strip():
        return False
    said = of_yaml(text)
    if said is None:  # it is neither, or nearly: nobody knows what stands in it
        return any(map(looks_secret, _WORD.findall(text)))
    return any(True for _ in secrets_of_mapping(said))
