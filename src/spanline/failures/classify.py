"""Classify an error by its text: its category, and whether another attempt can help. The rules are data.

    classify("deadlock detected", adapter="postgres") == Failure("concurrency", True, "postgres.deadlock")

dbt wraps a warehouse's error: "Database Error in model orders (models/orders.sql)", the warehouse's own words, the
place of the compiled code. The words decide, not the wrapping, and not what they quote: names, values and SQL may hold
any text. Rules are tried in order: the user's, the adapter's, the general database rules, the network's, dbt's own.
A "Compilation Error" or "Parsing Error" comes from dbt, not from a warehouse, whatever its text.

Retrying a permanent error costs money. So a doubtful error is not transient, and a text without a rule is `unknown`.

The rules are in `rules/`, the table of categories is in docs/errors.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import msgspec

from spanline.errors import UsageError
from spanline.failures import matching
from spanline.failures.matching import UNKNOWN, Category, Matcher, RuleSet
from spanline.journal.state import NodeState, RunState
from spanline.runner.shared.lines import line_in

HEAD: Final = 2 << 10
TAIL: Final = 1 << 10
"""How many characters of a longer message are read. Warehouses state the cause first; SQL, data or a stack trace makes
a message long. At the end, where a Python traceback names the exception, only whole lines count."""

_ORDER: Final[tuple[Category, ...]] = get_args(Category)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")
_LAYER = re.compile(
    r"\s*(?:"
    r"(?P<kind>Runtime|Database|Compilation|Parsing|Internal|Validation|Dependency|Usage|Breaking change to contract)"
    r" Error(?: in (?P<what>[a-z_]+ \S+)(?: \((?P<path>[^()\n]*)\))?)?:?(?=\s)"
    r"|Encountered an error[a-z ]*:(?=\s)"
    r"|Unhandled error while executing [^\n]*\n"
    r"|Exception on worker thread\. "
    r"|Failure in [^\n]*\n"
    r"|[Dd]atabase error while [^\n]*\n"
    r"|\S+ failed, error:\n"
    r"|[Ee]rror(?: \[\w+ \(dbt\d{4}\)\])?: (?:dbt\d{4}: )?(?:\[[A-Za-z]+\] )?"
    r"|\[(?:BigQuery|Databricks|DuckDB|Postgres|PostgreSQL|Redshift|Snowflake|Spark)\] "
    r")"
)
"""What dbt puts around an error: headings that may come before it, one inside another."""
_OF_THE_PROJECT = frozenset(("Compilation", "Parsing", "Usage", "Breaking change to contract"))
"""Errors that dbt itself finds. Their text comes from dbt or the project, never from a warehouse.

"Usage Error" is the runner's name for the complaints of dbt's command line.
"""
_CLASS = re.compile(
    r"\n((?:[a-z_]\w*\.)+[A-Za-z]\w*|[A-Z]\w*(?:Error|Exception|Interrupt)|[A-Z][a-z]+[A-Z][A-Za-z]+):(?=[ \t])"
)
_SEVERITY = re.compile(r"(?:\n|failed: )(?:ERROR|FATAL|PANIC):(?=\s)")
_REQUEST = re.compile(r"\n\d{3} [A-Z]{3,7} (?=https?://)|(?<=[A-Z] )https?://\S{1,500}:(?=\s)")
_QUOTED = re.compile(r"(?<!\w)(?:'[^'\n]{1,500}'|\"[^\"\n]{1,500}\"|`[^`\n]{1,500}`)(?!\w)")
_NAME = re.compile(r"\S[\w.$:/@-]*\S")
_CALL = re.compile(r"(?:(?:Error|Exception|Disconnected|Timeout|Interrupt)\((?:-?\d{1,5}, )?|\n\(|\bdetails = )$")


class Failure(msgspec.Struct, frozen=True):
    """The classification of an error: its category, whether another attempt can help, and the id of the rule."""

    category: Category
    transient: bool = False
    rule: str | None = None


def classify(message: str, adapter: str | None = None, exception_type: str | None = None) -> Failure:
    """Classify an error by its message, from dbt or from a warehouse.

    `adapter` is dbt's name of the adapter (`snowflake`). Without it, every adapter's rules are tried, and an error that
    is permanent for any of them is permanent. For an adapter without rules, only the general database rules and the
    network's are tried. `exception_type` is the name of the exception's class; it counts only if the text says nothing.
    Raises UsageError if the user's own rules can't be read.
    """
    return _classified(message, adapter, exception_type, matching.own())


def classify_by(rules: RuleSet, message: str, adapter: str | None = None) -> Failure:
    """`classify` with these rules in place of the user's."""
    return _classified(message, adapter, None, (rules,))


def failure_of(message: str, adapter: str | None = None) -> Failure:
    """`classify` for code that only reports on a run: if the user's rules can't be read, Spanline's own decide.

    Starting a run reports such rules.
    """
    try:
        return classify(message, adapter)
    except UsageError:
        return _classified(message, adapter, None, ())


def _classified(message: str, adapter: str | None, exception_type: str | None, own: Sequence[RuleSet]) -> Failure:
    adapter = matching.dbts_name(adapter) if adapter is not None else None
    said = _Said.of(message)
    groups = _groups(adapter) if said.of_a_warehouse else []
    found = _by_text(said, own, groups, adapter) or _by_exception(
        exception_type or said.exception, own, groups, adapter
    )
    if found is None:
        return Failure(UNKNOWN)
    rule = matching.changed(own).get(found.rule.id, found.rule)
    return Failure(rule.category, rule.transient, rule.id)


def most_permanent(failures: Iterable[Failure]) -> Failure | None:
    """The failure that decides among several: permanent before transient, then the likeliest cause."""
    return min(failures, key=lambda failure: (failure.transient, _ORDER.index(failure.category)), default=None)


def failure_of_session(state: RunState) -> Failure | None:
    """What decides why a session failed: the most permanent of its nodes' errors, or what dbt gave up for."""
    if state.failed_nodes:
        return most_permanent(failure_of(node.said, state.adapter) for node in state.failed_nodes)
    said = state.attempt.exception if state.attempt is not None else None
    return failure_of(said, state.adapter) if said else None


def decisive_first(nodes: Sequence[NodeState], adapter: str | None) -> list[NodeState]:
    """Failed nodes: the one with the most permanent error first, then the others in their order."""
    found = [failure_of(node.said, adapter) for node in nodes]
    decisive = most_permanent(found)
    if decisive is None:
        return []
    first = found.index(decisive)
    return [nodes[first], *nodes[:first], *nodes[first + 1 :]]


def own_words(message: str) -> str:
    """A message without dbt's wrapping: the warehouse's own error, or dbt's, in lines."""
    return _Said.of(message).words.strip()


def place_of(message: str) -> tuple[str | None, str | None]:
    """The place named in dbt's heading, `model orders`, and its file, if the heading has them."""
    return _Said.of(message).place


def line_of(message: str) -> int | None:
    """The line of the code that an error names, if it does."""
    return line_in(_window(message))


@dataclass(frozen=True)
class _Said:
    """A message, taken apart. Every line of a text starts with a newline, and has no space after it."""

    whole: str
    """With dbt's heads."""
    words: str
    """Without them."""
    of_a_warehouse: bool
    exception: str | None
    place: tuple[str | None, str | None]
    """The place that the headings name, and its file."""

    @classmethod
    def of(cls, message: str) -> _Said:
        whole = _without(_lines(_ANSI.sub("", _window(message))), matching.builtin("dbt").ignore)
        words, kinds = whole, set()
        place: tuple[str | None, str | None] = (None, None)
        while layer := _LAYER.match(words):
            kinds.add(layer["kind"])
            place = (layer["what"], layer["path"]) if layer["what"] else place
            words = words[layer.end() :]
        words = _lines(words)
        name = _CLASS.match(words)
        return cls(
            whole=_masked(_lines(whole)),
            words=words,
            of_a_warehouse=not kinds & _OF_THE_PROJECT,
            exception=name[1] if name else None,
            place=place,
        )

    def seen_by(self, sets: Sequence[RuleSet]) -> tuple[str, str]:
        """The words without what these files ignore; and, for patterns to search, without wrappers and quotations."""
        words = self.words
        for each in sets:
            words = _without(words, each.ignore)
        words = text = _broken(words)
        for wrapper in (wrapper for each in sets for wrapper in each.unwrap):
            text = wrapper.sub(lambda found: "\n".join(("", *filter(None, found.groups()), "")), text)
        return words, _masked(text if text is words else _broken(text))


def _window(message: str) -> str:
    if len(message) <= HEAD + TAIL:
        return message
    _, newline, end = message[-TAIL:].partition("\n")
    return f"{message[:HEAD]}\n{end if newline else ''}"


def _lines(text: str) -> str:
    return "\n" + "\n".join(line for line in map(str.strip, text.split("\n")) if line)


def _broken(text: str) -> str:
    """The text with what often stands before an error, on the same line, on a line of its own."""
    for head in (_CLASS, _SEVERITY, _REQUEST):
        text = head.sub(r"\g<0>\n", text)
    return _lines(text)


def _without(text: str, ignored: Iterable[re.Pattern[str]]) -> str:
    for pattern in ignored:
        text = pattern.sub("", text)
    return text


def _masked(text: str) -> str:
    """The text without what it quotes: a name may stay, being one word; and Python's way to write an exception."""

    def mask(found: re.Match[str]) -> str:
        quoted = found[0]
        before = text[max(0, found.start() - 24) : found.start()]
        if _NAME.fullmatch(quoted, 1, len(quoted) - 1) or _CALL.search(before):
            return quoted
        return f"{quoted[0]}?{quoted[0]}"

    return _QUOTED.sub(mask, text)


def _groups(adapter: str | None) -> list[Sequence[RuleSet]]:
    if adapter is None:
        return [(matching.builtin(name),) for name in matching.names() if name not in matching.EVERYONES]
    known = matching.of_adapter(adapter)
    return [known] if known else []


def _by_text(
    said: _Said, own: Sequence[RuleSet], groups: Sequence[Sequence[RuleSet]], adapter: str | None
) -> Matcher | None:
    common = [matching.builtin("sql"), matching.builtin("network")] if said.of_a_warehouse else []
    everyone = [*own, *(each for group in groups for each in group), *common]
    words, text = said.seen_by(everyone)
    codes = _codes(everyone, words) if own else ()
    return (
        _matching(own, text, codes, adapter)
        or _most_permanent(_matching(group, text, _codes(group, words), adapter) for group in groups)
        or _matching(common, text, (), adapter)
        or _matching([matching.builtin("dbt")], said.whole, (), adapter)
    )


def _codes(sets: Iterable[RuleSet], words: str) -> list[str]:
    return [found[found.lastindex or 0] for each in sets for code in each.codes if (found := code.search(words))]


def _matching(sets: Iterable[RuleSet], text: str, codes: Sequence[str], adapter: str | None) -> Matcher | None:
    rules_in_order = (matcher for each in sets for matcher in each.rules)
    return next((m for m in rules_in_order if m.matches(text, codes) and m.is_for(adapter)), None)


def _most_permanent(found: Iterable[Matcher | None]) -> Matcher | None:
    return min(
        filter(None, found),
        key=lambda matcher: (matcher.rule.category == UNKNOWN, matcher.rule.transient),
        default=None,
    )


def _by_exception(
    exception: str | None, own: Sequence[RuleSet], groups: Sequence[Sequence[RuleSet]], adapter: str | None
) -> Matcher | None:
    if exception is None:
        return None
    name = exception.rpartition(".")[2]
    sets = [*own, *(each for group in groups for each in group), *map(matching.builtin, matching.EVERYONES)]
    return next((m for each in sets for m in each.rules if m.raised_as(name) and m.is_for(adapter)), None)
