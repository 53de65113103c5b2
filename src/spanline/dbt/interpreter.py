"""The dbt Core of an interpreter, or the dbt v2 beside it: checked first, so a missing dbt leaves nothing half done."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NoReturn

from spanline.errors import UsageError

OLDEST: Final = (1, 8)
NEWEST: Final = (1, 12)
_V2: Final = re.compile(r"dbt[\w-]* (2\.\S+)")
"""How dbt v2 begins its answer to `--version`: dbt-fusion 2.0.0-preview.196."""
RUNNER: Final = Path(__file__).parents[1] / "runner"
"""The program that runs dbt, observed, or plainly."""

_PROBE: Final = """
import importlib.metadata, importlib.util
print(importlib.metadata.version("dbt-core") if importlib.util.find_spec("dbt.cli") else "")
"""

_ADAPTERS: Final = """
import importlib.metadata, importlib.util, json, pathlib
places = getattr(importlib.util.find_spec("dbt.adapters"), "submodule_search_locations", ())
found = sorted({path.parent.name for place in places for path in pathlib.Path(place).glob("*/connections.py")})
named = {name: list(importlib.metadata.distributions(name=f"dbt-{name}")) for name in found}
print(json.dumps({name: distributions[0].version for name, distributions in named.items() if distributions}))
"""


def find_interpreter(named: str | Path | None) -> str:
    """The interpreter with this path or, as in a shell, this bare name; this process's own if none is named."""
    if named is None:
        return sys.executable
    text = str(named)
    return (None if os.sep in text else shutil.which(text)) or str(Path(text).expanduser().absolute())


def find_program(python: str, named: str | Path | None = None) -> str | None:
    """The dbt v2 that runs the steps: the one that is `named`, else the one beside an interpreter without dbt Core.

    None where dbt Core does. Raises `UsageError` if what is named is no dbt v2.
    """
    if named is not None:
        text = str(named)
        program = (None if os.sep in text else shutil.which(text)) or str(Path(text).expanduser().absolute())
        _version_of_program(program)
        return program
    beside = Path(python).with_name("dbt")
    if not _is_binary(beside) or _version_of(python) is not None:
        return None
    return str(beside)


def _is_binary(path: Path) -> bool:
    """Whether it is a program, but no script, as that of dbt Core is."""
    try:
        with path.open("rb") as file:
            return file.read(2) not in (b"#!", b"")
    except OSError:
        return False


def _version_of_program(program: str) -> str:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise UsageError(f"cannot start {program}: {error.strerror}; set `dbt` to the path of dbt v2") from error
    found = _V2.match(said.stdout)
    if found is None:
        raise UsageError(
            f"{program} is not dbt v2; for dbt Core leave out `dbt`, and set `python` to the interpreter that has it"
        )
    return found[1]


def check(python: str, program: str | None = None) -> str:
    """Return the version of the dbt that runs: dbt v2, if that is the `program`, else the interpreter's dbt Core.

    Raises `UsageError` if there is none, or one that Spanline does not support.
    """
    if program is not None:
        return _version_of_program(program)
    version = (_version_here() if python == sys.executable else None) or _version_of(python)
    if version is None:
        raise UsageError(
            f"dbt Core is not installed for {python}: install it there (`pip install dbt-core` and "
            "your warehouse's adapter), or set `python` to the interpreter that has it"
        )
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= numbers <= NEWEST:
        raise UsageError(
            f"{python} has dbt Core {version}, and Spanline runs {_text(OLDEST)} to {_text(NEWEST)}; "
            "install one of these, or set `python` to an interpreter that has one"
        )
    return version


def _version_here() -> str | None:
    """The version that this interpreter has, if it can be seen without an import or another process.

    Starting an interpreter only to ask takes longer than everything else before dbt starts.
    """
    # Nowhere else: the runner does not see what this process added to its path.
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    package = PathFinder.find_spec("dbt")
    places = package.submodule_search_locations if package is not None else None
    if not places or str(Path(places[0]).parent) not in installed or PathFinder.find_spec("dbt.cli", places) is None:
        return None
    found = importlib.metadata.distributions(name="dbt-core", path=list(installed))
    return next((distribution.version for distribution in found), None)


def adapters(python: str) -> dict[str, str]:
    """The dbt adapters that this interpreter has, by name, with their versions. Raises `UsageError`."""
    found = _said_by(python, _ADAPTERS)
    return dict(json.loads(found)) if found else {}


def _version_of(python: str) -> str | None:
    return _said_by(python, _PROBE)


def _said_by(python: str, program: str) -> str | None:
    """What a program prints in this interpreter; None if it fails or prints nothing. Raises `UsageError`."""
    try:
        # The working directory must not be searched: a folder `dbt` in it would look like the package.
        probe = subprocess.run(
            [python, "-c", f"import sys; sys.path[:] = [p for p in sys.path if p]{program}"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise UsageError(f"cannot start the interpreter {python}: {error.strerror}; set `python` to another") from error
    return probe.stdout.strip() or None if probe.returncode == 0 else None


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def replace_ourselves(python: str, args: Sequence[str], program: str | None = None) -> NoReturn:
    """Become `dbt ARGS`, unobserved, for calls that run nothing, such as `--help`."""
    sys.stdout.flush()
    if program is not None:
        os.execv(program, [program, *args])  # noqa: S606
    os.execv(python, [python, str(RUNNER), "--plain", *args])  # noqa: S606
