"""Imports only go down: every import of the package, lazy ones too, against the table in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "spanline"
ABOVE_ALL = frozenset(("", "__main__"))
SHARED = "runner.shared"


def layers() -> dict[str, int]:
    """Each folder's layer, and that of each module at top level, as the table says."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    return {
        name.removesuffix(".py").rstrip("/").replace("/", "."): int(layer)
        for layer, names in rows
        for name in re.findall(r"`([^`]+)`", names)
    }


LAYERS = layers()


def module_of(path: Path) -> str:
    """`journal.state`, below the package; the package itself is empty."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    """The folder, or the module at top level, that has a layer."""
    return SHARED if f"{module}.".startswith(f"{SHARED}.") else module.partition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """What a module imports of the package: modules, and what may be a name in one."""
    package = [*path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name[len("spanline.") :] for name in node.names if name.name.startswith("spanline."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            named = [*base, *(node.module or "").split(".")] if node.module else base
            if not node.level:
                if named[0] != "spanline":
                    continue
                named = named[1:]
            yield from (".".join([*named, name.name]) for name in node.names)


def goes_down(module: str, other: str) -> bool:
    here, there = folder_of(module), folder_of(other)
    return here == there or here in ABOVE_ALL or LAYERS[there] < LAYERS[here]


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_the_table_lists_every_folder_and_every_module_at_top_level() -> None:
    assert {folder_of(module_of(path)) for path in MODULES} - ABOVE_ALL == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_imports_only_go_down(path: Path) -> None:
    module = module_of(path)
    assert [other for other in imported(path) if not goes_down(module, other)] == []


def test_an_import_that_goes_up_or_across_is_noticed() -> None:
    assert not goes_down("journal.state", "home.spec")
    assert not goes_down("lineage.names", "failures.classify")
    assert goes_down("home.spec", "journal.state")
    assert goes_down("journal.appender", "runner.shared.writer")


def test_the_runner_imports_nothing_of_the_rest() -> None:
    runner = [path for path in MODULES if folder_of(module_of(path)) in ("runner", SHARED)]
    assert {folder_of(other) for path in runner for other in imported(path)} <= {"runner", SHARED}


def test_a_relative_import_is_resolved() -> None:
    assert f"{SHARED}.writer.Writer" in set(imported(PACKAGE / "runner" / "recorder.py"))
