"""Measure one run of one command: wall, CPU, memory, the first node's start, the way of its events to the backend."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import msgspec

from spanline import events
from spanline.journal import ids
from spanline.journal.reader import Reader
from tests.benchmarks.receivers import Receipts

_SAMPLE_SECONDS: Final = 0.05
_DAY: Final = 86_400.0
_FIRST_NODE: Final = re.compile(r"^(?:\x1b\[0m)?(\d\d):(\d\d):(\d\d\.\d+) .*Began compiling node ", re.MULTILINE)
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Process(msgspec.Struct):
    """What the kernel says of one command and all that it has started. Times in seconds, memory in MB."""

    launched: float
    """When it was started, in seconds since the epoch."""
    wall: float
    cpu: float
    """User and system time of the whole tree of processes."""
    own_cpu: float
    """The same of the first process alone: the supervisor, where there is one."""
    peak: float
    """Peak memory of the largest process of the tree, which is dbt."""
    own_peak: float
    """Peak memory of the first process alone."""


class Latency(msgspec.Struct):
    """Milliseconds from the end of each node to the receipt of its event; and how many have never arrived."""

    milliseconds: list[float]
    missing: int = 0


class Journalled(msgspec.Struct):
    """What the journal of a run, and the receivers, add to the measurement."""

    until_dbt_ended: float
    """Seconds from the launch until dbt's process had ended; the rest of the wall time is the sinks' tail."""
    events: int
    lineage: Latency | None = None
    spans: Latency | None = None
    last_receipt: float | None = None
    """Seconds from dbt's end to the last receipt of anything."""
    receiver_cpu: float = 0.0


class Measurement(msgspec.Struct):
    """One run of one case."""

    case: str
    repetition: int
    process: Process
    first_node: float | None = None
    """Seconds from the launch to the start of the first node, by dbt's own log."""
    journalled: Journalled | None = None
    lineage_events: int = 0
    """OpenLineage events that were received."""
    duplicates: int = 0
    """How many of them had been received before."""
    lineage_seconds: float = 0.0
    """From the second one's arrival to the last one's answer."""
    trace_requests: int = 0
    """OTLP requests that were received."""

    @property
    def run_wall(self) -> float:
        """Wall time until dbt had ended."""
        return self.journalled.until_dbt_ended if self.journalled is not None else self.process.wall


def run(command: Sequence[str], cwd: Path, environment: dict[str, str]) -> Process:
    """Run a command to its end. Raises `RuntimeError`, with the end of what it said, where it fails."""
    said = cwd / "said.log"
    with said.open("wb") as out, open(os.devnull, "rb") as nothing:
        launched, start = time.time(), time.monotonic()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=nothing, stdout=out, stderr=out)
        sampler = _Sampler(process.pid)
        sampler.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.monotonic() - start
        own_cpu = _cpu_of(process.pid)  # of the zombie: exact
        sampler.stop()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        text = said.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{text}")
    return Process(
        launched=launched,
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        own_cpu=own_cpu,
        peak=usage.ru_maxrss / 1024,
        own_peak=sampler.peak,
    )


class _Sampler(threading.Thread):
    """Looks at a process's peak memory until it ends; the last look counts, as the kernel keeps the peak."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            for line in self._status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak = int(line.split()[1]) / 1024

    def stop(self) -> None:
        self._over.set()
        self.join()


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def first_node(project: Path, launched: float) -> float | None:
    """Seconds from the launch to dbt's first node, as its log file (whose times are UTC, without a date) says."""
    try:
        found = _FIRST_NODE.search((project / "logs" / "dbt.log").read_text(errors="replace"))
    except FileNotFoundError:
        return None
    if found is None:
        return None
    hours, minutes, seconds = map(float, found.groups())
    began = datetime.fromtimestamp(launched, timezone.utc)
    midnight = began.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    return (midnight + hours * 3600 + minutes * 60 + seconds - launched) % _DAY


def read_journal(project: Path, launched: float, receipts: Receipts | None) -> Journalled:
    """Read the one run that is kept in a project, and match its nodes with what the receivers got."""
    (path,) = project.glob(".spanline/runs/*/journal.jsonl")
    run_id = path.parent.name
    found = [record.event for record in Reader(path).read()]
    ended = next(event.time for event in found if isinstance(event, events.AttemptEnded))
    result = Journalled(until_dbt_ended=ended / 1e9 - launched, events=len(found))
    if receipts is not None:
        ends = [event for event in found if isinstance(event, events.NodeFinished) and event.status != "skipped"]
        result.lineage = _latency((receipts.lineage.get(_lineage_id(run_id, end)), end.time) for end in ends)
        result.spans = _latency((receipts.spans.get(_span_id(run_id, end)), end.time) for end in ends)
        finished = next(event.time for event in found if isinstance(event, events.DbtFinished))
        result.last_receipt = (receipts.last - finished) / 1e9
        result.receiver_cpu = receipts.cpu
    return result


def _lineage_id(run_id: str, end: events.NodeFinished) -> str:
    return ids.lineage_run_id(run_id, end.session, end.step, end.attempt, end.unique_id)


def _span_id(run_id: str, end: events.NodeFinished) -> int:
    return ids.span_id(run_id, end.session, end.step, end.attempt, end.unique_id)


def _latency(pairs: Iterable[tuple[int | None, int]]) -> Latency:
    received: list[float] = []
    missing = 0
    for receipt, end in pairs:
        if receipt is None:
            missing += 1
        else:
            received.append((receipt - end) / 1e6)
    return Latency(received, missing)
