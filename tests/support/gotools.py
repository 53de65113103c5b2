"""Servers that are built once with Go, into a cache outside the tree: `SPANLINE_TEST_CACHE`, else one in the home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
CACHE = Path(os.environ.get("SPANLINE_TEST_CACHE") or Path.home() / ".cache" / "spanline-tests")
BUILD_SECONDS = 1500
_UNREACHABLE = re.compile(
    r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|: 4\d\d |: 5\d\d |module lookup disabled"
    r"|toolchain not available"
)
"""What go says where it can't fetch modules, or a newer Go that they ask for."""


def go(place: Path, *arguments: str, **environment: str) -> str:
    """What go prints. The test is skipped where there is no go, or nothing that it could fetch modules from."""
    if GO is None:
        pytest.skip("this server is built with Go, and there is no go command")
    done = subprocess.run(
        [GO, *arguments],
        cwd=place,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    said = done.stderr + done.stdout  # `mod download -json` has its error there
    if done.returncode != 0 and (why := _UNREACHABLE.search(said)):
        pytest.skip(f"go can't fetch what it needs: {said[max(0, why.start() - 200) : why.end() + 200]}")
    assert done.returncode == 0, f"go {' '.join(arguments)}: {said[-2000:]}"
    return done.stdout


def cached(folder: str, name: str, build: Callable[[Path], None]) -> Path:
    """A program from the cache; `build` makes it in the folder that it is given, where it isn't there."""
    place = CACHE / folder / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as made:
            build(Path(made))
            (Path(made) / name).replace(place)
    return place
