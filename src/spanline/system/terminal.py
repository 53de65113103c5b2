"""What Spanline prints, all of it: nothing that would control a terminal is sent there. dbt's own output is dbt's.

Text goes through `runner.visible`; in JSON the same characters are escaped, which changes nothing of what it says.
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
"""Those that may stand between the values of JSON, and as they are nowhere else."""


def say(text: str, *, err: bool = False) -> None:
    """Print text of one line or several, to standard output or error. Raises `OSError` where nobody reads it."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{visible(text)}\n")
    stream.flush()


def say_line(text: str, *, err: bool = False) -> None:
    """Print one line, whatever is in it."""
    say(in_line(text), err=err)


def say_json(encoded: bytes) -> None:
    """Print a line of JSON. Raises `OSError` where nobody reads it."""
    sys.stdout.write(json_line(encoded).decode())
    sys.stdout.flush()


def json_line(encoded: bytes) -> bytes:
    """A line of JSON to be printed, with its newline: the same value."""
    text = encoded.decode(errors="replace")
    return f"{_IN_JSON.sub(_escaped, text)}\n".encode()


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SPACES:
        return " "
    pair = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pair[at : at + 4]}" for at in range(0, len(pair), 4))


class Errors(io.TextIOBase):
    """Standard error as a stream, for what writes there by itself: handlers of logs, exporters."""

    def write(self, text: str) -> int:
        """Write the text, shown."""
        sys.stderr.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Have it seen."""
        sys.stderr.flush()


def show_exceptions() -> None:
    """Have what nobody has caught printed as everything else."""

    def show(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        traceback.print_exception(error, file=Errors())

    def show_of_thread(uncaught: threading.ExceptHookArgs) -> None:
        if uncaught.exc_value is not None:
            show(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)

    sys.excepthook, threading.excepthook = show, show_of_thread


def log_to_errors() -> None:
    """Have all logs of this process, one of ours that nobody watches, on its standard error: a file."""
    show_exceptions()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=[logging.StreamHandler(Errors())]
    )
