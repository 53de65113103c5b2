"""Artifacts are kept whole, and of the invocation that wrote them alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spanline.artifacts import collect


def _artifact(invocation_id: str, nodes: int) -> str:
    return json.dumps({"metadata": {"invocation_id": invocation_id}, "nodes": {f"node {n}": n for n in range(nodes)}})


def test_artifact_of_this_invocation_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(_artifact("mine", 10))
    kept = collect.keep(path, tmp_path / "kept", "mine")
    assert kept == tmp_path / "kept" / "manifest.json"
    assert kept.read_text() == path.read_text()


@pytest.mark.parametrize("text", [_artifact("another's", 10), "{}", '{"metadata": {}}'])
def test_artifact_of_another_invocation_is_not(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert collect.keep(path, tmp_path / "kept", "mine") is None
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(("mine", "other"), [(100, 200), (200, 100)])
def test_two_that_write_one_file_at_once_spoil_it(tmp_path: Path, mine: int, other: int) -> None:
    """As dbt does: it opens the file, which empties it, and writes on where it was."""
    path = tmp_path / "manifest.json"
    texts = _artifact("mine", mine), _artifact("another's", other)
    with path.open("w") as first:
        first.write(texts[0][:500])
        first.flush()
        with path.open("w") as second:
            second.write(texts[1])
        first.write(texts[0][500:])
    with pytest.raises(collect.Mixed, match="another dbt"):
        collect.keep(path, tmp_path / "kept", "another's")
    assert not list((tmp_path / "kept").iterdir())


def test_empty_artifact_is_no_artifact(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.touch()
    with pytest.raises(collect.Mixed):
        collect.keep(path, tmp_path / "kept", "mine")
    with pytest.raises(FileNotFoundError):
        collect.keep(tmp_path / "none.json", tmp_path / "kept", "mine")
