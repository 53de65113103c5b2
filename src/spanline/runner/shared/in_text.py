"""What a text itself shows to be a secret: the value behind a telling name, the password in an address.

In SQL (`create secret (type s3, secret '…')`, `identified by '…'`, `with (access_key = '…')`), in JSON, in a header, in
the query of an address, in a connection string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from .secrets import PARAMETER, USERINFO, is_secret_parameter
from .telling import looks_secret, own_names, stands_apart

MASK = "*****"

Span = tuple[int, int]
"""Where a secret begins in a text, and where it ends."""

_OF_NAMES = ("auth", "cred", "key", "pass", "pwd", "secret", "sig", "token")
"""Parts of telling names.

The shortest names (`pat`, `sas`) have none, as they are part of too many words; nor has a connection string, as what is
secret within one has a name of its own.
"""
_OTHERS = ("://", "identified", "bearer ", "basic ")
_BETWEEN = r"""(?:\s{1,64}|(?:\\*["'`\]])?\s{0,64}(?P<by>=>|:=|[:=])\s{0,64})"""
"""What stands between a name, which may be quoted, and its value."""
_CANDIDATE = rf"""[\w.-]{{0,64}}(?![\w.-])(?:=[^\s'"]|{_BETWEEN}(?:\\|"|'|[nebr]'|\$\$))"""
"""What follows such a part, in lower case, where it may be of a name that has a value."""
_LITERAL = r"""(?:
      \\+["'](?P<escaped>(?:(?!\\+["']).){0,8192})
    | [NnEeRrBb]?'(?P<single>(?:[^'\\]|\\.|''){0,8192})
    | "(?P<double>(?:[^"\\]|\\.|""){0,8192})
    | \$\$(?P<dollars>(?:(?!\$\$).){0,8192})
)"""
"""A literal of SQL or JSON, as it is or within another; where it doesn't end, all that follows."""
_FLAGS = re.VERBOSE | re.DOTALL | re.IGNORECASE
_LITERAL_BEHIND = re.compile(_BETWEEN + _LITERAL, _FLAGS)
_BARE_BEHIND = re.compile(r"=(?P<bare>\{[^}\n]*\}|[^\s'\"&;,()\[\]{}<>][^\s'\"&;,)\]}>]*)")
_IDENTIFIED = re.compile(
    rf"identified\s+(?:with\s+\w+\s+)?by\s+(?:values\s+)?(?:{_LITERAL}|(?P<bare>[^\s;,]+))", _FLAGS
)
_HEADER = re.compile(
    r"\b(?:basic\s+(?P<basic>[A-Za-z0-9+/]{8,}=*)(?![\w.-])|bearer\s+(?P<bearer>[\w.~+/-]+=*))", re.IGNORECASE
)
"""Credentials in a header: https://www.rfc-editor.org/rfc/rfc9110#name-authorization"""

_REACH = 64
"""The longest beginning of a name that is looked at."""
_NAME_BEFORE = re.compile(r"[\w.-]*\Z")
_NAME_BEHIND = re.compile(r"[\w.-]*")
_SETTING_BEFORE = re.compile(r"[\w.-]+=[^\s;'\"=]+[\s;]+\Z")
_SETTING_BEHIND = re.compile(r"[\s;]+[\w.-]+=[^\s;'\"=]")
_BEGINS_ENTRY = frozenset("([{,;\n\\\"'`")


def masked_address(text: str) -> str:
    """The text with what `secrets_of_address` finds in it masked where it stands."""

    def masked(found: re.Match[str]) -> str:
        return f"{found['name']}={MASK}" if is_secret_parameter(found["name"]) else found[0]

    return USERINFO.sub(rf"\g<user>:{MASK}", PARAMETER.sub(masked, text))


def masked_at(text: str, spans: Iterable[Span]) -> str:
    """The text with what stands there masked."""
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        pieces += (text[at:start], MASK)
        at = end
    return "".join((*pieces, text[at:]))


@cache
def stems() -> tuple[str, ...]:
    """One of these is in every text, in lower case, that shows a secret. To look for them is a tenth of the work."""
    own = (max(re.split(r"[*?\[\]]", name), key=len) for name in own_names())
    return (*_OF_NAMES, *filter(None, own), *_OTHERS)


def secrets_in(text: str) -> list[Span]:
    """Where secrets stand in a text that itself shows them to be some: in their order, none within another."""
    lower = _lowered(text)
    found = [match.span("value") for match in USERINFO.finditer(text)] if "://" in text else []
    for stem in stems():
        if stem in lower and stem not in _OTHERS:
            found += _under_names(text, lower, stem)
    if "identified" in lower:
        found += map(_value, _IDENTIFIED.finditer(text))
    if "bearer " in lower or "basic " in lower:
        found += (_value(match) for match in _HEADER.finditer(text) if stands_apart(match[match.lastgroup or 0]))
    return _apart(found, text) if found else found


def _lowered(text: str) -> str:
    lower = text.lower()
    # Of a few letters the lower case is longer.
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _apart(spans: Iterable[Span], text: str) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if text[start:end] not in ("", MASK) and (not found or start >= found[-1][1]):
            found.append((start, end))
    return found


def _value(found: re.Match[str]) -> Span:
    return found.span(found.lastgroup or 0)


def _under_names(text: str, lower: str, stem: str) -> Iterator[Span]:
    """Values behind names that hold this stem."""
    for candidate in _candidates(stem).finditer(lower):
        at = candidate.start()
        behind = _NAME_BEHIND.match(text, at).end()  # type: ignore[union-attr]
        span = _literal(text, at, behind) or _bare(text, at, behind)
        if span is not None:
            yield span


@cache
def _candidates(stem: str) -> re.Pattern[str]:
    return re.compile(re.escape(stem) + _CANDIDATE)


def _literal(text: str, at: int, behind: int) -> Span | None:
    found = _LITERAL_BEHIND.match(text, behind)
    if found is None:
        return None
    start, name = _name(text, at, behind)
    span = _value(found)
    if not looks_secret(name) or (name.lower() == "token" and not _is_entry(text, start, found["by"])):
        return None
    is_identifier = found["double"] is not None and (not found["by"] or text[span[1] : span[1] + 2] == '".')
    return None if is_identifier else span


def _name(text: str, at: int, behind: int) -> tuple[int, str]:
    """Where the name begins that goes through this place, and the name."""
    start = _NAME_BEFORE.search(text, max(0, at - _REACH), at).start()  # type: ignore[union-attr]
    return start, text[start:behind].strip(".-")


def _is_entry(text: str, start: int, by: str | None) -> bool:
    """Whether `token` names a value here: parsers speak of theirs as `unexpected token 'from'`."""
    before = text[max(0, start - _REACH) : start].rstrip(" \t")
    return by not in (None, ":") or not before or before[-1] in _BEGINS_ENTRY


def _bare(text: str, at: int, behind: int) -> Span | None:
    """A value without quotes: a parameter of an address, an option's, or one of several settings in a row.

    Not what SQL compares: `one.token=other.token`.
    """
    found = _BARE_BEHIND.match(text, behind)
    if found is None:
        return None
    start, name = _name(text, at, behind)
    is_setting = (
        text[max(0, start - 1) : start] in ("?", "&", ";")
        or text[start] == "-"
        or _SETTING_BEFORE.search(text, max(0, start - 2 * _REACH), start) is not None
        or _SETTING_BEHIND.match(text, found.end()) is not None
    )
    return _value(found) if is_setting and is_secret_parameter(name) else None
