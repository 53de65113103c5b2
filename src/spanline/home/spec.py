"""RunSpec: what was asked for, as `spec.json` keeps it and a resume needs it. Never a resolved credential."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from spanline.errors import UsageError
from spanline.home.storage import Storage
from spanline.runner.shared.secrets import looks_secret, secrets_of_arguments, secrets_of_environment

Seconds = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]
"""A finite number: JSON, in which a spec is kept, knows no other."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a step is tried, counted as `tenacity.stop_after_attempt` does; delays and times are in seconds.

    The delay doubles with each attempt, up to a minute, with jitter. `within` so many seconds of the first attempt's
    start a new one may begin. `partial` tries what can be tried again although other nodes have failed for good.
    """

    limit: Annotated[int, msgspec.Meta(ge=1)] = 1
    delay: Seconds = 1.0
    within: Seconds | None = None
    partial: bool = False


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `steps` are dbt commands, done in order; `python` is the interpreter that has dbt.

    `environment` holds the caller's variables for dbt that are no secrets; of the others `secret_names` keeps the
    names. `timeout` is for a session, `node_timeout` for each node, `grace` for dbt once it is cancelled: in seconds.
    `artifacts` says where a session's artifacts are stored when it has ended.
    """

    run_id: str
    steps: list[list[str]]
    cwd: str
    project_dir: str
    python: str
    environment: dict[str, str] = {}
    secret_names: list[str] = []
    caller: dict[str, str] = {}
    grace: Seconds = 30.0
    retry: RetryPolicy = RetryPolicy()
    timeout: Seconds | None = None
    node_timeout: Seconds | None = None
    artifacts: Storage | None = None

    def check(self) -> RunSpec:
        """Return the same spec. Raises `UsageError` where a value isn't what its type says, or can't be kept."""
        if self.artifacts is not None:
            self.artifacts.check()
        fields = {**msgspec.structs.asdict(self), "retry": msgspec.structs.asdict(self.retry)}
        try:
            checked = msgspec.convert(fields, RunSpec)
            checked.encode()
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at ")
            raise UsageError(f"{where.strip('`').removeprefix('$.')}: {what}") from error
        except UnicodeEncodeError as error:  # whose text may hold a secret
            raise UsageError(
                f"an argument or variable is no UTF-8 text, from its character {error.start + 1} on"
            ) from None
        except TypeError as error:
            raise UsageError(f"a run can't be kept: {error}") from error
        return checked

    def encode(self) -> bytes:
        """The content of `spec.json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def load(cls, path: Path) -> RunSpec:
        """Read `spec.json`. Raises `UsageError` where it isn't there or can't be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"cannot read {path}: {error}") from error

    def keep(self, path: Path) -> None:
        """Write `spec.json` anew, whole or not at all. Raises `UsageError` where that can't be done."""
        new = path.with_name(f"{path.name}.new")
        try:
            with open(new, "wb", opener=lambda place, flags: os.open(place, flags, 0o600)) as file:
                file.write(self.encode())
            new.replace(path)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error}") from error

    def amended(self, retry: Mapping[str, object], limits: Mapping[str, object]) -> RunSpec:
        """The same run with another retry policy or other limits: fields by name, None for those that stay."""
        policy = msgspec.structs.replace(self.retry, **_given(retry))
        return msgspec.structs.replace(self, retry=policy, **_given(limits))

    def secrets(self, environment: Mapping[str, str]) -> Iterator[str]:
        """Values that nobody may read in the journal: of this environment, and of the steps' arguments."""
        yield from secrets_of_environment({**environment, **self.environment})
        for step in self.steps:
            yield from secrets_of_arguments(step)

    def asks_the_same(self, other: RunSpec) -> bool:
        """Whether two specs ask for the same run."""
        mine, theirs = msgspec.to_builtins(self), msgspec.to_builtins(other)
        return all(mine[key] == theirs[key] for key in ("run_id", "steps", "project_dir", "caller"))


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def variables_of(environment: Mapping[str, str] | None) -> dict[str, str]:
    """The variables that a caller passes. Raises `UsageError` where a process can't be given them."""
    passed = {}
    for name, value in (environment or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"variables of the environment are texts: {name!r}'s name or value is none")
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(f"no process can be given the variable {name!r}: its name is empty, or has a =, or a NUL")
        passed[str.__str__(name)] = str.__str__(value)
    return passed


def kept_environment(passed: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split a run's variables (those passed for it, and `DBT_*`) into those to keep and the names of secret ones."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith("DBT_")}
    everything = {**inherited, **passed}
    secret = sorted(name for name in everything if looks_secret(name))
    kept = {name: value for name, value in everything.items() if name not in secret}
    return kept, secret
