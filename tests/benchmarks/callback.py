"""What the callback costs dbt's threads: one build in this process, the CPU time of every call counted.

Reading a thread's CPU clock takes longer than a call that journals nothing. So what a callback that does nothing seems
to take, called for the same events, is taken off; and the events that weren't journalled are given to the callback
again, many times over, between two looks at the clock.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from spanline.runner.interrupt import Interrupt
from spanline.runner.recorder import Recorder
from spanline.runner.shared.masking import Redactor
from spanline.runner.shared.secrets import secrets_of_environment
from spanline.runner.shared.writer import Writer
from tests.benchmarks.cases import clean_environment

_ROOT: Final = Path(__file__).parents[2]
_REPLAYED: Final = 5_000
_ROUNDS: Final = 20


class Cost(msgspec.Struct):
    """Calls of the callback, and the CPU microseconds of its thread that one takes in the mean."""

    calls: int = 0
    microseconds: float = 0.0


class Callback(msgspec.Struct):
    """The cost of the callback in one build."""

    journalled: Cost
    """By call; one that selects nodes describes them all, each in a record of its own."""
    unjournalled: Cost
    """Measured by giving the events to it again."""
    unjournalled_in_place: Cost
    """Measured as they came: with dbt's data in the processor's caches, but less exactly (a clock's look is longer)."""
    records: Cost
    """The same, by record."""
    by_event: dict[str, Cost]
    """The journalled, by the name of dbt's event; the most expensive in all first."""


class Timed:
    """The callback under measurement, and what its calls took."""

    def __init__(self, recorder: Callable[[Any], None], writer: Writer) -> None:
        self._recorder = recorder
        self._writer = writer
        self._lock = threading.Lock()
        self.calls: list[tuple[str, int, int]] = []
        """Name of the event, nanoseconds, records appended."""
        self.left: list[Any] = []
        """Events that weren't journalled."""
        self.clock: list[int] = []
        """Nanoseconds that a callback took which does nothing."""

    def __call__(self, event: Any) -> None:
        """Let the callback have the event."""
        before = self._writer._seq  # another thread's record is seldom taken for this one's: the write keeps the GIL
        start = time.thread_time_ns()
        _nothing(event)
        clock = time.thread_time_ns() - start
        start = time.thread_time_ns()
        self._recorder(event)
        spent = time.thread_time_ns() - start
        records = self._writer._seq - before
        with self._lock:
            self.clock.append(clock)
            self.calls.append((event.info.name, spent, records))
            if not records and len(self.left) < _REPLAYED:
                self.left.append(event)


def measure_callback(project: Path) -> Callback:
    """Measure in a process of its own, on this copy of the project."""
    command = [sys.executable, "-m", f"{__package__}.callback", str(project)]
    environment = {**clean_environment(), "DBT_PROFILES_DIR": str(project)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Callback)


def main() -> None:
    """Build the project that the one argument names, and print what the callback took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    project = parser.parse_args().project
    os.chdir(project)
    writer = Writer(str(project / "journal.jsonl"), "benchmark", Redactor(secrets_of_environment(os.environ)))
    recorder = Recorder(writer, Interrupt(), ["build"])
    timed = Timed(recorder, writer)
    with contextlib.redirect_stdout(sys.stderr):
        _build(timed)
    print(msgspec.json.encode(_result(timed, recorder)).decode())


def _build(callback: Timed) -> None:
    from dbt.cli.main import dbtRunner

    done = dbtRunner(callbacks=[callback]).invoke(["--quiet", "build"])
    if not done.success:
        raise SystemExit(f"dbt failed: {done.exception}")


def _result(timed: Timed, recorder: Callable[[Any], None]) -> Callback:
    clock = sum(timed.clock) / len(timed.clock)
    by_event: dict[str, list[int]] = collections.defaultdict(list)
    for name, spent, records in timed.calls:
        if records:
            by_event[name].append(spent)
    costs = {name: _cost(spent, clock) for name, spent in by_event.items()}
    replayed = _loop(recorder, timed.left, _ROUNDS) - _loop(_nothing, timed.left, _ROUNDS)
    journalled = _cost([spent for _, spent, records in timed.calls if records], clock)
    unjournalled = [spent for _, spent, records in timed.calls if not records]
    records = sum(records for *_, records in timed.calls)
    return Callback(
        journalled=journalled,
        unjournalled=Cost(len(unjournalled), replayed / 1000),
        unjournalled_in_place=_cost(unjournalled, clock),
        records=Cost(records, journalled.calls * journalled.microseconds / records),
        by_event=dict(sorted(costs.items(), key=lambda item: -item[1].calls * item[1].microseconds)),
    )


def _cost(spent: list[int], clock: float) -> Cost:
    return Cost(len(spent), (sum(spent) / len(spent) - clock) / 1000 if spent else 0.0)


def _loop(function: Callable[[Any], object], arguments: Any, rounds: int) -> float:
    """Nanoseconds of CPU time that a call takes."""
    start = time.thread_time_ns()
    for _ in range(rounds):
        for argument in arguments:
            function(argument)
    return (time.thread_time_ns() - start) / (rounds * len(arguments))


def _nothing(_: object) -> None:
    pass


if __name__ == "__main__":
    main()
