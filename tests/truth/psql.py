"""Scripts for psql: the statements in them, without what is psql's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_PIECE: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/"
    r"|(?P<string>[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|\"(?:\"\"|[^\"])*\"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    r"|(?P<own>^\\[^\n]*)|(?P<inline>\\g\w*[^\n]*)|(?P<end>;)|(?P<open>\()|(?P<close>\))|.",
    re.DOTALL | re.MULTILINE,
)
_FROM_STDIN: Final = re.compile(r"\s*copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_DATA: Final = re.compile(r".*?^\\\.$", re.DOTALL | re.MULTILINE)
_ATOMIC: Final = re.compile(r"\bbegin\s+atomic\b", re.IGNORECASE)


def statements(text: str) -> Iterator[str]:
    """The statements of a script, in order."""
    at, depth, words = 0, 0, ""
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            return
        at = piece.end()
        depth += (piece["open"] is not None) - (piece["close"] is not None)
        if piece["own"] is not None:
            continue
        ends = piece["end"] is not None and depth <= 0
        if ends and _ATOMIC.search(words) and not words.rstrip().lower().endswith("end"):
            ends = False
        if not ends and piece["inline"] is None:
            words += piece[0]
            continue
        if words.strip():
            yield words.strip()
        if _FROM_STDIN.match(words):
            data = _DATA.match(text, at)
            at = data.end() if data is not None else at
        depth, words = 0, ""
