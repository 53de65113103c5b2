"""Which dbt runs: dbt Core of an interpreter, or the dbt v2 beside it. Scripts stand for programs here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spanline.dbt.interpreter import check, find_program
from spanline.errors import UsageError


def program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_program_that_is_named_is_asked_for_its_version(tmp_path: Path) -> None:
    named = program(tmp_path / "dbt", "dbt-fusion 2.0.0-preview.196")
    assert find_program(sys.executable, named) == str(named)
    assert check(sys.executable, str(named)) == "2.0.0-preview.196"


def test_a_program_of_dbt_core_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not dbt v2"):
        find_program(sys.executable, program(tmp_path / "dbt", "Core: installed: 1.11.16"))


def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot start .*: No such file"):
        find_program(sys.executable, tmp_path / "dbt")


def test_a_script_beside_the_interpreter_is_dbt_cores(tmp_path: Path) -> None:
    program(tmp_path / "dbt", "dbt-fusion 2.0.0")
    assert find_program(str(tmp_path / "python")) is None


def test_a_binary_beside_an_interpreter_without_dbt_core_is_v2(tmp_path: Path) -> None:
    (tmp_path / "dbt").write_bytes(b"\x7fELF")
    python = program(tmp_path / "python", "")
    assert find_program(str(python)) == str(tmp_path / "dbt")


def test_dbt_core_goes_before_a_binary_beside_it(tmp_path: Path) -> None:
    (tmp_path / "dbt").write_bytes(b"\x7fELF")
    assert find_program(str(program(tmp_path / "python", "1.11.16"))) is None
