"""dbt's command line: the command and the options in its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from spanline.errors import UsageError

_GROUPS: Final = frozenset(("docs", "source"))


_GLOBAL_WITH_VALUE: Final = frozenset(
    (
        *("--defer-state", "--indirect-selection", "--log-file-max-bytes", "--log-format", "--log-format-file"),
        *("--log-level", "--log-level-file", "--log-path", "--maximum-seed-size-mib", "--partial-parse-file-path"),
        *("--printer-width", "--record-timing-info", "-r", "--state", "--v2-parser", "--warn-error-options"),
    )
)
_WITH_VALUE: Final = _GLOBAL_WITH_VALUE.union(
    ("--profile", "--profiles-dir", "--project-dir", "--target", "-t", "--target-path", "--threads", "--vars")
)
"""dbt's options that may come before the command and take a value."""
_GLOBAL_NAMES: Final = (
    *("cache-selected-only", "debug", "defer", "enable-legacy-logger", "fail-fast", "favor-state", "hints-enabled"),
    *("log-cache-events", "macro-debugging", "partial-parse", "partial-parse-file-diff", "populate-cache", "print"),
    *("quiet", "send-anonymous-usage-stats", "show-all-deprecations", "show-resource-report", "single-threaded"),
    *("snowflake-projects-otel", "static-parser", "upload-to-artifacts-ingest-api", "use-colors"),
    *("use-colors-file", "use-experimental-parser", "use-fast-test-edges", "use-v2-parser", "version-check"),
    *("warn-error", "write-json"),
)
_GLOBAL: Final = frozenset((*("-d", "-q", "-x"), *(f"--{no}{name}" for name in _GLOBAL_NAMES for no in ("", "no-"))))
"""dbt's global flags, with and without a value, in dbt Core 1.8 to 1.12. They may also come after the command.

They say how dbt works, not what it works on (`--profile` and `--target` do that):
https://docs.getdbt.com/reference/global-configs/about-global-configs.
"""


def option(args: Sequence[str], name: str) -> str | None:
    """The value of a dbt option, given as `--name value` or `--name=value`; None if it is not given."""
    for position, arg in enumerate(args):
        if arg == name and position + 1 < len(args):
            return args[position + 1]
        if arg.startswith(f"{name}="):
            return arg.partition("=")[2]
    return None


def command_of(args: Sequence[str]) -> str:
    """The dbt command in these arguments: `build`, `source freshness`; empty if there is none."""
    return " ".join(args[_command(args)])


def steps_of(asked: Sequence[str] | Sequence[Sequence[str]]) -> list[list[str]]:
    """One command's arguments, or several commands', as steps. Raises `UsageError` for anything else."""
    if isinstance(asked, str):
        raise UsageError(f"give dbt's arguments as a list, such as {asked.split()!r}, not as one string")
    try:
        items: list[object] = list(asked)
        is_one = any(isinstance(item, str) for item in items)
        steps = [items] if is_one else [list(item) for item in items]  # type: ignore[call-overload]
    except TypeError as error:
        raise UsageError(f"give dbt's arguments as a list of strings: {error}") from error
    if is_one and any(isinstance(item, (list, tuple)) for item in items):
        raise UsageError("give either one command's arguments or a list of such lists, not a mixture")
    if not steps or not all(steps):
        raise UsageError('give at least one dbt command, such as ["build"]')
    return [[_plain(word) for word in step] for step in steps]


def _plain(word: object) -> str:
    """A plain `str` with this text, if it is of a subclass."""
    if not isinstance(word, str):
        raise UsageError(f"dbt's arguments must be strings, and {word!r} is not")
    return str.__str__(word)


def _command(args: Sequence[str]) -> slice:
    """The part of these arguments that is the command; empty, at their end, if there is none."""
    words = iter(enumerate(args))
    for place, word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return slice(place, place + (2 if word in _GROUPS else 1))
    return slice(len(args), len(args))


def without_global_flags(args: Sequence[str]) -> list[str]:
    """These dbt arguments with the command first, and without the flags that only say how dbt works."""
    command = _command(args)
    return [*args[command], *_lasting(args[command.stop :]), *_lasting(args[: command.start])]


def _lasting(args: Sequence[str]) -> Iterator[str]:
    words = iter(args)
    for word in words:
        name, equals, _ = word.partition("=")
        if name in _GLOBAL_WITH_VALUE:
            if not equals:
                next(words, None)
        elif word not in _GLOBAL:
            yield word
