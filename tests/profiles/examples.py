"""The examples of `examples.yml`: connections of every adapter, and how dbt must read the profiles made of them."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import yaml

from spanline.profiles import Connection, Profile, resolve

SECRET = "hush"
"""What stands in every secret of the examples, and in nothing else."""
_REFERENCE = re.compile(r"\{\{ env_var\('(\w+)'\) \}\}")


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A connection, what is asked of it, and what dbt must read."""

    connection: dict[str, object]
    output: dict[str, object]
    adapter: str | None = None
    schema: str | None = None
    threads: int | None = None
    environment: dict[str, str] = {}

    def resolved(self) -> Profile:
        connection = Connection.from_mapping(self.connection, "warehouse")
        return resolve(connection, self.adapter, schema=self.schema, threads=self.threads)


EXAMPLES: dict[str, dict[str, Example]] = msgspec.convert(
    yaml.safe_load(Path(__file__).with_name("examples.yml").read_text()), dict[str, dict[str, Example]]
)


def with_secrets(value: object, profile: Profile) -> object:
    """The value with each reference to a variable replaced by what that holds, as dbt does it."""
    if isinstance(value, dict):
        return {name: with_secrets(inner, profile) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_secrets(inner, profile) for inner in value]
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return profile.environment[found[1]] if found else value
