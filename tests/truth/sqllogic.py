"""DuckDB's `.test` files: https://duckdb.org/docs/stable/dev/sqllogictest/intro."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

_MOST_ROUNDS: Final = 2
"""Of a loop: what differs from round to round is a value, hardly ever the shape of a query."""


def statements(text: str, folder: str) -> Iterator[tuple[bool, str]]:
    """The SQL of a file that ought to succeed, in order, and whether it is a query."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block, values in _unrolled(_blocks(lines), {}):
        found = _statement(block)
        if found is None:
            continue
        is_query, sql = found
        for name, value in values.items():
            sql = sql.replace(f"${{{name}}}", value)
        yield is_query, sql.replace("__TEST_DIR__", folder).replace("{TEST_DIR}", folder)


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """What stands between empty lines."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _unrolled(blocks: Sequence[list[str]], values: dict[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    at = 0
    while at < len(blocks):
        words = blocks[at][0].split()
        if words[0] not in ("loop", "foreach", "concurrentloop", "concurrentforeach"):
            yield blocks[at], values
            at += 1
            continue
        end = _end(blocks, at)
        inner = [blocks[at][1:], *blocks[at + 1 : end]]
        rounds = [str(each) for each in range(int(words[2]), int(words[3]))] if "loop" in words[0] else words[2:]
        if not words[0].startswith("concurrent"):
            for value in rounds[:_MOST_ROUNDS]:
                yield from _unrolled([block for block in inner if block], {**values, words[1]: value})
        at = end + 1


def _end(blocks: Sequence[list[str]], begin: int) -> int:
    depth = 0
    for at in range(begin, len(blocks)):
        for line in blocks[at]:
            word = line.split()[0]
            depth += word in ("loop", "foreach", "concurrentloop", "concurrentforeach")
            depth -= word == "endloop"
        if depth <= 0:
            return at
    return len(blocks)


def _statement(block: Sequence[str]) -> tuple[bool, str] | None:
    lines = list(block)
    while lines and lines[0].split()[0] in ("onlyif", "skipif", "endloop", "mode", "require", "load"):
        if lines.pop(0).startswith("onlyif"):
            return None
    if len(lines) < 2:
        return None
    words = lines[0].split()
    body = "\n".join(lines[1:]).split("\n----")[0]
    if words[0] == "query":
        return True, body
    return (False, body) if words[0] == "statement" and words[1:2] == ["ok"] else None
