"""Profile: one output of dbt's `profiles.yml` without secrets, and the secrets, which only dbt's process gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from spanline.profiles.adapter import Wrong
from spanline.runner.shared import settings
from spanline.runner.shared.in_text import MASK
from spanline.runner.shared.secrets import secrets_of_address
from spanline.runner.shared.telling import looks_secret

DEFAULT_TARGET: Final = "default"
"""What dbt calls the target of a profile that names none."""
_RENDERED: Final = re.compile(r"[{}\r\n]")
"""What Jinja could take for its own, or change: it cuts a last newline, and makes each line end in one."""
_PART_MINIMUM: Final = 6
"""Shortest part of an address that is masked wherever it stands: a shorter one would blank other words."""
_NO_NAME: Final = re.compile(r"[^A-Z0-9]+")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile made from a connection. `output` goes into `profiles.yml`, `environment` into dbt's process.

    Its `repr` shows no value of `environment`.
    """

    conn_id: str
    adapter: str
    output: Mapping[str, object]
    environment: Mapping[str, str] = {}
    target: str | None = None

    def __repr__(self) -> str:
        return f"Profile(conn_id={self.conn_id!r}, adapter={self.adapter!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:  # by which rich shows local variables beside a traceback
        return [("conn_id", self.conn_id), ("adapter", self.adapter)]

    def document(self, name: str, target: str | None = None) -> str:
        """The text of `profiles.yml`, with this as the one output of the profile of that name."""
        import yaml  # noqa: PLC0415 - not where a run has no profile of ours

        chosen = self.target or target or DEFAULT_TARGET
        content = {name: {"target": chosen, "outputs": {chosen: dict(self.output)}}}
        return str(yaml.safe_dump(content, sort_keys=False, width=float("inf")))

    def masked(self, name: str, target: str | None = None) -> str:
        """The same text for people, with the variables beside it."""
        lines = [f"# {variable}={MASK}" for variable in self.environment]
        heading = ["# for dbt's process only:"] if lines else []
        return self.document(name, target) + "".join(f"{line}\n" for line in [*heading, *lines])


class Writer:
    """Writes a profile's fields: secrets as variables, every other text so that dbt reads it as it is."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}

    def field(self, name: str, value: object, *, secret: bool) -> object:
        """What `profiles.yml` holds for this field. Raises `Wrong` for a text that no process can be given."""
        return self._written((name,), value, secret=secret)

    def variable(self, field: str, name: str, value: object) -> None:
        """Give dbt's process a variable of another's, such as those of AWS."""
        self.environment[name] = _checked(field, str(value))

    def _written(self, path: tuple[str, ...], value: object, *, secret: bool) -> object:
        if isinstance(value, Mapping):
            return {
                str(key): self._written((*path, str(key)), inner, secret=secret or looks_secret(str(key)))
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._written((*path, str(place)), inner, secret=secret) for place, inner in enumerate(value, 1)]
        if secret and value is not None and not isinstance(value, bool):
            return self._hidden(path, str(value))
        if not isinstance(value, str):
            return value
        return self._hidden(path, value) if _must_hide(value) else protected(_checked(path[0], value))

    def _hidden(self, path: tuple[str, ...], value: str) -> str:
        if not value:
            return ""
        name = self._new_variable(path, value)
        for inner in secrets_of_address(value):
            # A client may tell a part of an address only: what is a secret in it must be known by itself.
            if len(inner) >= _PART_MINIMUM:
                self._new_variable((*path, "part"), inner)
        return f"{{{{ env_var('{name}') }}}}"

    def _new_variable(self, path: tuple[str, ...], value: str) -> str:
        """The name of the variable that has this value."""
        name = settings.PROFILE_SECRET_PREFIX + _NO_NAME.sub("_", "_".join(path).upper())
        while self.environment.get(name, value) != value:
            name += "_"
        self.environment[name] = _checked(path[0], value)
        return name


def _must_hide(text: str) -> bool:
    """Whether a text of a public field holds a secret, or dbt would take it for the name of one, and lose it."""
    return any(prefix in text for prefix in settings.DBT_SECRET_PREFIXES) or any(True for _ in secrets_of_address(text))


def _checked(field: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Wrong(field, "is not UTF-8 text") from None
    if "\0" in text:
        raise Wrong(field, "contains NUL")
    return text


def protected(text: str) -> str:
    """The text as dbt must find it, which renders every text of a profile as Jinja, to read it as it is."""
    if not _RENDERED.search(text):
        return text
    literal = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'{{{{ "{literal}" }}}}'
