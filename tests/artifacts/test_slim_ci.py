"""The example of slim CI, as its README has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.project import BIN

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def built(shop: Path) -> set[str]:
    results = json.loads((shop / "target" / "run_results.json").read_text())["results"]
    return {result["unique_id"] for result in results if not result["unique_id"].startswith("operation.")}


def test_a_change_is_built_on_top_of_production(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(EXAMPLES / "coffee_shop", shop)
    for file in (EXAMPLES / "slim_ci").iterdir():
        shutil.copy(file, shop / "macros" if file.suffix == ".sql" else shop)
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "ARTIFACTS_URL": f"file://{tmp_path}/store",
    }

    def run(script: str) -> str:
        done = subprocess.run([f"./{script}"], cwd=shop, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("nightly.sh")
    everything = built(shop)
    assert len(everything) > 20
    # Nothing has changed: what was cut and compressed makes no difference to dbt.
    assert "Nothing to do" in run("ci.sh")
    with (shop / "models" / "marts" / "member_loyalty.sql").open("a") as model:
        model.write("-- changed\n")
    run("ci.sh")
    changed = built(shop)
    assert "model.coffee_shop.member_loyalty" in changed
    assert {key for key in changed if key.startswith(("model.", "seed.", "snapshot."))} == {
        "model.coffee_shop.member_loyalty"
    }
    assert len(changed) > 1
