"""How much memory a process takes at most."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.project import DEADLINE

_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def run_measured(words: Sequence[str], output: Path, environment: Mapping[str, str]) -> tuple[int, float]:
    """Run a command, its output and errors into a file, and return its exit code and its greatest memory, in MiB.

    A small process starts it: one that is started counts the memory of its parent until it executes, and a worker of
    pytest's may have half a gigabyte.
    """
    with open(output, "wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *words], env=environment, stdout=subprocess.PIPE, stderr=file,
            timeout=DEADLINE, check=True,
        )  # fmt: skip
    code, kibibytes = done.stdout.split()
    return int(code), int(kibibytes) / 1024
