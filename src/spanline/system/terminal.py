"""All output of Spanline, without characters that control a terminal. dbt's own output does not pass here.

Text goes through `runner.visible`. In JSON the same characters are escaped, which changes no value.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Final

from spanline.runner.shared.visible import HIDDEN, in_line, visible

_IN_JSON: Final = re.compile(f"[\t\n{HIDDEN}]")
_SPACES: Final = "\t\n\r"
"""Characters that may appear between the values of JSON, but not unescaped inside them."""


def say(text: str, *, err: bool = False) -> None:
    """Print one or more lines of text to standard output or error. Raises `OSError` if nobody reads it."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{visible(text)}\n")
    stream.flush()


def say_line(text: str, *, err: bool = False) -> None:
    """Print one line, whatever it contains."""
    say(in_line(text), err=err)


def say_json(encoded: bytes) -> None:
    """Print a line of JSON. Raises `OSError` if nobody reads it."""
    sys.stdout.write(json_line(encoded).decode())
    sys.stdout.flush()


def json_line(encoded: bytes) -> bytes:
    """A line of JSON for printing, with its newline and the same value."""
    text = encoded.decode(errors="replace")
    return f"{_IN_JSON.sub(_escaped, text)}\n".encode()


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SPACES:
        return " "
    pair = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pair[at : at + 4]}" for at in range(0, len(pair), 4))


class Errors(io.TextIOBase):
    """Standard error as a stream, for code that writes there directly: log handlers, exporters."""

    def write(self, text: str) -> int:
        """Write the text, with control characters made visible."""
        sys.stderr.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        sys.stderr.flush()


def show_exceptions() -> None:
    """Print uncaught exceptions like everything else."""

    def show(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        traceback.print_exception(error, file=Errors())

    def show_of_thread(uncaught: threading.ExceptHookArgs) -> None:
        if uncaught.exc_value is not None:
            show(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)

    sys.excepthook, threading.excepthook = show, show_of_thread


def log_to_errors() -> None:
    """Send all logs of this background process to its standard error, which is a file."""
    show_exceptions()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=[logging.StreamHandler(Errors())]
    )
