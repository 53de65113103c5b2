"""`python -m tests.faults`: cause every fault, and print the figures: how many were survived, how many events lost."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from tests.faults.figures import VARIABLE

HERE = Path(__file__).parent
_PYTEST = ("-m", "pytest", "-q", "-o", "addopts=", "-m", "faults")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--cancels", type=int, default=200, help="how many cancels at random moments (200)")
    parser.add_argument("--workers", default="2", help="how many tests at once (2)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON only")
    parser.add_argument("tests", nargs="*", default=[str(HERE)], help="which tests (all)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *_PYTEST, "-n", asked.workers, f"--junitxml={report}", *asked.tests],
            env={**os.environ, VARIABLE: place, "SPANLINE_FAULTS_CANCELS": str(asked.cancels)},
            stdout=sys.stderr,
            check=False,
        )
        figures = _figures(report, Path(place), asked.cancels)
    figures["seconds"] = round(time.monotonic() - began)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name.replace('_', ' '):40} {figure}")
    return done.returncode


def _figures(report: Path, place: Path, cancels: int) -> dict[str, int]:
    """Faults are counted by test, but for the cancels, which are one test."""
    tried, survived, skipped = 0, 0, 0
    for case in ET.parse(report).iter("testcase"):
        weight = cancels if case.get("name") == "test_cancelled_at_random_moments" else 1
        if case.find("skipped") is not None:
            skipped += 1
            continue
        tried += weight
        survived += weight if case.find("failure") is None and case.find("error") is None else 0
    sums: Counter[str] = Counter()
    for file in place.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            sums.update({key: value for key, value in json.loads(line).items() if isinstance(value, int)})
    return {
        "faults_tried": tried,
        "survived": survived,
        "skipped": skipped,
        "runs": sums["runs"],
        "events_journalled": sums["events"],
        "events_lost": sums["lost"],
        "journals_stopped_by_a_full_disk": sums["incomplete"],
        "OpenLineage_runs_begun": sums["opened"],
        "OpenLineage_runs_never_ended": sums["unclosed"],
    }


if __name__ == "__main__":
    sys.exit(main())
