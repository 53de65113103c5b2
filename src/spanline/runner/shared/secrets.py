"""Where secrets come from: the environment, dbt's arguments, the project's vars, addresses that hold a password."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from .settings import DBT_SECRET_PREFIXES
from .telling import is_about, looks_secret

_GUESSED_MINIMUM = 6
"""Shortest value taken for a secret by its variable's name alone: `TOKEN=on` is none."""
_PROJECT_FILES = ("dbt_project.yml", "vars.yml")
"""Where a project has its vars: https://docs.getdbt.com/docs/build/project-variables"""
_YAML_OPTIONS = ("--vars", "--args")
"""dbt's options whose values are mappings, written in YAML."""
_DEEPEST = 100
"""Levels to which what is read may be nested, far from the number at which Python gives up."""
_SIGNATURES = frozenset(("sig", "signature", "x-amz-signature", "x-goog-signature"))
"""Parameters by which a signed address lets in whoever has it."""

PARAMETER = re.compile(r"(?<![\w.-])(?P<name>[\w.-]+)=(?P<value>'[^']*'|\"[^\"]*\"|\{[^}]*\}|[^&;\s]+)")
"""A parameter of an address's query, or of a connection string: `password=…`, `Pwd={…};`."""
USERINFO = re.compile(r"(?<=//)(?P<user>[^/@\s:]*):(?P<value>[^/\s]+)(?=@)")
"""The user and the password in an address."""
_ENTRY = re.compile(r"(?<![\w.-])(?P<name>[\w.-]+)[\"']?\s*[:=]\s*(?P<value>'[^']*'|\"[^\"]*\"|[^,}\n]+)")
"""A name and its value in what should be YAML, and can't be read."""


def secrets_of_run(environ: Mapping[str, str], commands: Iterable[Sequence[str]], project_dir: str) -> Iterator[str]:
    """All secrets of a run that are known before dbt has read its profile."""
    yield from secrets_of_environment(environ)
    for args in commands:
        yield from secrets_of_arguments(args)
    yield from secrets_of_project(project_dir)


def secrets_of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Values of variables that are secret by dbt's rule or by their name, and secrets that stand in others' values.

    Such as the password in an address, or what stands under a telling name in JSON.
    """
    for name, value in environ.items():
        guessed = looks_secret(name) and len(value) >= _GUESSED_MINIMUM and not _is_path(value)
        if guessed or name.startswith(DBT_SECRET_PREFIXES):
            yield value
        if "=" in value or "//" in value:
            yield from secrets_of_address(value)
        if value.lstrip()[:1] in ("{", "["):
            yield from secrets_of_mapping(_of_json(value))


def _is_path(value: str) -> bool:
    """Whether a value is the path of something that is there (a key file, a socket, a directory): no secret."""
    return os.path.exists(value)  # noqa: PTH110 - a value that is no valid path at all must not raise


def _of_json(text: str) -> object:
    try:
        return _within_reach(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _within_reach(value: object) -> object:
    """What was read, or None where it is nested deeper than anybody means it: without an end, where YAML says so."""
    return value if _ends(value, _DEEPEST) else None


def _ends(value: object, room: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return room > 0 and all(_ends(each, room - 1) for each in inner)


def secrets_of_address(text: str) -> Iterator[str]:
    """Passwords in an address, and values of its parameters with telling names: `md:db?motherduck_token=…`.

    Each as it stands there, and decoded.
    """
    found = [match["value"].strip("'\"{}") for match in PARAMETER.finditer(text) if is_secret_parameter(match["name"])]
    found += [match["value"] for match in USERINFO.finditer(text)]
    for value in found:
        yield from dict.fromkeys((value, unquote(value)))


def is_secret_parameter(name: str) -> bool:
    """Whether a parameter of an address holds a secret."""
    return looks_secret(name) or name.lower() in _SIGNATURES


def secrets_of_mapping(values: object, *, telling: bool = False) -> Iterator[str]:
    """Texts under telling names, at any depth, in what `--vars` or a profile holds; all of them where it is `telling`.

    Below a telling name everything is secret but what is only about one: its type, the user's name.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from secrets_of_mapping(value, telling=is_secret_key(name, above=telling))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from secrets_of_mapping(value, telling=telling)
    elif telling and values is not None and not isinstance(values, bool):
        yield str(values)


def is_secret_key(name: object, *, above: bool) -> bool:
    """Whether what stands under this key is secret; `above` says so of that within which the key stands."""
    return isinstance(name, str) and (looks_secret(name) or (above and not is_about(name)))


def yaml_arguments(args: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Those of dbt's arguments that are YAML: their position, what stands before (`--vars=`), and the YAML."""
    for position, arg in enumerate(args):
        if position and args[position - 1] in _YAML_OPTIONS:
            yield position, "", arg
        elif arg.startswith(tuple(f"{option}=" for option in _YAML_OPTIONS)):
            option, _, text = arg.partition("=")
            yield position, f"{option}=", text


def secrets_of_arguments(args: Sequence[str]) -> Iterator[str]:
    """Texts under telling names in dbt's `--vars`, and in the `--args` of a run-operation."""
    for _, _, text in yaml_arguments(args):
        parsed = of_yaml(text)
        if isinstance(parsed, Mapping):
            yield from secrets_of_mapping(parsed)
        else:  # dbt says what is wrong with it, and quotes it
            entries = (entry for entry in _ENTRY.finditer(text) if looks_secret(entry["name"]))
            yield from (entry["value"].strip().strip("'\"") for entry in entries)


def secrets_of_project(folder: str) -> Iterator[str]:
    """Texts under telling names among the vars that a project has for itself and for its packages."""
    for name in _PROJECT_FILES:
        try:
            text = (Path(folder) / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parsed = of_yaml(text) if "vars" in text else None
        yield from secrets_of_mapping(parsed.get("vars") if isinstance(parsed, Mapping) else None)


def of_yaml(text: str) -> object:
    """What a text in YAML says; None where it can't be read."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return _within_reach(yaml.load(text, Loader=loader))  # noqa: S506 - both are safe
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that there isn't is no YAMLError
        return None
