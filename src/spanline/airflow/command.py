"""dbt's command lines from an operator's arguments: each option goes to the commands that know it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from spanline.dbt.arguments import command_of

Command = str | Sequence[str]
"""`"build --fail-fast"`, split as a shell would, or `["build", "--fail-fast"]`."""

_SELECTING: Final = frozenset(
    (
        *("build", "clone", "compile", "docs generate", "list", "ls", "run", "seed", "show", "snapshot"),
        *("source freshness", "test"),
    )
)
_REFRESHING: Final = frozenset(("build", "clone", "compile", "run", "seed"))
_THREADED: Final = _SELECTING - {"list", "ls"} | {"run-operation"}
_WITHOUT_PROJECT: Final = frozenset(("init", "clean"))


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """dbt's options that are arguments of the operator."""

    select: str | Sequence[str] | None = None
    exclude: str | Sequence[str] | None = None
    vars: Mapping[str, object] | str | None = None
    full_refresh: bool = False
    threads: int | None = None
    target: str | None = None

    def added_to(self, args: Sequence[str]) -> list[str]:
        """A command's arguments with those of these options that it knows."""
        return [*args, *self._for(command_of(args))]

    def _for(self, command: str) -> Iterator[str]:
        if command in _WITHOUT_PROJECT:
            return
        if command in _SELECTING:
            for name, asked in (("--select", self.select), ("--exclude", self.exclude)):
                if asked:
                    yield from (name, *(shlex.split(asked) if isinstance(asked, str) else asked))
        if self.full_refresh and command in _REFRESHING:
            yield "--full-refresh"
        if self.threads and command in _THREADED:
            yield from ("--threads", str(self.threads))
        if self.vars:
            yield from ("--vars", self.vars if isinstance(self.vars, str) else json.dumps(self.vars))
        if self.target:
            yield from ("--target", self.target)


def steps_of(command: Command | None, steps: Sequence[Command] | None, options: Options) -> list[list[str]]:
    """The steps of a run: the one command, or each of `steps`."""
    asked = steps or ([command] if command else [])
    return [options.added_to(shlex.split(one) if isinstance(one, str) else list(one)) for one in asked]
