"""dbt's command line: the command and the options in its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanline.errors import UsageError
from spanline.home.spec import _GLOBAL_WITH_VALUE, _command

_GROUPS: Final = frozenset(("docs", "source"))


_WITH_VALUE: Final = _GLOBAL_WITH_VALUE.union(
    ("--profile", "--profiles-dir", "--project-dir", "--target", "-t", "--target-path", "--threads", "--vars")
)
"""dbt's options that may stand before the command and have a value of their own."""


def option(args: Sequence[str], name: str) -> str | None:
    """The value of an option of dbt's, given as `--name value` or `--name=value`; None where it isn't."""
    for position, arg in enumerate(args):
        if arg == name and position + 1 < len(args):
            return args[position + 1]
        if arg.startswith(f"{name}="):
            return arg.partition("=")[2]
    return None


def command_of(args: Sequence[str]) -> str:
    """The dbt command in these arguments: `build`, `source freshness`; empty where there is none."""
    return " ".join(args[_command(args)])


def steps_of(asked: Sequence[str] | Sequence[Sequence[str]]) -> list[list[str]]:
    """One command's arguments, or several commands', as steps. Raises `UsageError` for anything else."""
    if isinstance(asked, str):
        raise UsageError(f"give dbt's arguments as a list, such as {asked.split()!r}, not as one text")
    try:
        items: list[object] = list(asked)
        is_one = any(isinstance(item, str) for item in items)
        steps = [items] if is_one else [list(item) for item in items]  # type: ignore[call-overload]
    except TypeError as error:
        raise UsageError(f"give dbt's arguments as a list of texts: {error}") from error
    if is_one and any(isinstance(item, (list, tuple)) for item in items):
        raise UsageError("give either one command's arguments or a list of such lists, not a mixture")
    if not steps or not all(steps):
        raise UsageError('give at least one dbt command, such as ["build"]')
    return [[_plain(word) for word in step] for step in steps]


def _plain(word: object) -> str:
    """The text itself, of whichever kind of `str` it is."""
    if not isinstance(word, str):
        raise UsageError(f"dbt's arguments are texts: {word!r} is none")
    return str.__str__(word)
