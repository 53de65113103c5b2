"""docs/profiles.md says what the adapters read."""

from __future__ import annotations

from tests.profiles.tables import PAGE, page


def test_the_tables_are_those_of_the_adapters() -> None:
    assert PAGE.read_text() == page(), "python -m tests.profiles.tables writes them"
