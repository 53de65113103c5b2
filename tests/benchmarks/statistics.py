"""What `spanline stats` costs: `python -m tests.benchmarks.statistics JOURNAL [--runs N]`.

JOURNAL is that of a real run, such as the one which `spanline dbt build` leaves of a generated project of 1,000 models
with 500 tests. It is written N times, as the runs of the last week: with other ids and times, every tenth failed. Then
the command reads them all, with nothing kept of them, and again; and once more with an empty cache, after that was kept
beside each journal which a supervisor keeps there when a session ends.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Final

import psutil

from spanline.home.home import runs
from spanline.stats.kept import keep_beside

_WEEK: Final = 6.9 * 86_400
_TIME: Final = re.compile(rb'"time":(\d{19})')
_FINISHED: Final = re.compile(rb'("status":")success("[^\n]*?"execution_time":)([0-9.e-]+)')
_SEED: Final = 13


def main() -> None:
    """Write the journals, and print what reading them took."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="spanline-benchmark-", dir=options.work) as folder:
        home = Path(folder)
        size = _write(home, options.journal.read_bytes(), options.runs)
        os.sync()
        print(f"{options.runs} journals, {size / 1e9:.2f} GB, {os.cpu_count()} cores")
        for name in ("every journal read", "all kept", "all kept"):
            _tell(name, home)
        shutil.rmtree(home / "cache")
        _keep_beside(home)
        for name in ("kept beside the journals", "all kept"):
            _tell(name, home)
        kept = sum(file.stat().st_size for file in (home / "cache").rglob("*.json"))
        print(f"kept of them: {kept / 1e6:.1f} MB")


def _tell(name: str, home: Path) -> None:
    load = os.getloadavg()[0]
    seconds, cpu, peak, report = _measure(home)
    print(
        f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak / 1e6:.0f} MB at most, of all processes together; "
        f"{report['runs']}; load before {load:.1f}",
        flush=True,
    )


def _keep_beside(home: Path) -> None:
    started, used = time.perf_counter(), time.process_time()
    known = runs(home)
    for run in known:
        keep_beside(run)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    print(f"to keep it: {seconds / len(known) * 1e3:.0f} ms a run, {cpu / len(known) * 1e3:.0f} ms of CPU")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.statistics", description=__doc__)
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="journal.jsonl of a real run")
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where there is room for them")
    return parser.parse_args()


def _write(home: Path, journal: bytes, runs: int) -> int:
    chance = random.Random(_SEED)
    first = int(_TIME.findall(journal)[0])
    old_id = re.search(rb'"run_id":"([^"]+)"', journal)
    assert old_id is not None
    now, total = time.time(), 0
    for number in range(runs):
        begun = now - _WEEK * (1 - number / runs)
        new_id = str(uuid.UUID(int=int(begun * 1000) << 80 | chance.getrandbits(62) | 7 << 76 | 2 << 62))
        shift = int(begun * 1e9) - first
        text = _TIME.sub(lambda found, by=shift: b'"time":%d' % (int(found[1]) + by), journal)
        text = _FINISHED.sub(
            lambda found: b"%s%s%s%f" % (found[1], _status(chance), found[2], _slower(found[3], chance)), text
        )
        text = text.replace(old_id[1], new_id.encode())
        if number % 10 == 0:
            text = text.replace(b'"outcome":"success","exit_code":0', b'"outcome":"failed","exit_code":1')
        place = home / "runs" / new_id
        artifacts = place / "artifacts" / "1-1-1"
        artifacts.mkdir(parents=True)
        for name in ("manifest.json", "run_results.json"):
            (artifacts / name).write_bytes(b"{}")
        (place / "journal.jsonl").write_bytes(text)
        total += len(text)
    return total


def _status(chance: random.Random) -> bytes:
    return b"error" if chance.random() < 0.001 else b"success"


def _slower(seconds: bytes, chance: random.Random) -> float:
    return float(seconds) * chance.uniform(0.8, 1.2)


def _measure(home: Path) -> tuple[float, float, int, dict[str, object]]:
    command = [str(Path(sys.executable).with_name("spanline")), "--home", str(home), "stats", "--since", "8d", "--json"]
    started, used = time.perf_counter(), _cpu()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peak))
        watcher.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
        watcher.join()
    return seconds, _cpu() - used, peak[0], json.loads(output)


def _cpu() -> float:
    """CPU seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _watch(pid: int, peak: list[int]) -> None:
    """Add up what all its processes hold, until it is over."""
    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in (root, *root.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total)
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    main()
