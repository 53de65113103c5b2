"""How secrets are masked in records: those that are known, in every form, and those that a text or a key shows.

The rules are in docs/security.md.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Callable

from .in_text import MASK, masked_at, secrets_in, stems
from .places import ARGUMENTS, DATA, PLACES, TEXT, Place
from .secrets import is_secret_key, of_yaml, yaml_arguments
from .telling import stands_apart

_MOST_LEARNED = 50
_MOST_BLANKS = 16
"""How many may stand around a secret that is a whole value."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{7,}={0,2}")
Plan = tuple[tuple[str, Callable[[Any], Any]], ...]
"""Names of fields, and what masks each."""
_UNESCAPED = re.compile(r"[A-Za-z0-9]{3,}")


class Redactor:
    """Knows the secrets of this process, and replaces them in records. Safe to use from any thread."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._whole: frozenset[str] = frozenset()
        self._apart: tuple[tuple[str, str], ...] = ()
        self._encoded: tuple[str, ...] = ()
        self._needles: tuple[str, ...] = ()
        self._longest = 0
        self._learned = 0
        self._stems = stems()
        self._plans = {type_: self._plan(places) for type_, places in PLACES.items()}
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Take these values for secrets from now on."""
        given = {secret.strip() for secret in secrets} - {""}
        # Of a key of several lines a message may show one.
        lines = {line.strip() for secret in given for line in secret.splitlines()}
        cores = {core for secret in filter(stands_apart, given) for core in _in_base64(secret)}
        with self._lock:
            self._whole |= given
            self._longest = max((self._longest, *(len(secret) + _MOST_BLANKS for secret in given)))
            self._search(given | lines, cores)

    def _search(self, secrets: Iterable[str], cores: Iterable[str] = ()) -> None:
        """Look in texts for these secrets from now on, and for these parts of base64. The lock is held."""
        apart = {*(secret for secret, _ in self._apart), *filter(stands_apart, secrets)}
        # The longest first: a secret may contain another.
        self._apart = tuple((secret, _needle(secret)) for secret in sorted(apart, key=len, reverse=True))
        self._encoded = tuple({*self._encoded, *cores})
        self._needles = tuple({*(needle for _, needle in self._apart), *self._encoded})

    def record(self, type_: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of a record of this type, without secrets: see `places`."""
        plan = self._plans.get(type_)
        if plan is None:
            return {name: self.data(value) for name, value in fields.items()}
        return self._fields(plan, fields)

    def _plan(self, places: Mapping[str, Place]) -> Plan:
        """How the fields at these places are masked, looked up once: every record of dbt's threads comes by."""
        by_place: Mapping[str, Callable[[Any], Any]] = {DATA: self.data, TEXT: self._named, ARGUMENTS: self._arguments}
        return tuple(
            (name, by_place[place] if isinstance(place, str) else partial(self._within, self._plan(place)))
            for name, place in places.items()
        )

    def _fields(self, plan: Plan, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        masked = None
        for name, clean in plan:
            value = fields.get(name)
            if value:
                without = clean(value)
                if without is not value:
                    masked = masked or dict(fields)
                    masked[name] = without
        return masked or fields

    def _within(self, plan: Plan, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._within(plan, inner) for inner in value]
        return self._fields(plan, value) if isinstance(value, dict) else self.data(value)

    def text(self, text: str) -> str:
        """The text without known secrets that stand apart, and without what it shows itself to be one."""
        for needle in self._needles:
            if needle in text:
                text = self._without_known(text)
                break
        lower = text.lower()
        for stem in self._stems:
            if stem in lower:
                return self._without_shown(text)
        return text

    def _without_shown(self, text: str) -> str:
        shown = secrets_in(text)
        if not shown:
            return text
        self._learn(text[start:end] for start, end in shown)
        return self._without_known(masked_at(text, shown))

    def data(self, value: Any, telling: bool = False) -> Any:
        """What people wrote, without secrets: nor those that only make up a whole value, or stand under a telling key.

        `telling` says that this stands under one.
        """
        if isinstance(value, str):
            is_whole = telling or (len(value) <= self._longest and value.strip() in self._whole)
            return MASK if value and is_whole else self.text(value)
        if isinstance(value, dict):
            return {
                self._without_known(name) if isinstance(name, str) else name: self.data(
                    inner, telling=is_secret_key(name, above=telling)
                )
                for name, inner in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.data(inner, telling) for inner in value]
        if value is None or isinstance(value, bool):
            return value
        said = str(value)  # as the journal's encoder writes what JSON has no form for
        masked = self.data(said, telling)
        return value if masked == said else masked

    def _named(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._named(inner) for name, inner in value.items()}
        return self.text(value) if isinstance(value, str) else value

    def _arguments(self, args: Any) -> Any:
        if any(isinstance(arg, (list, tuple)) for arg in args):
            return [self._arguments(command) for command in args]
        in_yaml = {position: before + self._yaml(text) for position, before, text in yaml_arguments(args)}
        return [in_yaml[at] if at in in_yaml else self.text(arg) for at, arg in enumerate(args)]

    def _yaml(self, text: str) -> str:
        values = of_yaml(text)
        masked = self.data(values)
        # Written anew only where it must be: as the user wrote it, it is easier to know again.
        return self.text(text) if masked == values else json.dumps(masked, ensure_ascii=False, default=str)

    def _learn(self, values: Iterable[str]) -> None:
        """Know from now on, up to a number, what a text has shown: the error that follows may quote it in part."""
        with self._lock:
            new = {*filter(stands_apart, values)}.difference(secret for secret, _ in self._apart)
            if new and self._learned + len(new) <= _MOST_LEARNED:
                self._learned += len(new)
                self._search(new)

    def _without_known(self, text: str) -> str:
        for secret, needle in self._apart:
            if needle in text:
                text = in_any_form(secret).sub(MASK, text)
        if any(core in text for core in self._encoded):
            return _BASE64.sub(self._without_encoded, text)
        return text

    def _without_encoded(self, run: re.Match[str]) -> str:
        return MASK if any(core in run[0] for core in self._encoded) else run[0]


def _needle(secret: str) -> str:
    """The longest part of a secret that is the same in every form of it; empty where it has none worth looking for."""
    return max(_UNESCAPED.findall(secret), key=len, default="")


@lru_cache(maxsize=512)
def in_any_form(secret: str) -> re.Pattern[str]:
    """What finds a secret as it is, and quoted for SQL, YAML, Python or JSON (however often), and encoded for a URL."""
    return re.compile("".join(_forms(*run) for run in _RUN.findall(secret)))


_RUN = re.compile(r"(\\*)((.?)\3*)", re.DOTALL)
"""Backslashes, and how often one other character stands behind them."""
_SLASHES = r"\\{0,8}"


def _forms(slashes: str, run: str, character: str) -> str:
    """What may stand for a part of a secret.

    No text can be read as it in two ways, or to search one could take for ever: so backslashes, which may also escape
    what is behind them, are counted together.
    """
    count, more = len(slashes), 8 * len(slashes) + 8
    before = rf"(?:\\{{{count},{more}}}|(?:%5[cC]){{{count}}})" if slashes else ""
    if not run or (character.isascii() and character.isalnum()):
        return before + run
    itself, codes, percent = _QUOTED.get(character, re.escape(character)), _codes(character), _percent(character)
    each = rf"(?:{_SLASHES}(?:{itself})|\\{{1,8}}(?:{codes})|{percent})"
    times = len(run)
    if slashes:
        before = rf"(?:\\{{{count},{more}}}(?:{itself}|{codes})|(?:%5[cC]){{{count}}}{each})"
        times -= 1
    doubled = f"(?:{itself}|{percent}){{0,{len(run)}}}" if character in _DOUBLED else ""
    return f"(?i:{before}{each}{{{times}}}{doubled})"


def _codes(character: str) -> str:
    """What stands behind a backslash for a character: https://yaml.org/spec/1.2.2/#57-escaped-characters has it all."""
    units = character.encode("utf-16-be", "surrogatepass")
    unicode = r"\\{1,8}".join("u" + units[at : at + 2].hex() for at in range(0, len(units), 2))
    return f"{unicode}|x{ord(character):02x}|U{ord(character):08x}|{_LETTERS.get(character, unicode)}"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "replace"))


_DOUBLED = ("'", '"')
_QUOTED = {" ": "[ +]", "\n": r"[ \t\r]*\n[ \t\r]*"}
"""A URL has a plus for a blank; dbt indents what it quotes."""
_LETTERS = dict(zip("\0\a\b\t\n\v\f\r\x1b\x85\xa0\u2028\u2029", "0abtnvfreN_LP"))


def _in_base64(secret: str) -> Iterator[str]:
    """What stands in base64 for a secret that begins at any place of a text, of `user:password` say.

    Three bytes make four characters, so there are three ways; the characters at its ends depend on its neighbours.
    """
    data = secret.encode("utf-8", "replace")
    for before in range(3):
        encoded = b64encode(bytes(before) + data).decode()
        core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield core
        yield core.replace("+", "-").replace("/", "_")
