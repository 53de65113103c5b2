"""Text for people: characters that would control a terminal, or that nobody sees, are shown instead of sent.

What a model is called, a warehouse says or a backend answers may hold a sequence that clears the screen, writes over
what stands there, sets a title, or has the terminal type (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html); or
marks that change the order in which a line is read (https://www.unicode.org/reports/tr9/).
"""

from __future__ import annotations

import re

HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # the controls of C0 except tab and newline, DEL, and those of C1
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # of no width, and of direction
    "\ud800-\udfff"  # surrogates, which no encoding has
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # what begins and ends shorthand and musical beams
    "\U000e0000-\U000e007f"  # tags
)
"""What is shown, as the inside of a regular expression's class."""
_ANYWHERE = re.compile(f"[{HIDDEN}]")
_WITHIN_A_LINE = re.compile(f"[\n{HIDDEN}]")


def visible(text: str) -> str:
    """The same lines, with what is hidden in them shown as a Python literal has it."""
    return _ANYWHERE.sub(_shown, text.replace("\r\n", "\n"))


def in_line(text: str) -> str:
    """The same as one line, for what a layout puts into one: a newline in it is shown as well."""
    return _WITHIN_A_LINE.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
