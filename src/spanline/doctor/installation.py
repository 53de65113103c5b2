"""What is installed: Spanline, the libraries that it stands on, its extras."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from spanline._version import __version__
from spanline.doctor.finding import OFF, OK, Finding

_LIBRARIES: Final = ("openlineage-python", "opentelemetry-sdk", "sqlglot", "msgspec")
_OF_EXTRA: Final = re.compile(r"^([\w.-]+).*;.*extra == ['\"]([\w.-]+)['\"]")
"""A requirement of an extra: https://packaging.python.org/en/latest/specifications/dependency-specifiers/."""
_FOR_DEVELOPERS: Final = "dev"


def installation() -> Iterator[Finding]:
    """Versions, and which extras of Spanline are installed."""
    yield Finding(OK, "spanline", f"{__version__}, Python {platform.python_version()} ({sys.executable})")
    yield Finding(OK, "libraries", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES))
    missing = _missing_of_extras()
    present = sorted(extra for extra, names in missing.items() if not names)
    absent = sorted(extra for extra, names in missing.items() if names)
    if present:
        yield Finding(OK, "extras", ", ".join(present))
    if absent:
        advice = f"pip install 'spanline[{absent[0]}]' adds one"
        yield Finding(OFF, "extras", f"not installed: {', '.join(absent)}", advice)


def _missing_of_extras() -> dict[str, set[str]]:
    """For each extra, the distributions that are not installed."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for requirement in importlib.metadata.requires("spanline") or ():
        match = _OF_EXTRA.match(requirement)
        if match is None or match[2] == _FOR_DEVELOPERS:
            continue
        missing = found[match[2]]
        if not _is_installed(match[1]):
            missing.add(match[1])
    return found


def _is_installed(name: str) -> bool:
    return next(iter(importlib.metadata.distributions(name=name)), None) is not None
