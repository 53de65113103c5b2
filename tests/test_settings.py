"""Variables of the environment: each stands once in the code, and in docs/configuration.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanline.home.storage import Storage
from spanline.runner.shared import settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "spanline"
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()
VARIABLE = re.compile(r"(?:SPANLINE|DBT|OPENLINEAGE|OTEL|AIRFLOW|XDG)_[A-Z_]*|TRACEPARENT|TRACESTATE|BAGGAGE")
IN_SETTINGS = PACKAGE / "runner" / "shared" / "settings.py"
NO_VARIABLES = frozenset(("DBT_META",))
"""A source of OpenLineage's tags."""


def named() -> Iterator[str]:
    """Every name in the module of settings; prefixes as they are."""
    for value in vars(settings).values():
        texts = value if isinstance(value, tuple) else (value,)
        yield from (text for text in texts if isinstance(text, str) and VARIABLE.fullmatch(text))
    for signal in ("traces", "metrics", "logs"):
        yield settings.exporter_variable(signal)
        yield from (settings.otlp_variable(signal, what) for what in ("ENDPOINT", "PROTOCOL"))
    yield from (f"{settings.ARTIFACTS_PREFIX}{field.upper()}" for field in Storage.__struct_fields__)


def literals(path: Path) -> Iterator[str]:
    """The texts in a module's code that look like variables, but not those in docstrings or messages."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
            yield node.value


@pytest.mark.parametrize("name", sorted(set(named())))
def test_every_variable_is_documented(name: str) -> None:
    whole = rf"{name}\w*…" if name.endswith("_") else rf"{name}…?"
    assert re.search(rf"`{whole}`", DOCUMENT) or (name.endswith("_") and f"`{name}" in DOCUMENT)


def test_no_variable_is_documented_that_is_not_read() -> None:
    documented = {name.rstrip("…") for name in re.findall(r"`([A-Z][A-Z_]+…?)`", DOCUMENT)}
    assert documented <= set(named())


@pytest.mark.parametrize("path", sorted(set(PACKAGE.rglob("*.py")) - {IN_SETTINGS}), ids=lambda path: path.stem)
def test_no_other_module_spells_a_variable(path: Path) -> None:
    assert set(literals(path)) <= NO_VARIABLES
