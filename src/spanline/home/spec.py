"""RunSpec: what was asked for, as `spec.json` keeps it and a resume needs it. Never a resolved credential."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from spanline.errors import UsageError
from spanline.home.storage import Storage
from spanline.home.variables import kept_of
from spanline.runner.shared.secrets import secrets_of_run
from spanline.system import files

_LARGEST: Final = 1 << 24
"""Bytes that a spec may have; of what is passed to a process, the system takes less."""


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

    `environment` holds the variables that the run was given, but for those that may hold a secret: of them
    `secret_names` keeps the names. `timeout` is for a session, `node_timeout` for each node, `grace` for dbt once it is
    cancelled: in seconds.
    `artifacts` says where a session's artifacts are stored when it has ended.
    `conn_id` is the connection that the profile is made of, where it is: who starts a session resolves that anew.
    """

    run_id: str
    steps: list[list[str]]
    cwd: str
    project_dir: str
    python: str
    environment: dict[str, str] = {}
    secret_names: list[str] = []
    caller: dict[str, str] = {}
    conn_id: str | None = None
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
        """Read `spec.json`. Raises `UsageError` where it isn't there, can't be read, or is somebody else's.

        It names programs that are started.
        """
        try:
            return files.read_json(path, cls, _LARGEST, trusted=True)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error

    def keep(self, path: Path) -> None:
        """Write `spec.json` anew, whole or not at all. Raises `UsageError` where that can't be done."""
        try:
            files.write(path, self.encode())
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error

    def amended(self, retry: Mapping[str, object], others: Mapping[str, object]) -> RunSpec:
        """The same run with another retry policy, or others of its fields: by name, None for those that stay."""
        policy = msgspec.structs.replace(self.retry, **_given(retry))
        return msgspec.structs.replace(self, retry=policy, **_given(others))

    def given(self, variables: Mapping[str, str]) -> RunSpec:
        """The same run, which is given these variables from now on: of secret ones it keeps the names."""
        kept, secret = kept_of(variables)
        others = {name: value for name, value in self.environment.items() if name not in variables}
        names = {name for name in self.secret_names if name not in variables}
        return msgspec.structs.replace(self, environment={**others, **kept}, secret_names=sorted(names.union(secret)))

    def secrets(self, environment: Mapping[str, str]) -> Iterator[str]:
        """Values that nobody may read in the journal: of this environment, the steps' arguments, the project's vars."""
        return secrets_of_run({**environment, **self.environment}, self.steps, self.project_dir)

    def asks_the_same(self, other: RunSpec) -> bool:
        """Whether two specs ask for the same run."""
        mine, theirs = msgspec.to_builtins(self), msgspec.to_builtins(other)
        return all(mine[key] == theirs[key] for key in ("run_id", "steps", "project_dir", "caller"))


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
