"""Imports only go down: every import of the package, lazy ones too, against the table in docs/architecture.md."""

from __future__ import annotations

import ast
import functools
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


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """What a module imports of the package: modules, and what may be a name in one."""
    package = [*path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(parsed(path)):
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


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_of_others(path: Path) -> Iterator[str]:
    """Private names of our modules that a file imports, takes from an imported module, or has replaced."""
    tree = parsed(path)
    ours: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "spanline":
            ours |= {name.asname or name.name for name in node.names}
            yield from (name.name for name in node.names if private(name.name) and name.name != "_version")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ours and private(node.attr):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _REPLACES:
            places = [place.value for place in node.args if isinstance(place, ast.Constant)]
            found = [place.rpartition(".")[2] for place in places if isinstance(place, str)]
            if any(isinstance(place, ast.Name) and place.id in ours for place in node.args):
                yield from filter(private, found)
            yield from (place for place in places if str(place).startswith("spanline.") and private(found[0]))


_REPLACES = frozenset(("setattr", "object"))
ALL_FILES = sorted([*MODULES, *(ROOT / "tests").rglob("*.py")])


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_uses_a_private_name_of_another(path: Path) -> None:
    assert list(private_names_of_others(path)) == []


def test_a_private_name_of_another_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(
        "from spanline.journal import reader\nfrom spanline.journal.reader import _CHUNK\n"
        "reader._CHUNK\npatch.setattr(reader, '_CHUNK', 1)\npatch.setattr('spanline.journal.reader._CHUNK', 1)\n"
    )
    assert len(list(private_names_of_others(file))) == 4
