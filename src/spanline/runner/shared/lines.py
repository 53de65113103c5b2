"""Where in a node's file the error stands that a warehouse reports by the line of the statement it was sent.

That statement is the node's compiled code within dbt's DDL and comments, and the compiled code is the file within what
macros have put there. A line is followed back only as far as it stands there literally, and once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FILE, CODE, STATEMENT = "file", "compiled code", "statement"

_LINE = re.compile(r"(?<!\", )\b[Ll](?:INE|ine):?\s(\d{1,7})\b|\bat \[(\d{1,7}):\d")
"""Not in `File "x.py", line 5`, of a Python traceback."""
_JINJA = re.compile(r"\(([^()\n]{1,500}\.sql)\)\n[\s\S]{0,2000}?\n[ \t]*line (\d{1,7})\n[ \t]*(\S.*)")
"""The file, the line and that line's text, where the file can't be parsed."""


def line_in(message: str) -> int | None:
    """The line that an error says it is in, if it does."""
    found = _LINE.search(message)
    return int(found[1] or found[2]) if found else None


def traced(line: int, statement: str, compiled: str, source: str) -> tuple[int, str]:
    """Where the line of a statement stands: its number, and what it is a line of."""
    in_code = _within(line, statement, compiled) or _alike(line, statement, compiled)
    if in_code is None:
        return line, STATEMENT
    in_file = _in_file(in_code, compiled, source)
    return (in_code, CODE) if in_file is None else (in_file, FILE)


def of_jinja(message: str, root: str) -> tuple[int, str] | None:
    """Where the error stands that Jinja has found in a file below `root`, without its first blank lines."""
    found = _JINJA.search(message)
    if found is None:
        return None
    source = _text(Path(root) / found[1])
    line = int(found[2]) + len(source[: len(source) - len(source.lstrip())].split("\n")) - 1
    lines = _stripped(source)
    return (line, FILE) if line <= len(lines) and lines[line - 1] == found[3].strip() else None


def source_of(node: Any, config: Any) -> str:
    """The text of a node's file, where it is one of SQL and can be read; else nothing."""
    root = Path(config.project_root)
    if node.package_name != config.project_name:
        root = root / config.packages_install_path / node.package_name
    return _text(root / node.original_file_path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.suffix == ".sql" else ""
    except (OSError, ValueError):
        return ""


def _within(line: int, statement: str, compiled: str) -> int | None:
    """The line of the compiled code, where that stands in the statement as it is."""
    code = compiled.strip()
    at = statement.find(code)
    if not code or at < 0 or statement.find(code, at + 1) >= 0:
        return None
    before = compiled.count("\n", 0, compiled.find(code))
    of_code = line - statement.count("\n", 0, at)
    return before + of_code if 1 <= of_code <= code.count("\n") + 1 else None


def _alike(line: int, statement: str, compiled: str) -> int | None:
    """The line of compiled code that the statement has with changes: another batch's, say, of a microbatch model."""
    sent, code = _stripped(statement), _stripped(compiled)
    known, own = set(sent), list(filter(None, code))
    if not 1 <= line <= len(sent) or 2 * sum(text in known for text in own) <= len(own):
        return None
    text = sent[line - 1]
    return code.index(text) + 1 if text and sent.count(text) == code.count(text) == 1 else None


def _in_file(line: int, compiled: str, source: str) -> int | None:
    """The line of the file: the only one that reads so, or one from which on the compiled code is the file's own."""
    code, lines = _stripped(compiled), _stripped(source)
    text = code[line - 1]
    if text and lines.count(text) == code.count(text) == 1:
        return lines.index(text) + 1
    rest, whole = compiled.rstrip().split("\n")[line - 1 :], source.rstrip().split("\n")
    begins = len(whole) - len(rest)
    return begins + 1 if rest and begins >= 0 and whole[begins:] == rest else None


def _stripped(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]
