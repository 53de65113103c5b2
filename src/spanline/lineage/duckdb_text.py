"""Writes an expression out as DuckDB does, from its tokens: the rule is `ToString` of DuckDB's parsed expressions.

DuckDB 2 writes many things otherwise than 1.x: types as the query spells them, brackets around `-(a)`. What isn't
certain for the version at hand isn't written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from spanline.lineage.duckdb_keywords import KEYWORDS, SINCE_2


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN: Final = re.compile(
    r"(?P<skip>\s+|--[^\n]*|/\*.*?\*/)"
    r"|(?P<string>[eExX]?'(?:''|[^'])*'|(?P<tag>\$\w*\$).*?(?P=tag))"
    r'|(?P<quoted>"(?:""|[^"])*")'
    r"|(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<symbol>!~~\*|::|:=|=>|->>|->|<=>|<->|<=|>=|<>|!=|==|!~~|!~\*|!~|~~~|~~\*|~~|~\*|\|\||<<|>>|\*\*|//"
    r"|&&|@>|<@|\^@|.)",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(r"\d+(\.\d+)?")

# From loose to tight. Operators of one strength go from left to right.
_ARROW, _OR, _AND, _NOT, _IS, _COMPARED, _BETWEEN, _OTHER, _BITS, _SUM, _PRODUCT, _POWER, _ZONE, _UNARY = range(14)
_BINARY: Final = {
    **dict.fromkeys(("=", "==", "<>", "!=", "<", ">", "<=", ">="), _COMPARED),
    **dict.fromkeys(("||", "->>", "&&", "@>", "<@", "^@", "<->"), _OTHER),
    **dict.fromkeys(("&", "|", "<<", ">>"), _BITS),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
    **dict.fromkeys(("^", "**"), _POWER),
    "->": _ARROW,
}
_SPELT: Final = {"==": "=", "<>": "!=", "like": "~~", "ilike": "~~*"}
_SIGNS: Final = frozenset("-+~@")
_TYPES: Final = {
    **{name: name.upper() for name in _words("bigint bit boolean decimal float integer interval smallint time")},
    **dict.fromkeys(("char", "character", "nchar", "varchar"), "VARCHAR"),
    **dict.fromkeys(("dec", "numeric"), "DECIMAL"),
    "int": "INTEGER",
    "geometry": "GEOMETRY",
    "real": "FLOAT",
    "variant": "VARIANT",
    "timestamp": "TIMESTAMP",
}
"""The types that DuckDB's grammar knows by name. Others stay as they are written, since 2.0."""
_SAME_SINCE_1: Final = _words(
    "bigint boolean decimal float int integer interval real smallint time timestamp varchar struct map"
)
_UNQUOTED_TYPES: Final = frozenset(("binary", "double", "enum", "text", "type"))
_UNITS: Final = {
    **dict.fromkeys(_words("day month year week quarter decade century millennium"), "INTEGER"),
    **dict.fromkeys(_words("hour minute microsecond"), "BIGINT"),
    **dict.fromkeys(_words("second millisecond"), ""),
}
"""Of intervals, and what their number is cast to after its decimals are cut, if they are."""
_PLURALS: Final = {"centuries": "century", "millennia": "millennium"}
_EXTRACTED_IN_PLURAL: Final = frozenset(("microsecond", "millisecond"))
_WINDOWED: Final = {"first": "first_value", "last": "last_value"}
_BARE: Final = _words(
    "current_date current_timestamp current_time current_user current_schema session_user user localtime localtimestamp"
)
_NO_NAMES: Final = _words(
    "all and any array as asc between case cast collate columns default desc distinct else end except exists filter "
    "from group having ilike in intersect into is isnull lambda like limit not notnull on or order over qualify select "
    "similar some then try_cast union unpack using values when where window with within"
)
_FRAME: Final = re.compile(r"(unbounded|\d+) (preceding|following)|current row")


class Uncertain(Exception):  # noqa: N818 - it says what the name is
    """Nobody can say here what DuckDB writes."""


class Token(NamedTuple):
    """A word, symbol or literal, and where it begins."""

    kind: str
    text: str
    start: int

    @property
    def word(self) -> str:
        """The word in lower case, or the symbol; empty for a literal and a name in quotation marks."""
        return self.text.lower() if self.kind in ("word", "symbol") else ""


_END: Final = Token("end", "", -1)


class _Text(NamedTuple):
    """An expression, written out."""

    text: str
    joined: tuple[str, tuple[str, ...]] = ("", ())  # the parts of AND or OR, which take in those of their own kind
    is_number: bool = False
    path: str = ""  # of names only: the last of them


def tokens_of(sql: str) -> list[Token]:
    """The tokens of some SQL, without blanks and comments."""
    return [
        Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(sql) if match["skip"] is None
    ]


def written(tokens: Sequence[Token], version: int) -> str:
    """What a major version of DuckDB calls an expression. Raises `Uncertain` where that isn't sure."""
    return _Reader(tokens, version).whole()


class _Reader:
    """Reads an expression from its tokens, and writes it out."""

    def __init__(self, tokens: Sequence[Token], version: int) -> None:
        self._tokens = tokens
        self._version = version
        self._at = 0

    def whole(self) -> str:
        """All the tokens as one expression; a column goes by its name alone."""
        found = self._expression()
        if self._at < len(self._tokens):
            raise Uncertain
        return found.path or found.text

    # --- tokens

    def _peek(self, ahead: int = 0) -> Token:
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else _END

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _takes(self, *words: str) -> bool:
        """Take these words, if they come next."""
        if any(self._peek(ahead).word != word for ahead, word in enumerate(words)):
            return False
        self._at += len(words)
        return True

    def _expect(self, *words: str) -> None:
        if not self._takes(*words):
            raise Uncertain

    def _since_2(self) -> None:
        """What follows is written otherwise by DuckDB 1.x."""
        if self._version < 2:
            raise Uncertain

    def _comma_separated(self, end: str, read: Callable[[], str] | None = None) -> list[str]:
        """What stands up to a closing bracket, which is taken, too."""
        parts: list[str] = []
        while not self._takes(end):
            if parts:
                self._expect(",")
                if self._takes(end):
                    break
            parts.append((read or self._text)())
        return parts

    def _text(self) -> str:
        return self._expression().text

    # --- names

    def _quoted(self, name: str) -> str:
        """A name, in quotation marks where DuckDB writes some."""
        if _PLAIN.fullmatch(name) and name.lower() not in KEYWORDS:
            return name
        if name.lower() in SINCE_2:
            self._since_2()
        return '"' + name.replace('"', '""') + '"'

    def _name(self) -> str:
        token = self._next()
        if token.kind == "quoted":
            return token.text[1:-1].replace('""', '"')
        if token.kind != "word" or token.word in _NO_NAMES:
            raise Uncertain
        return token.text

    # --- operators

    def _expression(self, least: int = 0) -> _Text:
        left = self._prefixed(least)
        while True:
            found = self._followed(left, least)
            if found is None:
                return left
            left = found

    def _prefixed(self, least: int) -> _Text:
        word = self._peek().word
        if word == "not" and least <= _NOT:
            self._at += 1
            if self._peek().word == "exists":
                raise Uncertain
            inner = self._expression(_NOT)
            self._since_2()  # 1.x turns comparisons around
            return _Text(f"(NOT {inner.text})")
        if word in _SIGNS:
            self._at += 1
            inner = self._expression(_UNARY)
            if word == "-" and inner.is_number:
                negative = inner.text.startswith("-")
                return _Text(inner.text[1:] if negative else f"-{inner.text}", is_number=True)
            self._since_2()
            return _Text(f"({word}({inner.text}))")
        return self._postfixed(self._primary())

    def _followed(self, left: _Text, least: int) -> _Text | None:
        """The expression with the operator that follows, if one as tight as the least does."""
        word = self._peek().word
        special = _OPERATORS.get(self._peek(1).word if word == "not" else word)
        if special is not None:
            strength, read = special
            return read(self, left) if least <= strength else None
        strength = _BINARY.get(word, -1)
        if strength < max(least, 0):
            return None
        self._at += 1
        if self._peek().word in ("any", "all", "some"):
            raise Uncertain
        begin = self._at
        right = self._expression(strength + 1)
        if word == "->" and any(token.word == "->>" for token in self._tokens[begin : self._at]):
            raise Uncertain  # their order isn't certain
        return _Text(f"({left.text} {_SPELT.get(word, word)} {right.text})")

    def _and(self, left: _Text) -> _Text:
        return self._joined(left, "AND", _AND)

    def _or(self, left: _Text) -> _Text:
        return self._joined(left, "OR", _OR)

    def _joined(self, left: _Text, word: str, strength: int) -> _Text:
        self._at += 1
        parts: list[str] = []
        for each in (left, self._expression(strength + 1)):
            parts.extend(each.joined[1] if each.joined[0] == word else (each.text,))
        return _Text(f"({f' {word} '.join(parts)})", joined=(word, tuple(parts)))

    def _is(self, left: _Text) -> _Text:
        word = self._next().word
        negated = word == "notnull" or (word != "isnull" and (word == "not" or self._takes("not")))
        nothing = " NOT" if negated else ""
        if word in ("isnull", "notnull") or self._takes("null"):
            return _Text(f"({left.text} IS{nothing} NULL)")
        if self._takes("unknown"):
            return _Text(f"({left.text} IS{nothing} NULL)")
        if self._takes("distinct", "from"):
            return _Text(f"({left.text} IS{nothing} DISTINCT FROM {self._expression(_COMPARED + 1).text})")
        truth = self._next().word
        if truth not in ("true", "false"):
            raise Uncertain
        self._since_2()
        return _Text(f"(CAST({left.text} AS BOOLEAN) IS {'' if negated else 'NOT '}DISTINCT FROM {truth})")

    def _compared(self, left: _Text) -> _Text:
        """LIKE, IN, BETWEEN and their like."""
        negated = self._takes("not")
        word = self._next().word
        if word == "between":
            low = self._expression(_BETWEEN + 1).text
            self._expect("and")
            text = f"({left.text} BETWEEN {low} AND {self._expression(_BETWEEN + 1).text})"
        elif word == "in":
            text = self._in(left)
        elif word == "similar":
            self._expect("to")
            text = f"regexp_full_match({left.text}, {self._expression(_BETWEEN + 1).text})"
        else:
            operator = _SPELT.get(word, "~~~" if word == "glob" else word)
            pattern = self._expression(_BETWEEN + 1).text
            if self._takes("escape"):
                return self._escaped(left, operator, pattern, negated=negated)
            text = f"({left.text} {operator} {pattern})"
            if negated and operator != "~~~":
                return _Text(f"({left.text} !{operator} {pattern})")
        if negated and word == "in":
            self._since_2()
        return _Text(f"(NOT {text})" if negated else text)

    def _escaped(self, left: _Text, operator: str, pattern: str, *, negated: bool) -> _Text:
        self._since_2()
        function = {"~~": "like_escape", "~~*": "ilike_escape"}.get(operator)
        if function is None:
            raise Uncertain
        text = f"{function}({left.text}, {pattern}, {self._expression(_BETWEEN + 1).text})"
        return _Text(f"(NOT {text})" if negated else text)

    def _in(self, left: _Text) -> str:
        if not self._takes("("):
            return f"contains({self._expression(_BETWEEN + 1).text}, {left.text})"
        if self._peek().word in ("select", "with", "from", "values"):
            raise Uncertain
        return f"({left.text} IN ({', '.join(self._comma_separated(')'))}))"

    def _matched(self, left: _Text) -> _Text:
        """`~`, whose function a setting of DuckDB's chooses."""
        raise Uncertain

    def _in_zone(self, left: _Text) -> _Text:
        self._expect("at", "time", "zone")
        self._since_2()
        return _Text(f"timezone({self._expression(_ZONE + 1).text}, {left.text})")

    def _postfixed(self, left: _Text) -> _Text:
        while True:
            if self._takes("::"):
                left = _Text(f"CAST({left.text} AS {self._type()})")
            elif self._takes("["):
                left = _Text(f"{left.text}[{self._subscript()}]")
            elif self._takes("."):
                left = self._field(left)
            elif self._takes("collate"):
                names = [self._name()]
                while self._takes("."):
                    names += [self._name()]
                left = _Text(f"{left.text} COLLATE {self._quoted('.'.join(names))}")
            elif self._takes("export_state"):
                left = _Text(f"{left.text} EXPORT_STATE")
            else:
                return left

    def _subscript(self) -> str:
        text = ""
        while not self._takes("]"):
            text += ":" if self._takes(":") else self._text()
        return text

    def _field(self, left: _Text) -> _Text:
        """A field of what isn't a path of names; or a function that is called on it."""
        name = self._name()
        if self._takes("("):
            arguments = [left.text, *self._comma_separated(")")]
            return _Text(f"{self._quoted(name.lower())}({', '.join(arguments)})")
        return _Text(f"({left.text}).{self._quoted(name)}")

    # --- what has no operators

    def _primary(self) -> _Text:
        token = self._peek()
        if token.kind == "string":
            return self._string()
        if token.kind == "number":
            self._at += 1
            if not _NUMBER.fullmatch(token.text):
                self._since_2()
            if "__" in token.text:
                raise Uncertain
            if self._peek().kind in ("word", "number") and self._peek().start == token.start + len(token.text):
                raise Uncertain  # 0xFF
            return _Text(token.text, is_number=True)
        if token.kind == "quoted":
            return self._path()
        special = _SPECIAL.get(token.word)
        if special is not None:
            return special(self)
        return self._word()

    def _string(self) -> _Text:
        text = self._next().text
        if text[0] == "$":
            tag = text[: text.index("$", 1) + 1]
            return _Text("'" + text[len(tag) : -len(tag)].replace("'", "''") + "'")
        if text[0] != "'" and (text[0] not in "eE" or "\\" in text):
            raise Uncertain
        return _Text(text if text[0] == "'" else text[1:])

    def _word(self) -> _Text:
        word, following = self._peek().word, self._peek(1)
        if word in _BARE and following.word != "(":
            return _Text(self._next().text)
        if following.kind == "string" and word not in _NO_NAMES and following.text[0] == "'":
            type_ = self._type()  # date '2020-01-01'
            return _Text(f"CAST({self._string().text} AS {type_})")
        return self._path()

    def _path(self) -> _Text:
        """A name of several parts; or a call of a function, after whose name a bracket opens."""
        names = [self._name()]
        while self._peek().word == "." and (self._peek(1).kind in ("word", "quoted")):
            self._at += 1
            names.append(self._name())
        if self._takes("("):
            return self._call(names)
        if self._peek().word == ".":
            raise Uncertain
        return _Text(".".join(map(self._quoted, names)), path=names[-1])

    def _bracket(self) -> _Text:
        self._expect("(")
        if self._peek().word in ("select", "with", "from", "values", "pivot"):
            raise Uncertain
        inner = self._expression()
        if self._takes(")"):
            if inner.path and self._peek().word == ".":
                self._at += 1
                return self._field(inner)
            return inner
        self._expect(",")
        self._since_2()
        return _Text(f'"row"({", ".join([inner.text, *self._comma_separated(")")])})')

    def _array(self) -> _Text:
        self._expect("array")
        if not self._takes("["):
            raise Uncertain
        return _Text(f"(ARRAY[{', '.join(self._comma_separated(']'))}])")

    def _members(self) -> _Text:
        """`[a, b]`, or `[f(x) for x in l]`."""
        self._since_2()
        self._expect("[")
        if self._takes("]"):
            return _Text("list_value()")
        first = self._text()
        if self._takes("for"):
            name = self._quoted(self._name())
            self._expect("in")
            over = self._text()
            self._expect("]")
            return _Text(f"list_apply({over}, (lambda {name}: {first}))")
        rest: list[str] = []
        if not self._takes("]"):
            self._expect(",")
            rest = self._comma_separated("]")
        return _Text(f"list_value({', '.join([first, *rest])})")

    def _struct(self) -> _Text:
        self._since_2()
        self._expect("{")
        return _Text(f"struct_pack({', '.join(self._comma_separated('}', self._member))})")

    def _member(self) -> str:
        token = self._peek()
        name = self._string().text[1:-1].replace("''", "'") if token.kind == "string" else self._name()
        self._expect(":")
        return f"{self._quoted(name)} := {self._text()}"

    def _map(self) -> _Text:
        if self._peek(1).word != "{":
            return self._path()
        self._since_2()
        self._at += 2
        keys: list[str] = []

        def member() -> str:
            keys.append(self._text())
            self._expect(":")
            return self._text()

        values = self._comma_separated("}", member)
        return _Text(f'"map"(list_value({", ".join(keys)}), list_value({", ".join(values)}))')

    def _constant(self) -> _Text:
        word = self._next().word
        if word == "null":
            return _Text("NULL")
        self._since_2()
        return _Text(word)

    def _case(self) -> _Text:
        self._expect("case")
        operand = None if self._peek().word == "when" else self._text()
        text = ""
        while self._takes("when"):
            condition = self._text()
            self._expect("then")
            if operand is not None:
                condition = f"({operand} = {condition})"
            text += f" WHEN ({condition}) THEN ({self._text()})"
        default = self._text() if self._takes("else") else "NULL"
        self._expect("end")
        return _Text(f"CASE {text} ELSE {default} END")

    def _cast(self) -> _Text:
        word = self._next().word.upper()
        self._expect("(")
        inner = self._text()
        self._expect("as")
        type_ = self._type()
        self._expect(")")
        return _Text(f"{word}({inner} AS {type_})")

    def _interval(self) -> _Text:
        self._expect("interval")
        number = self._peek()
        if number.kind in ("string", "number") or number.word == "(":
            value = self._primary().text
        else:
            raise Uncertain
        written = self._peek().word
        unit = _PLURALS.get(written, written if written in _UNITS else written.removesuffix("s"))
        if unit not in _UNITS:
            if number.kind == "string":
                return _Text(f"CAST({value} AS INTERVAL)")
            raise Uncertain
        self._at += 1
        whole = _UNITS[unit]
        cast = f"CAST(trunc(CAST({value} AS DOUBLE)) AS {whole})" if whole else f"CAST({value} AS DOUBLE)"
        plural = {single: many for many, single in _PLURALS.items()}.get(unit, f"{unit}s")
        return _Text(f"to_{plural}({cast})")

    def _lambda(self) -> _Text:
        self._expect("lambda")
        names = [self._quoted(self._name())]
        while self._takes(","):
            names.append(self._quoted(self._name()))
        self._expect(":")
        return _Text(f"(lambda {', '.join(names)}: {self._text()})")

    # --- functions

    def _call(self, names: list[str]) -> _Text:
        """A call, after its opening bracket."""
        word = names[-1].lower()
        reader = _ODD_CALLS.get(word) if len(names) == 1 else None
        if reader is not None:
            return reader(self)
        if word == "row":
            self._since_2()
        path = "".join(f"{self._quoted(name)}." for name in names[:-1])
        function = path + self._quoted(word)
        if len(names) > 1:
            self._since_2()
        arguments = "DISTINCT " if self._takes("distinct") else ""
        self._takes("all")
        if self._takes("*", ")"):
            return self._windowed(function, word, "")
        parts = self._arguments()
        inside = arguments + ", ".join(parts)
        if self._takes("order", "by"):
            inside += f" ORDER BY {self._order()}"
        if self._takes("ignore", "nulls"):
            inside += " IGNORE NULLS"
        self._expect(")")
        if self._takes("within", "group"):
            if word not in ("percentile_cont", "percentile_disc"):
                raise Uncertain
            self._expect("(", "order", "by")
            inside += f" ORDER BY {self._order()}"
            self._expect(")")
            function = word.replace("percentile", "quantile")
        return self._windowed(function, word, inside)

    def _arguments(self) -> list[str]:
        parts: list[str] = []
        while self._peek().word not in (")", "order", "ignore"):
            if parts:
                self._expect(",")
            if self._peek().word in ("select", "from", "with", "*"):
                raise Uncertain
            if self._peek(1).word in (":=", "=>"):
                name = self._quoted(self._name())
                self._at += 1
                parts.append(f"{name} := {self._text()}")
            else:
                parts.append(self._text())
        return parts

    def _order(self) -> str:
        """What is sorted by, up to the end of it."""
        keys = []
        while True:
            key = self._text()
            for words in (("asc",), ("desc",), ("nulls", "first"), ("nulls", "last")):
                if self._takes(*words):
                    key += f" {' '.join(words).upper()}"
            keys.append(key)
            if not self._takes(","):
                return ", ".join(keys)

    def _windowed(self, function: str, word: str, inside: str) -> _Text:
        """A call with its FILTER and OVER, behind which the names of functions have no quotation marks."""
        condition = ""
        if self._takes("filter", "("):
            self._takes("where")
            condition = f" FILTER (WHERE {self._text()})"
            self._expect(")")
        if not self._takes("over"):
            call = "count_star()" if word == "count" and not inside else f"{function}({inside})"
            return _Text(call + condition)
        self._expect("(")
        parts = []
        if self._takes("partition", "by"):
            parts.append(f"PARTITION BY {', '.join(self._listed())}")
        if self._takes("order", "by"):
            parts.append(f"ORDER BY {self._order()}")
        if self._peek().word in ("rows", "groups"):
            parts.append(self._frame())
        self._expect(")")
        name = _WINDOWED.get(word, word)
        return _Text(f"{name}({inside}){condition} OVER ({' '.join(parts)})")

    def _listed(self) -> list[str]:
        keys = [self._text()]
        while self._takes(","):
            keys += [self._text()]
        return keys

    def _frame(self) -> str:
        unit = self._next().word.upper()
        words = []
        while self._peek().word != ")":
            words.append(self._next().text.lower())
        begin, _, end = " ".join(words).removeprefix("between ").partition(" and ")
        end = end or "current row"
        if not (_FRAME.fullmatch(begin) and _FRAME.fullmatch(end)):
            raise Uncertain
        return f"{unit} BETWEEN {begin.upper()} AND {end.upper()}"

    def _coalesced(self) -> _Text:
        return _Text(f"COALESCE({', '.join(self._comma_separated(')'))})")

    def _tried(self) -> _Text:
        return _Text(f"TRY({', '.join(self._comma_separated(')'))})")

    def _extracted(self) -> _Text:
        self._since_2()
        token = self._next()
        part = token.text if token.kind == "string" else f"'{token.text}'"
        unit = _PLURALS.get(token.word, token.word.removesuffix("s"))
        if unit in _UNITS:
            part = f"'{unit.upper()}{'S' if unit in _EXTRACTED_IN_PLURAL else ''}'"
        self._expect("from")
        inner = self._text()
        self._expect(")")
        return _Text(f"date_part({part}, {inner})")

    def _part_of_string(self) -> _Text:
        """`substring(s from 1 for 2)`, or with commas."""
        self._since_2()
        parts = [self._text()]
        if self._peek().word == "for":
            parts.append("1")
        parts += [self._text() for word in ("from", "for") if self._takes(word) or self._takes(",")]
        self._expect(")")
        return _Text(f'"substring"({", ".join(parts)})')

    def _position(self) -> _Text:
        self._since_2()
        part = self._expression(_OTHER).text
        self._expect("in")
        whole = self._text()
        self._expect(")")
        return _Text(f'"position"({whole}, {part})')

    def _trimmed(self) -> _Text:
        self._since_2()
        function = '"trim"'
        for word, name in (("both", '"trim"'), ("leading", "ltrim"), ("trailing", "rtrim")):
            if self._takes(word):
                function = name
        characters = [] if self._takes("from") else [self._text()]
        if characters and self._takes("from"):
            parts = [self._text(), *characters]
        elif characters:
            parts = [*characters, *([self._text()] if self._takes(",") else [])]
        else:
            parts = [self._text()]
        self._expect(")")
        return _Text(f"{function}({', '.join(parts)})")

    def _uncertain(self) -> _Text:
        raise Uncertain

    def _grouped(self) -> _Text:
        return _Text(f"GROUPING({', '.join(self._comma_separated(')'))})")

    def _if(self) -> _Text:
        self._since_2()
        return _Text(f'"if"({", ".join(self._comma_separated(")"))})')

    # --- types

    def _type(self) -> str:
        token = self._peek()
        if token.word == "tuple":
            raise Uncertain
        written = self._name()
        if self._peek().word == ".":
            raise Uncertain
        word = token.word
        if word not in _SAME_SINCE_1:
            self._since_2()
        if word == "double" and self._takes("precision"):
            text = "DOUBLE"
        elif word in ("struct", "row", "union"):
            self._expect("(")
            fields = ", ".join(self._comma_separated(")", lambda: f"{self._quoted(self._name())} {self._type()}"))
            text = f"{'UNION' if word == 'union' else 'STRUCT'}({fields})"
        elif word == "map":
            self._expect("(")
            text = f"MAP({', '.join(self._comma_separated(')', self._type))})"
        else:
            text = _TYPES.get(word) or (written if word in _UNQUOTED_TYPES else self._quoted(written))
            if word in ("character", "char", "nchar"):
                self._takes("varying")
            text = self._modified(word, text)
        while self._takes("["):
            size = self._next().text if self._peek().kind == "number" else ""
            self._expect("]")
            text += f"[{size}]"
        return text

    def _modified(self, word: str, text: str) -> str:
        """A type with what stands behind its name."""
        if self._takes("("):
            self._since_2()
            modifiers = ", ".join(self._comma_separated(")"))
            if not modifiers or word in ("time", "timestamp", "interval"):
                raise Uncertain
            if word != "bit":
                text += f"({modifiers})"
        elif text == "DECIMAL":
            self._since_2()
        if word in ("time", "timestamp"):
            if self._takes("with", "time", "zone"):
                return f"{text} WITH TIME ZONE"
            self._takes("without", "time", "zone")
        return text


_SPECIAL: Final[dict[str, Callable[[_Reader], _Text]]] = {
    "(": _Reader._bracket,
    "[": _Reader._members,
    "{": _Reader._struct,
    "array": _Reader._array,
    "case": _Reader._case,
    "cast": _Reader._cast,
    "false": _Reader._constant,
    "interval": _Reader._interval,
    "lambda": _Reader._lambda,
    "map": _Reader._map,
    "null": _Reader._constant,
    "true": _Reader._constant,
    "try_cast": _Reader._cast,
}
_ODD_CALLS: Final[dict[str, Callable[[_Reader], _Text]]] = {
    "coalesce": _Reader._coalesced,
    "columns": _Reader._uncertain,
    "extract": _Reader._extracted,
    "grouping": _Reader._grouped,
    "grouping_id": _Reader._uncertain,
    "if": _Reader._if,
    "ifnull": _Reader._coalesced,
    "overlay": _Reader._uncertain,
    "position": _Reader._position,
    "substring": _Reader._part_of_string,
    "trim": _Reader._trimmed,
    "try": _Reader._tried,
}
_OPERATORS: Final[dict[str, tuple[int, Callable[[_Reader, _Text], _Text]]]] = {
    "and": (_AND, _Reader._and),
    "or": (_OR, _Reader._or),
    **dict.fromkeys(("is", "isnull", "notnull", "null"), (_IS, _Reader._is)),
    **dict.fromkeys(
        ("like", "ilike", "~~", "!~~", "~~*", "!~~*", "glob", "~~~", "in", "between", "similar"),
        (_BETWEEN, _Reader._compared),
    ),
    **dict.fromkeys(("~", "!~", "~*", "!~*"), (_OTHER, _Reader._matched)),
    "at": (_ZONE, _Reader._in_zone),
}
"""Those that take more than an expression on their right, some with NOT before them."""
