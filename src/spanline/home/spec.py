"""RunSpec: what a run was asked to do, as kept in `spec.json` for a resume. It never holds a resolved credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import UsageError
from spanline.home.limits import Limits
from spanline.home.storage import Storage
from spanline.home.variables import kept_of
from spanline.runner.shared.secrets import secrets_of_run
from spanline.system import files

_LARGEST: Final = 1 << 24
"""The largest size of a spec in bytes. The system accepts less as a process's arguments."""


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `steps` are dbt commands, run in order; `python` is the interpreter that has dbt.

    `program` is the path of dbt v2, where that is the dbt that runs them.

    `environment` holds the variables that the run was given, except those that may hold a secret: of them
    `secret_names` keeps the names.
    `artifacts` says where a session's artifacts are stored when it has ended.
    `conn_id` is the connection that the profile is made of, where it is: who starts a session resolves that anew.
    """

    run_id: str
    steps: list[list[str]]
    cwd: str
    project_dir: str
    python: str
    program: str | None = None
    environment: dict[str, str] = {}
    secret_names: list[str] = []
    caller: dict[str, str] = {}
    conn_id: str | None = None
    limits: Limits = Limits()
    artifacts: Storage | None = None

    def check(self) -> RunSpec:
        """Return the same spec. Raises `UsageError` if a value does not have its declared type, or can't be saved."""
        if self.artifacts is not None:
            self.artifacts.check()
        fields = {**msgspec.structs.asdict(self), "limits": msgspec.structs.asdict(self.limits)}
        try:
            checked = msgspec.convert(fields, RunSpec)
            checked.encode()
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at ")
            argument = where.strip("`").removeprefix("$.").removeprefix("limits.")
            raise UsageError(f"{argument}: {what}") from error
        except UnicodeEncodeError as error:  # whose text may hold a secret
            raise UsageError(
                f"an argument or variable is not UTF-8 text, from character {error.start + 1} on"
            ) from None
        except TypeError as error:
            raise UsageError(f"cannot save the run: {error}") from error
        return checked

    def encode(self) -> bytes:
        """The content of `spec.json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def load(cls, path: Path) -> RunSpec:
        """Read `spec.json`. Raises `UsageError` if it does not exist, can't be read, or belongs to somebody else.

        The owner matters because it names programs to start.
        """
        try:
            return files.read_json(path, cls, _LARGEST, trusted=True)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error

    def keep(self, path: Path) -> None:
        """Replace `spec.json` atomically. Raises `UsageError` if that is not possible."""
        try:
            files.write(path, self.encode())
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error

    def given(self, variables: Mapping[str, str]) -> RunSpec:
        """The same run, with these variables from now on. It keeps only the names of secret ones."""
        kept, secret = kept_of(variables)
        others = {name: value for name, value in self.environment.items() if name not in variables}
        names = {name for name in self.secret_names if name not in variables}
        return msgspec.structs.replace(self, environment={**others, **kept}, secret_names=sorted(names.union(secret)))

    def secrets(self, environment: Mapping[str, str]) -> Iterator[str]:
        """Values to keep out of the journal: of this environment, the steps' arguments, and the project's vars."""
        return secrets_of_run({**environment, **self.environment}, self.steps, self.project_dir)

    def asks_the_same(self, other: RunSpec) -> bool:
        """Whether two specs ask for the same run."""
        mine, theirs = msgspec.to_builtins(self), msgspec.to_builtins(other)
        return all(mine[key] == theirs[key] for key in ("run_id", "steps", "project_dir", "caller"))
