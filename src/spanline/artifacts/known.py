"""The values of a run to cut from its artifacts: those of variables, of `--vars`, of the profile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

from spanline.artifacts.redact import ENV_VARS, PROFILE, VARS, Values
from spanline.dbt.arguments import option
from spanline.home.spec import RunSpec
from spanline.home.storage import Redaction
from spanline.journal.state import RunState
from spanline.runner.shared import settings
from spanline.runner.shared.secrets import (
    secrets_of_arguments,
    secrets_of_environment,
    secrets_of_mapping,
)

_SHORTEST: Final = 6
_LONGEST_WORD: Final = 15
_WORD: Final = re.compile(r"[^\W\d]+|[\W\d_]+")
_ENV_VAR: Final = re.compile(r"env_var\(\s*['\"]([^'\"]+)['\"]")
_PROFILES_VARIABLES: Final = (settings.DBT_ENGINE_PROFILES_DIR, settings.DBT_PROFILES_DIR)
_PLACES: Final = frozenset(("database", "schema", "dbname", "catalog", "type", "project", "dataset", "method"))
"""Fields of a connection that name where relations are: without them the artifacts are of no use."""


class _Columns(msgspec.Struct):
    columns: dict[str, msgspec.Raw] = {}


class _WithColumns(msgspec.Struct):
    nodes: dict[str, _Columns] = {}
    sources: dict[str, _Columns] = {}


def values_of(spec: RunSpec, state: RunState, environ: Mapping[str, str], artifacts: Iterable[Path]) -> Values:
    """What is to be cut of a run's artifacts. `environ` is what dbt had; `artifacts` are files to find columns in.

    Without an environment as dbt had it, what stands in it can't be known.
    """
    redaction = spec.artifacts.redaction if spec.artifacts is not None else Redaction()
    environment = {**environ, **spec.environment}
    vars_texts = [text for argv in spec.steps if (text := option(argv, "--vars"))]
    secrets = {
        ENV_VARS: [*secrets_of_environment(environment)],
        VARS: [secret for argv in spec.steps for secret in secrets_of_arguments(argv)],
        PROFILE: [*_secrets_of_profile(_profile(spec, environment), environment)],
    }
    others = {
        ENV_VARS: [value for name, value in environment.items() if _is_named(name, redaction.env_vars)],
        VARS: [*_texts(map(_parsed, vars_texts))] if redaction.vars == "all" else [],
        PROFILE: [*_texts(_connection(state))] if redaction.profile == "all" else [],
    }
    return Values(
        secrets={
            ENV_VARS: [*_spelt(secrets[ENV_VARS])],
            # A short one stands in too many other words. In the arguments it is cut by its name.
            **{rule: [*_spelt(t for t in secrets[rule] if len(t) >= _SHORTEST)] for rule in (VARS, PROFILE)},
        },
        others={rule: [*_spelt(filter(_stands_apart, texts))] for rule, texts in others.items()},
        vars_texts=vars_texts,
        columns=frozenset(_columns(artifacts)) if redaction.columns == "hash" else frozenset(),
    )


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _stands_apart(text: str) -> bool:
    """Whether a text that is no secret can be told from others: a short word or number stands everywhere."""
    return len(text) >= _SHORTEST and (len(text) > _LONGEST_WORD or not _WORD.fullmatch(text))


def _spelt(texts: Iterable[str]) -> Iterator[str]:
    """The texts as they are, and as they stand in a literal of SQL."""
    for text in texts:
        yield text
        if "'" in text:
            yield text.replace("'", "''")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.values())
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _parsed(text: str) -> object:
    import yaml  # noqa: PLC0415 - most runs have no variables

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None  # dbt has said what is wrong with it


# --- the profile ------------------------------------------------------------------------------------------------------


def _connection(state: RunState) -> Iterator[object]:
    connection = state.config.connection if state.config is not None else {}
    return (value for name, value in connection.items() if name not in _PLACES)


def _profile(spec: RunSpec, environ: Mapping[str, str]) -> object:
    """The profiles' file that dbt has read: https://docs.getdbt.com/docs/core/connect-data-platform/profiles.yml."""
    import yaml  # noqa: PLC0415 - needed when a run has ended, and not before

    named = [option(argv, "--profiles-dir") for argv in spec.steps]
    named += [environ.get(name) for name in _PROFILES_VARIABLES]
    places = [Path(spec.cwd, os.path.expanduser(place)) for place in named if place]  # noqa: PTH111
    for place in (*places, Path(spec.cwd), Path(spec.project_dir), Path.home() / ".dbt"):
        try:
            return yaml.safe_load((place / "profiles.yml").read_bytes())
        except (OSError, yaml.YAMLError):
            continue
    return None


def _secrets_of_profile(profile: object, environ: Mapping[str, str]) -> Iterator[str]:
    """Texts under secret-looking names, and the values of the variables that stand there."""
    for text in secrets_of_mapping(profile):
        names = _ENV_VAR.findall(text)
        yield from (environ[name] for name in names if name in environ) if names else (text,)


# --- columns ----------------------------------------------------------------------------------------------------------


def _columns(artifacts: Iterable[Path]) -> Iterator[str]:
    """Names of columns, in lower case, in a manifest and a catalog."""
    for path in artifacts:
        if path.name in ("manifest.json", "catalog.json"):
            found = msgspec.json.decode(path.read_bytes(), type=_WithColumns)
            for each in (*found.nodes.values(), *found.sources.values()):
                yield from (name.lower() for name in each.columns)
