"""dbt v2's arguments: what of a command another one of the same project takes, and how it is limited to some nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

_OF_PROJECT = frozenset(
    (
        *("--target", "-t", "--project-dir", "--profile", "--profiles-dir", "--packages-install-path", "--vars"),
        *("--state", "--selector", "--indirect-selection"),
    )
)
"""Options with one value that say which project, and which of its nodes."""
_CHOOSING = frozenset(
    (
        *("--select", "-s", "--models", "--model", "-m", "--exclude"),
        *("--resource-type", "--resource-types", "--exclude-resource-type", "--exclude-resource-types"),
    )
)
"""Options with any number of values that choose nodes."""
_REPLACED = _CHOOSING | {"--selector", "--indirect-selection"}
_TYPES = {
    "build": ("model", "seed", "snapshot", "test", "unit_test", "function"),
    "clone": ("model", "seed", "snapshot"),
    "compile": ("model", "seed", "snapshot", "test", "unit_test"),
    "run": ("model",),
    "seed": ("seed",),
    "snapshot": ("snapshot",),
    "test": ("test", "unit_test"),
}
"""The kinds of nodes of each command that runs, or compiles, nodes."""

Names = Mapping[str, Sequence[str]]
"""The fully qualified name of each node, by its unique id."""


def command_in(args: Sequence[str]) -> str:
    """The command in these arguments that runs nodes, or compiles them; empty where there is none."""
    return next((group[0] for group in _grouped(args) if group[0] in _TYPES), "")


def listing(args: Sequence[str]) -> list[str]:
    """The arguments of `dbt list` that lists what a command with these arguments runs, as one object in each line."""
    groups = [group for group in _grouped(args) if _name(group) in _OF_PROJECT or _name(group) in _CHOOSING]
    typed = any("resource-type" in _name(group) for group in groups)
    types = () if typed else ("--resource-type", *_TYPES[command_in(args)])
    return [
        "list",
        *(word for group in groups for word in group),
        *types,
        "--output",
        "json",
        "--output-keys",
        "unique_id",
    ]


def limited(args: Sequence[str], unfinished: Iterable[str], names: Names) -> list[str]:
    """These arguments with a selection in place of their own: the `unfinished` nodes, which `names` has, no others."""
    kept = (word for group in _grouped(args) if _name(group) not in _REPLACED for word in group)
    wanted = [unique_id for unique_id in unfinished if unique_id in names]
    chosen = {tuple(names[unique_id]) for unique_id in wanted}
    also = sorted({tuple(name) for name in names.values()} - chosen)
    too_many = [name for name in also if any(name[:length] in chosen for length in range(1, len(name)))]
    selected = ["--select", *(_selector(name) for name in sorted(chosen))]
    excluded = ["--exclude", *map(_selector, too_many)] if too_many else []
    return [*kept, *selected, *excluded, "--indirect-selection", "empty"]


def option(args: Sequence[str], *names: str) -> str | None:
    """The value of an option that has one of these names, `--name VALUE` or `--name=VALUE`; None if it isn't there."""
    for position, arg in enumerate(args):
        if arg in names and position + 1 < len(args):
            return args[position + 1]
        if arg.partition("=")[0] in names and "=" in arg:
            return arg.partition("=")[2]
    return None


def is_full_refresh(args: Sequence[str]) -> bool:
    """Whether incremental models are made anew."""
    return "--full-refresh" in args or "-f" in args


def _selector(name: Sequence[str]) -> str:
    return f"fqn:{'.'.join(name)}"


def _name(group: Sequence[str]) -> str:
    return group[0].partition("=")[0]


def _grouped(args: Sequence[str]) -> Iterator[list[str]]:
    """The arguments, each option together with its values; of an option that isn't known here, only the option."""
    left = list(args)
    while left:
        group = [left.pop(0)]
        if group[0] in _OF_PROJECT and left:
            group.append(left.pop(0))
        elif group[0] in _CHOOSING:
            while left and not left[0].startswith("-"):
                group.append(left.pop(0))
        yield group
