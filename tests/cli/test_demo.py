"""The README's first command shows what its reader is promised."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.project import SPANLINE, command


def test_the_demo_builds_the_example_and_shows_spans_lineage_and_what_to_try(tmp_path: Path) -> None:
    place = tmp_path / "demo\x1b]0;owned\x07"  # a name that would set the terminal's title
    done = subprocess.run(
        [SPANLINE, "demo", "--directory", str(place)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "✓ model order_totals" in said
    assert "raw.raw_orders → staging.stg_orders 7 columns from 7" in said
    assert "→ exposure.coffee_shop.weekly_branch_review" in said
    assert "of the events while dbt was still running" in said
    assert "dbt build --profiles-dir ." in said
    assert (place / "openlineage.jsonl").stat().st_size > 0
    assert r"demo\x1b]0;owned\x07" in said
    assert "\x1b]" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ((), {"DBT_PROJECT_DIR": "/nowhere", "DBT_TARGET": "prod"}),
        ((), {"SPANLINE_HOME": "{home}"}),
        ((), {"SPANLINE_HOME": "runs"}),
        (("--home", "my home"), {}),
    ],
)
def test_what_the_demo_says_to_try_works_where_one_stands(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    variables = {name: value.format(home=tmp_path / "home") for name, value in variables.items()}
    environment = {"PATH": f"{Path(SPANLINE).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "200"}
    environment |= variables
    done = command([SPANLINE, *options, "demo"], tmp_path, environment)
    assert done.returncode == 0, done.stderr.decode()
    commands = done.stdout.decode().partition("Try next:\n")[2]
    tried = command(["bash", "-e", "-c", commands], tmp_path, environment)
    assert tried.returncode == 0, tried.stderr.decode()
    assert b"success" in tried.stdout
