"""What keeps SQL from taking the parser for ever, or the process down: a look at its tokens, and a stack deep enough.

sqlglot's parser goes down with each bracket, and compiled it has no recursion limit. What can be read in two ways it
reads twice, so that its time doubles with each of those inside another.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from sqlglot.dialects import BigQuery
from sqlglot.dialects.dialect import Dialect
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import TokenType

T = TypeVar("T")

MOST_CHARACTERS: Final = 2_000_000
_MOST_NESTED: Final = 2_000
_MOST_NESTED_IN_BIGQUERY: Final = 300  # whose time goes with more than the square of the depth
_MOST_CHAINED: Final = 200
_MOST_TRIES: Final = 10
_SHALLOW: Final = 40
_FEW_TOKENS: Final = 2_000
_STACK: Final = 256 * 1024 * 1024
_RECURSION: Final = 60_000

_OPENING: Final = frozenset((TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE))
_CLOSING: Final = frozenset((TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END))
_TRIED_TWICE: Final = frozenset((*Parser.TYPE_TOKENS, TokenType.INTERVAL, TokenType.LATERAL))
_UNCONDITIONAL: Final = frozenset((TokenType.CROSS, TokenType.NATURAL))
_deep: Final = threading.Lock()


class TooMuch(Exception):  # noqa: N818 - it says what the SQL is
    """The SQL is more than any that a person, or a macro of theirs, would write."""


def must_be_deep(kinds: Sequence[TokenType], dialect: Dialect) -> bool:
    """Whether tokens of these kinds are to be parsed on a deep stack. Raises `TooMuch` if not even there."""
    shape = _Shape(_MOST_NESTED_IN_BIGQUERY if isinstance(dialect, BigQuery) else _MOST_NESTED)
    for before, kind in itertools.pairwise((TokenType.SEMICOLON, *kinds)):
        if kind in _OPENING:
            shape.open(before, kind)
        elif kind in _CLOSING:
            shape.close()
        else:
            reader = _READERS.get(kind)
            if reader is not None:
                reader(shape, before)
    return shape.deepest > _SHALLOW or len(kinds) > _FEW_TOKENS


class _Shape:
    """What is open at a token, and has not been too much before it."""

    def __init__(self, most_nested: int) -> None:
        self.deepest = 0
        self._most_nested = most_nested
        self._around: list[tuple[int, int, int]] = []
        self._endless = 0  # FROM FROM FROM
        self._tried = 0  # brackets behind the name of a type, inside one another
        self._waiting = 0  # joins that wait for a condition, those around the bracket included
        self._outside = 0  # those around the bracket
        self._types = 0  # ARRAY<STRUCT<…
        self._chained = 0  # a[1][2].b(3)…

    def open(self, before: TokenType, kind: TokenType) -> None:
        if kind is TokenType.L_BRACKET:
            self.chain(before)
        self._around.append((self._tried, self._waiting, self._outside))
        self._outside = self._waiting
        self._tried += before in _TRIED_TWICE
        self.deepest = max(self.deepest, len(self._around) + self._endless)
        _limit(self.deepest, self._most_nested, "brackets inside one another")
        _limit(self._tried, _MOST_TRIES, "arrays, structs or types inside one another")

    def close(self) -> None:
        if self._around:
            self._tried, self._waiting, self._outside = self._around.pop()

    def chain(self, before: TokenType) -> None:
        if before in (TokenType.R_PAREN, TokenType.R_BRACKET):
            self._chained += 1
            _limit(self._chained, _MOST_CHAINED, "subscripts and calls in a row")

    def less(self, before: TokenType) -> None:
        if before in Parser.NESTED_TYPE_TOKENS:
            self._types += 1
            _limit(self._types, _MOST_CHAINED, "types inside one another")

    def greater(self, _: TokenType) -> None:
        self._types = max(self._types - 1, 0)

    def join(self, before: TokenType) -> None:
        if before not in _UNCONDITIONAL:
            self._waiting += 1
            _limit(self._waiting, _MOST_TRIES, "joins without a condition")

    def condition(self, _: TokenType) -> None:
        self._waiting = max(self._waiting - 1, self._outside)

    def from_(self, before: TokenType) -> None:
        self._chained = 0
        if before is TokenType.FROM:
            self._endless += 1
            _limit(self._endless, _MOST_CHAINED, "FROM in a row")

    def select(self, _: TokenType) -> None:
        self._chained = self._types = 0
        self._waiting = self._outside

    def part(self, _: TokenType) -> None:
        self._chained = 0

    def alias(self, _: TokenType) -> None:
        self._chained = self._types = 0


_READERS: Final[dict[TokenType, Callable[[_Shape, TokenType], None]]] = {
    TokenType.ALIAS: _Shape.alias,
    TokenType.COMMA: _Shape.part,
    TokenType.DOT: _Shape.chain,
    TokenType.FROM: _Shape.from_,
    TokenType.GT: _Shape.greater,
    TokenType.JOIN: _Shape.join,
    TokenType.LT: _Shape.less,
    TokenType.ON: _Shape.condition,
    TokenType.SELECT: _Shape.select,
    TokenType.STRAIGHT_JOIN: _Shape.join,
    TokenType.USING: _Shape.condition,
}


def _limit(found: int, most: int, what: str) -> None:
    if found > most:
        raise TooMuch(f"more than {most} {what}")


def on_deep_stack(function: Callable[[], T]) -> T:
    """Call a function on a thread whose stack holds whatever the recursion limit lets in.

    One at a time: both the size of a new thread's stack and the recursion limit are the process's.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            result.set_exception(error)

    with _deep:
        size, limit = threading.stack_size(_STACK), sys.getrecursionlimit()
        try:
            sys.setrecursionlimit(max(limit, _RECURSION))
            thread = threading.Thread(target=run, name="spanline-deep-sql", daemon=True)
            thread.start()
            thread.join()
        finally:
            threading.stack_size(size)
            sys.setrecursionlimit(limit)
    return result.result()
