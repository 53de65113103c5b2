"""What DuckDB calls a column that the SQL gives no alias: the text of its expression, as DuckDB writes it out again.

sqlglot's tree has forgotten how functions and types were written, so the lists of SELECTs are found again here, in the
text. Where the rule isn't certain, there is no name.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final, NamedTuple

from spanline.lineage.duckdb_text import Token, Uncertain, tokens_of, written

_OPENING: Final = frozenset((*"([{", "case"))
_CLOSING: Final = frozenset((*")]}", "end"))
_ENDS_LIST: Final = frozenset(
    (
        "from",
        "where",
        "group",
        "having",
        "window",
        "qualify",
        "order",
        "limit",
        "offset",
        "union",
        "intersect",
        "except",
        "using",
        "sample",
        "into",
        ";",
    )
)


class _Item(NamedTuple):
    """An item of a SELECT's list, and all of that list so far."""

    tokens: Sequence[Token]
    siblings: list[_Item]


class Names:
    """The names of the columns without an alias in one text of SQL, as a major version of DuckDB gives them."""

    def __init__(self, sql: str, version: int) -> None:
        self._sql = sql
        self._version = version
        self._starts: list[int] = []
        self._items: list[_Item | None] = []

    def at(self, position: int, away: int = 0) -> str:
        """The name of the innermost item of a SELECT around a character, or of one so many items behind it."""
        self._read()
        token = bisect.bisect_right(self._starts, position) - 1
        item = self._items[token] if token >= 0 else None
        if item is None:
            return ""
        place = next(place for place, each in enumerate(item.siblings) if each is item) + away if away else 0
        return self._name(item.siblings, place) if away else self._name([item], 0)

    def only(self, place: int) -> str:
        """The name of an item of a SELECT, if there is no other SELECT."""
        self._read()
        lists = {id(item.siblings): item.siblings for item in self._items if item is not None}
        return self._name(next(iter(lists.values())), place) if len(lists) == 1 else ""

    def _name(self, items: Sequence[_Item], place: int) -> str:
        if not 0 <= place < len(items):
            return ""
        try:
            return written(items[place].tokens, self._version)
        except (Uncertain, RecursionError):
            return ""

    def _read(self) -> None:
        if not self._starts:
            tokens = tokens_of(self._sql)
            self._starts = [token.start for token in tokens]
            self._items = _Lists(tokens).found


class _List:
    """The list of a SELECT that is being read."""

    def __init__(self, depth: int, begin: int) -> None:
        self.depth = depth
        self.begin = begin
        self.items: list[_Item] = []


class _Lists:
    """Finds the lists of SELECTs among tokens, and for each token the innermost item that it is in."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.found: list[_Item | None] = [None] * len(tokens)
        self._tokens = tokens
        self._open: list[_List] = []
        self._depth = 0
        for place, token in enumerate(tokens):
            self._read(place, token.word)
        while self._open:
            self._close(len(tokens))

    def _read(self, place: int, word: str) -> None:
        if word == "select":
            following = self._tokens[place + 1].word if place + 1 < len(self._tokens) else ""
            self._open.append(_List(self._depth, place + (2 if following == "distinct" else 1)))
        elif word in _OPENING:
            self._depth += 1
        elif word in _CLOSING:
            self._depth -= 1
            while self._open and self._open[-1].depth > self._depth:
                self._close(place)
        elif self._open and self._open[-1].depth == self._depth:
            if word == ",":
                self._end_item(place)
            elif word in _ENDS_LIST and not _is_in_expression(self._tokens, place):
                self._close(place)

    def _end_item(self, end: int) -> None:
        """End an item: the tokens that no item inside of it has are its own."""
        innermost = self._open[-1]
        item = _Item(self._tokens[innermost.begin : end], innermost.items)
        innermost.items.append(item)
        for place in range(innermost.begin, end):
            self.found[place] = self.found[place] or item
        innermost.begin = end + 1

    def _close(self, end: int) -> None:
        self._end_item(end)
        self._open.pop()


def _is_in_expression(tokens: Sequence[Token], place: int) -> bool:
    """Whether this is the FROM of IS DISTINCT FROM, or the GROUP of WITHIN GROUP."""
    before = [token.word for token in tokens[max(place - 2, 0) : place]]
    if tokens[place].word == "group":
        return before[-1:] == ["within"]
    return tokens[place].word == "from" and before in (["is", "distinct"], ["not", "distinct"])
