"""The rules that classify errors: data, in one YAML file per warehouse in the folder `rules`.

    adapters: [postgres, greenplum]      # whose errors these are; those of `EVERYONES` are everyone's
    then: [postgres]                     # the files to ask next, for what this one doesn't know
    codes: ['^SQLSTATE ([0-9A-Z]{5})']   # where the warehouse's own code stands: the first match of each, its group
    unwrap: ['^[(]"(.*)"[)]$']           # what wraps the error: its groups remain, each on a line
    ignore: ['^LINE .*']                 # what isn't the warehouse's own words: SQL, data
    rules:                               # the first that matches decides: the permanent before the transient
      - id: postgres.deadlock
        category: concurrency
        transient: true                  # default: false
        pattern: '^deadlock detected'    # a regular expression; `^` and `$` are the ends of a line
        codes: ['40P01', '25*']          # or codes, with `*` for all that begin so
        exceptions: [DeadlockDetected]   # or the exception's class, where the text says nothing
        example: deadlock detected       # a message of that kind; the tests hold the rule to it
        source: https://www.postgresql.org/docs/current/errcodes-appendix.html

A user's file has the same format. Its rules come first, and each may name `adapters`. A rule that has the id of an
existing rule, and no pattern, codes or exceptions, changes the category of that rule. `SPANLINE_RULES` names the file;
by default, it is `.spanline-rules.yml` in the current directory. An installed package has an entry point in the group
`spanline.rules`: the file's path, or a function that returns it.

Many patterns are searched in each text of a few thousand characters. They should start with letters and bound their
repetitions. A quantifier inside a quantified group is refused.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from spanline.errors import UsageError
from spanline.runner.shared import settings

ENTRY_POINTS: Final = "spanline.rules"
PROJECT_FILE: Final = ".spanline-rules.yml"
EVERYONES: Final = ("sql", "network", "dbt")
"""The files that apply to every adapter, after its own."""
UNKNOWN: Final = "unknown"
ALIASES: Final[Mapping[str, str]] = {
    "postgresql": "postgres",
    "pg": "postgres",
    "mssql": "sqlserver",
    "awsathena": "athena",
    "apache_spark": "spark",
    "sparksql": "spark",
    "starburst_galaxy": "starburst",
    "bq": "bigquery",
}
"""Names of adapters other than dbt's: used by drivers, by OpenLineage, by people."""

Category = Literal[
    "compilation",
    "parsing",
    "profile",
    "connection",
    "authentication",
    "permission",
    "not_found",
    "syntax",
    "data",
    "timeout",
    "throttled",
    "concurrency",
    "resource",
    "cancelled",
    "internal",
    "unknown",
]

_HERE = Path(__file__).with_name("rules")
_LINE_START = re.compile(r"(?<!\\)(?:(?<=\|)|\A)\^")
_NESTED = re.compile(r"(?<!\\)[*+}]\)(?:[*+]|\{\d*,)")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to recognize one kind of error, and how to classify it."""

    id: str
    category: Category
    transient: bool = False
    pattern: str | None = None
    codes: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    example: str | None = None
    source: str | None = None

    @property
    def changes_another(self) -> bool:
        """Whether it only changes how another rule classifies."""
        return self.pattern is None and not self.codes and not self.exceptions


class _File(msgspec.Struct, forbid_unknown_fields=True):
    adapters: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    unwrap: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    rules: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Matcher:
    """A compiled rule."""

    rule: Rule
    _where: str
    _codes: frozenset[str]
    _prefixes: tuple[str, ...]

    def matches(self, text: str, codes: Sequence[str]) -> bool:
        """Whether an error with this text and these codes matches this rule."""
        if codes and any(code in self._codes or code.startswith(self._prefixes) for code in codes):
            return True
        return self.regex is not None and self.regex.search(text) is not None

    @functools.cached_property
    def regex(self) -> re.Pattern[str] | None:
        """The rule's pattern, compiled at its first use; most of Spanline's rules are never used."""
        return None if self.rule.pattern is None else compile_pattern(self.rule.pattern, self._where)

    def raised_as(self, exception: str) -> bool:
        """Whether an exception of this class, named without its module, matches this rule."""
        return exception in self.rule.exceptions

    def is_for(self, adapter: str | None) -> bool:
        """Whether the rule applies to this adapter (every rule may apply if the adapter is unknown)."""
        return not self.rule.adapters or adapter is None or adapter in map(dbts_name, self.rule.adapters)


@dataclass(frozen=True)
class RuleSet:
    """The rules of one file, in their order."""

    name: str
    adapters: tuple[str, ...]
    then: tuple[str, ...]
    codes: tuple[re.Pattern[str], ...]
    unwrap: tuple[re.Pattern[str], ...]
    ignore: tuple[re.Pattern[str], ...]
    rules: tuple[Matcher, ...]


@functools.cache
def names() -> tuple[str, ...]:
    """The files that come with Spanline, without their suffix: one for each warehouse, and `EVERYONES`."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.yml")))


@functools.cache
def builtin(name: str) -> RuleSet:
    """The rules of a file that comes with Spanline."""
    return load(_HERE / f"{name}.yml")


def dbts_name(adapter: str) -> str:
    """The name that dbt uses for an adapter, given any of its names."""
    name = adapter.strip().lower().replace("-", "_")
    return ALIASES.get(name, name)


def adapters() -> tuple[str, ...]:
    """The adapters that have rules, including the user's. Raises UsageError as `own` does."""
    users = (name for each in own() for matcher in each.rules for name in matcher.rule.adapters)
    return tuple(sorted({*_file_of_adapter(), *map(dbts_name, users)}))


@functools.cache
def of_adapter(adapter: str) -> tuple[RuleSet, ...]:
    """The files with this adapter's errors, in the order in which they are tried; empty if it has none."""
    name = _file_of_adapter().get(adapter.lower())
    return () if name is None else (builtin(name), *(builtin(after) for after in builtin(name).then))


@functools.cache
def _file_of_adapter() -> dict[str, str]:
    # Only the headers of the files are read. Their rules are loaded when one of their adapters is used.
    found: dict[str, str] = {}
    for name in names():
        with (_HERE / f"{name}.yml").open(encoding="utf-8") as file:
            head = next((line for line in file if line.startswith("adapters:")), "adapters: []")
        found.update(dict.fromkeys(re.findall(r"\w+", head)[1:], name))
    return found


def own() -> tuple[RuleSet, ...]:
    """The user's rules: from the file named by SPANLINE_RULES, or from the project's; then those of packages.

    Raises UsageError if one of them can't be read.
    """
    return (*of_file(), *of_packages())


def of_file() -> tuple[RuleSet, ...]:
    """The rules of the user's file alone, if there is one. Raises UsageError where it can't be read."""
    path = os.environ.get(settings.RULES)
    file = Path(path) if path else Path(PROJECT_FILE)
    return (_current(file),) if path or file.is_file() else ()


def _current(path: Path) -> RuleSet:
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {settings.RULES} must name a file of rules") from None
    return _load_once(path.absolute(), changed)


@functools.lru_cache(maxsize=8)
def _load_once(path: Path, _changed: int) -> RuleSet:
    return load(path)


@functools.cache
def of_packages() -> tuple[RuleSet, ...]:
    """The rules that installed packages bring. Raises UsageError where one of them can't be read."""
    return tuple(map(_of_package, sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)))


def _of_package(point: EntryPoint) -> RuleSet:
    try:
        found = point.load()
        path = Path(found() if callable(found) else found)
    except Exception as error:
        raise UsageError(f"entry point {point.name} of {ENTRY_POINTS}: {type(error).__name__}: {error}") from error
    return load(path)


def changed(sets: Sequence[RuleSet]) -> dict[str, Rule]:
    """The rules that change another one, by its id."""
    return {m.rule.id: m.rule for rules in reversed(sets) for m in reversed(rules.rules) if m.rule.changes_another}


def load(path: Path) -> RuleSet:
    """Read a file of rules. Raises UsageError: one line that names the file, the rule, and the problem."""
    import yaml  # noqa: PLC0415 - only who reads rules pays for it

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
        file = msgspec.convert(content if content is not None else {}, _File, strict=True)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    return RuleSet(
        name=path.stem,
        adapters=file.adapters,
        then=file.then,
        codes=_compiled(path, "codes", file.codes),
        unwrap=_compiled(path, "unwrap", file.unwrap),
        ignore=_compiled(path, "ignore", file.ignore),
        rules=tuple(_matchers(path, file)),
    )


def _matchers(path: Path, file: _File) -> Iterator[Matcher]:
    ours = path.parent == _HERE
    seen: set[str] = set()
    for number, raw in enumerate(file.rules, 1):
        rule = _rule(path, number, raw)
        if rule.id in seen:
            raise UsageError(f"{path}: rule {rule.id}: two rules have this id")
        if rule.changes_another and not ours and not _is_builtin(rule.id):
            raise UsageError(
                f"{path}: rule {rule.id}: it has neither pattern, codes nor exceptions, and no rule has this id"
            )
        seen.add(rule.id)
        matcher = Matcher(
            rule if ours or rule.adapters else msgspec.structs.replace(rule, adapters=file.adapters),
            f"{path}: rule {rule.id}: pattern",
            frozenset(code for code in rule.codes if not code.endswith("*")),
            tuple(code[:-1] for code in rule.codes if code.endswith("*")),
        )
        if not ours:
            _ = matcher.regex  # reports a mistake in it now
        yield matcher


def _rule(path: Path, number: int, raw: object) -> Rule:
    name = raw.get("id", f"number {number}") if isinstance(raw, Mapping) else f"number {number}"
    try:
        return msgspec.convert(raw, Rule, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: rule {name}: {error}") from None


def _is_builtin(rule_id: str) -> bool:
    return any(m.rule.id == rule_id for name in names() for m in builtin(name).rules)


def _compiled(path: Path, what: str, patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(compile_pattern(pattern, f"{path}: {what}") for pattern in patterns)


def compile_pattern(pattern: str, where: str) -> re.Pattern[str]:
    """Compile a pattern. Raises UsageError if it is invalid, or if its search may never end.

    In the texts, every line starts with a newline, even the first. It replaces `^`, so the search looks for letters
    instead of trying every position, which is ten times as fast.
    """
    if _NESTED.search(pattern):
        raise UsageError(f"{where} {pattern!r} has a quantifier inside a quantified group: its search may never end")
    try:
        return re.compile(_LINE_START.sub("\n", pattern), re.MULTILINE)
    except re.error as error:
        raise UsageError(f"{where} {pattern!r} is not a regular expression: {error}") from None
