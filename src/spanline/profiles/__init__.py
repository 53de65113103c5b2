"""Profiles for dbt, made from connections: Airflow's, or plain mappings with the same fields.

    from spanline import profiles

    connection = profiles.Connection.from_environment("warehouse")    # AIRFLOW_CONN_WAREHOUSE
    profile = profiles.resolve(connection, schema="marts", threads=8)
    spanline.run(["build"], project_dir="shop", profile=profile)

docs/profiles.md has a table for each adapter. `Adapter` and the functions that make fields are for authors of other
adapters: an entry point in the group `spanline.profiles` registers one, and `spanline.testing` lets dbt read it.
The names below are imported at their first use: a run without such a profile needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanline.profiles.adapter import SCHEMA as SCHEMA
    from spanline.profiles.adapter import Adapter as Adapter
    from spanline.profiles.adapter import Field as Field
    from spanline.profiles.adapter import Values as Values
    from spanline.profiles.adapter import Wrong as Wrong
    from spanline.profiles.adapter import boolean as boolean
    from spanline.profiles.adapter import integer as integer
    from spanline.profiles.adapter import mapping as mapping
    from spanline.profiles.adapter import needs as needs
    from spanline.profiles.adapter import one_of as one_of
    from spanline.profiles.adapter import optional as optional
    from spanline.profiles.adapter import secret as secret
    from spanline.profiles.adapter import text as text
    from spanline.profiles.adapter import texts as texts
    from spanline.profiles.adapter import together as together
    from spanline.profiles.adapter import without as without
    from spanline.profiles.connection import Connection as Connection
    from spanline.profiles.profile import Profile as Profile
    from spanline.profiles.resolving import resolve as resolve

_OF_ADAPTERS = (
    *("SCHEMA", "Adapter", "Field", "Values", "Wrong", "boolean", "integer", "mapping", "needs", "one_of"),
    *("optional", "secret", "text", "texts", "together", "without"),
)
_HOMES = {
    **dict.fromkeys(_OF_ADAPTERS, "spanline.profiles.adapter"),
    "Connection": "spanline.profiles.connection",
    "Profile": "spanline.profiles.profile",
    "resolve": "spanline.profiles.resolving",  # a module of that name would be bound here, in the function's place
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - it holds names


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanline.profiles' has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found
