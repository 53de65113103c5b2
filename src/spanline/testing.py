"""Help for those who extend Spanline, in their tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import SpanlineError
from spanline.profiles.profile import Profile
from spanline.runner.shared import settings

# --- adapters of profiles


class ProfileReading(msgspec.Struct, frozen=True, kw_only=True):
    """How dbt reads a profile.

    `rendered` is the output once dbt has rendered it, secrets and all; `credentials` what its adapter makes of that,
    and `fields` the names that it knows, aliases too. `refused` is what dbt says of a profile that it doesn't take.
    """

    rendered: dict[str, object] = {}
    credentials: dict[str, object] = {}
    fields: frozenset[str] = frozenset()
    refused: str | None = None

    @property
    def dropped(self) -> set[str]:
        """What dbt doesn't know of the output, and drops without a word."""
        return set(self.rendered) - self.fields - {"type", "threads"}


_READ: Final = r"""
import dataclasses, json, os, sys, tempfile
from argparse import Namespace

def reading(profile):
    os.environ.update(profile["environment"])
    try:
        from dbt_common.context import set_invocation_context
        set_invocation_context(dict(os.environ))
    except ImportError:
        pass  # dbt Core 1.7, which reads os.environ
    from dbt.config.profile import Profile, read_profile
    from dbt.config.renderer import ProfileRenderer
    from dbt.flags import set_from_args
    with tempfile.TemporaryDirectory() as place:
        with open(os.path.join(place, "profiles.yml"), "w") as file:
            file.write(profile["document"])
        set_from_args(Namespace(PROFILES_DIR=place, PROJECT_DIR=place), None)
        raw, renderer = read_profile(place), ProfileRenderer({})
        try:
            _, rendered = Profile.render_profile(raw["read"], "read", None, renderer)
            made = Profile.from_raw_profiles(raw, "read", renderer)
        except BaseException as error:
            return {"refused": f"{type(error).__name__}: {error}"}
    credentials = made.credentials
    fields = {field.name for field in dataclasses.fields(credentials)}
    return {
        "rendered": rendered,
        "credentials": {**credentials.to_dict(omit_none=True), "threads": made.threads},
        "fields": sorted(fields | set(credentials._ALIASES) | {"method"} & set(dir(credentials))),
    }

given = json.load(sys.stdin)
# What packages print on their import must not stand before it.
answer, sys.stdout = sys.stdout, sys.stderr
json.dump([reading(profile) for profile in given], answer, default=str)
"""


def read_by_dbt(*profiles: Profile, python: str | Path = sys.executable) -> list[ProfileReading]:
    """Have the dbt of an interpreter, which needs the adapters, read these profiles; nothing connects to a warehouse.

    Raises `SpanlineError` where there is no dbt that could read them.
    """
    given = [{"document": profile.document("read"), "environment": dict(profile.environment)} for profile in profiles]
    done = subprocess.run(
        [str(python), "-c", _READ],
        input=json.dumps(given),
        env=_environment_without_secrets(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SpanlineError(f"{python} could not read the profiles: {done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout, type=list[ProfileReading])


def _environment_without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what dbt would take for something of its own."""
    return {name: value for name, value in environ.items() if not name.startswith(settings.DBT_PREFIX)}
