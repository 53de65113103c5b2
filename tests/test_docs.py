"""The documentation keeps up with the code."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest

from spanline import events

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("event", typing.get_args(events.EventType), ids=lambda event: event.__name__)
def test_every_event_and_each_of_its_fields_is_documented(event: type[events.Event]) -> None:
    row = re.search(rf"^\| `{event.__struct_config__.tag}` .*$", (ROOT / "docs" / "journal.md").read_text(), re.M)
    assert row is not None
    for field in set(event.__struct_fields__) - set(events.Event.__struct_fields__):
        assert f"`{field}`" in row.group()


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_command_is_documented() -> None:
    from spanline.cli.main import cli

    text = (ROOT / "docs" / "command-line.md").read_text()
    for name in cli.commands:
        assert f"spanline {name}" in text or f"[OPTIONS] {name}" in text


def test_no_document_names_a_path_of_a_machine() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert not re.search(r"/(?:root|home|work|Users)/\w", document.read_text()), document.name
