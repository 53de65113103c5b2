"""What a secret is, and how it is cut from a record before a byte of it reaches the journal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MASK = "*****"
DBT_SECRET_PREFIXES = ("DBT_ENV_SECRET", "DBT_ENGINE_SECRET")
"""Variables that dbt itself takes for secrets: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var"""

_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_.-])(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|private[_.-]?key(?:[_.-]\w+)?|"
    r"api[_.-]?key|access[_.-]?key|secret[_.-]?key|account[_.-]?key|encryption[_.-]?key|auth(?:orization)?|"
    r"keyfile[_.-]?json|sas|dsn|connection[_.-]?string)(?:$|[_.-](?!file|path|id$|type|dir))|"
    r"password|secret|passphrase|apikey|(?<!key)token$"
)
_PATH_NAME = re.compile(r"(?i)[_.-](?:file|path|dir|type|method)$")
_PARAMETER = re.compile(r"(?i)(?<![\w.-])(?P<name>[\w.-]+)=(?P<value>[^&;\s]+)")
_USERINFO = re.compile(r"(?<=//)(?P<user>[^/@\s:]*):(?P<value>[^/\s]+)(?=@)")
_GUESSED_MINIMUM = 6
"""Shortest value taken for a secret by its variable's name alone: `TOKEN=on` must not blank every "on"."""
_NOT_SECRET = frozenset(("PWD", "OLDPWD"))

_STRUCTURAL = frozenset(
    (
        "unique_id",
        "unique_ids",
        "depends_on",
        "resource_type",
        "status",
        "relation",
        "cause",
        "invocation_id",
    )
)
"""Fields that hold names of things in the project: readers join records by them, and they are no secrets."""


def looks_secret(name: str) -> bool:
    """Whether a variable of this name is taken to hold a secret."""
    if name.startswith(DBT_SECRET_PREFIXES):
        return True
    if name in _NOT_SECRET:
        return False
    return bool(_SECRET_NAME.search(name)) and not _PATH_NAME.search(name)


def secrets_of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Values of the environment's variables that are secret by dbt's rule or by their name."""
    for name, value in environ.items():
        guessed = looks_secret(name) and len(value) >= _GUESSED_MINIMUM and not _is_path(value)
        if guessed or name.startswith(DBT_SECRET_PREFIXES):
            yield value


def _is_path(value: str) -> bool:
    """Whether a value is the path of something that is there (a key file, a socket, a directory): no secret."""
    return os.path.exists(value)  # noqa: PTH110 - a value that is no valid path at all must not raise


def secrets_of_mapping(values: object) -> Iterator[str]:
    """Texts under secret-looking names, at any depth, in what `--vars` or a profile holds."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            if isinstance(name, str) and looks_secret(name):
                yield from _texts(value)
            else:
                yield from secrets_of_mapping(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from secrets_of_mapping(value)


def secrets_of_address(text: str) -> Iterator[str]:
    """Passwords in an address, and values of its parameters with secret-looking names: `md:db?motherduck_token=…`."""
    for found in _PARAMETER.finditer(text):
        if looks_secret(found["name"]):
            yield found["value"]
    for found in _USERINFO.finditer(text):
        yield found["value"]


def masked_address(text: str) -> str:
    """The text with what `secrets_of_address` finds in it masked where it stands."""

    def masked(found: re.Match[str]) -> str:
        return f"{found['name']}={MASK}" if looks_secret(found["name"]) else found[0]

    return _USERINFO.sub(rf"\g<user>:{MASK}", _PARAMETER.sub(masked, text))


def secrets_of_arguments(args: Sequence[str]) -> Iterator[str]:
    """Texts under secret-looking names in dbt's `--vars`, and in the `--args` of a run-operation."""
    found = [arg.partition("=")[2] for arg in args if arg.startswith(("--vars=", "--args="))]
    found.extend(after for arg, after in zip(args, args[1:]) if arg in ("--vars", "--args"))
    for text in found:
        yield from secrets_of_mapping(_parsed(text))


def _parsed(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None  # dbt says what is wrong with it


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class Redactor:
    """Knows the secrets of this process, and replaces them in records."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._needles: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Take these values for secrets from now on."""
        known = set(self._secrets)
        for secret in secrets:
            known.update(part for part in (secret, secret.strip()) if part)
            # dbt indents what it quotes: of a key of several lines each is looked for.
            lines = [line.strip() for line in secret.splitlines()]
            known.update(line for line in lines if len(line) >= _GUESSED_MINIMUM)
        # The longest first: a secret may contain another.
        self._secrets = sorted(known, key=len, reverse=True)
        self._needles = tuple(json.dumps(s, ensure_ascii=False)[1:-1] for s in self._secrets)

    def finds(self, encoded: str) -> bool:
        """Whether a secret may stand in this JSON text."""
        # `any` over a generator takes three times as long, and this is done for every record.
        for needle in self._needles:  # noqa: SIM110
            if needle in encoded:
                return True
        return False

    def clean(self, value: Any) -> Any:
        """Return the same plain data with every secret in it masked."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, dict):
            return {
                self.clean(name): inner if name in _STRUCTURAL else self.clean(inner) for name, inner in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.clean(inner) for inner in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self.clean(str(value))  # as the journal's encoder writes what JSON has no form for
