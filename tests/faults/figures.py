"""What every fault test measures of its runs: events journalled and lost, OpenLineage runs that are never ended."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.sinks.openlineage import Translator
from spanline.supervisor.replay import close_abandoned

VARIABLE = "SPANLINE_FAULTS_FIGURES"
"""The directory that `python -m tests.faults` reads the figures from."""
_PLACE = os.environ.get(VARIABLE)  # the tests' own environment is cleared of it


@dataclass
class Figures:
    """Of one test, over all its runs. `faults` is how many faults it has caused."""

    faults: int = 1
    runs: int = 0
    events: int = 0
    lost: int = 0
    opened: int = 0
    unclosed: int = 0
    incomplete: int = 0

    def keep(self, test: str) -> None:
        """Leave them where they are summed up, if anybody does that."""
        if _PLACE:
            with open(Path(_PLACE) / f"{os.getpid()}.jsonl", "a") as file:
                file.write(json.dumps({"test": test, **asdict(self)}) + "\n")


def closed_lineage(run: Path) -> tuple[int, list[str]]:
    """How many OpenLineage runs a run's journal opens, and those of them that don't end exactly once.

    A session whose supervisor has died is ended as a replay would end it, in a copy.
    """
    with tempfile.TemporaryDirectory() as place:
        directory = RunDirectory(Path(place))
        shutil.copyfile(run / "journal.jsonl", directory.journal)
        close_abandoned(directory)
        translator, state = Translator(), RunState()
        began: list[str] = []
        ended: Counter[str] = Counter()
        for record in Reader(directory.journal).read():
            state.apply(record.event)
            for message in translator(record.event, state):
                event = message.payload
                kind = getattr(event, "eventType", None)
                if kind is not None and kind.value == "START":
                    began.append(event.run.runId)
                elif kind is not None:
                    ended[event.run.runId] += 1
    wrong = [run_id for run_id in {*began, *ended} if ended[run_id] != 1 or began.count(run_id) != 1]
    return len(began), wrong
