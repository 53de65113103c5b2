"""Hundreds of followers in one event loop: it stays free, and they cost little while nothing happens."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest

from spanline import events
from spanline.api.run import Run
from spanline.home import lease
from spanline.journal.ids import new_run_id
from tests.support.journals import session_started, undelivered

FOLLOWERS = 500
QUIET_SECONDS = 10.0


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def lags(into: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        into.append(time.perf_counter() - begun - 0.01)


async def follow(directory: Run, seen: list[int]) -> None:
    seen.append(len([state.session_number async for _, state in directory.astates()]))


@pytest.mark.slow
def test_five_hundred_followers_share_a_loop(tmp_path: Path) -> None:
    directories = []
    for _ in range(FOLLOWERS):
        run_id = new_run_id()
        happened = [session_started(run_id), *(events.Heartbeat() for _ in range(200))]
        directories.append(undelivered(tmp_path, run_id, happened))
    held = [lease.acquire(directory.lease) for directory in directories]

    async def all_of_them() -> tuple[list[float], float, list[int]]:
        late: list[float] = []
        seen: list[int] = []
        clock = asyncio.create_task(lags(late))
        following = [asyncio.create_task(follow(Run(directory), seen)) for directory in directories]
        await asyncio.sleep(QUIET_SECONDS / 2)  # they read what there is, and then look less and less often
        before = cpu()
        await asyncio.sleep(QUIET_SECONDS)
        idle = (cpu() - before) / QUIET_SECONDS
        for one in held:
            one.release()
        await asyncio.gather(*following)
        clock.cancel()
        return late, idle, seen

    late, idle, seen = asyncio.run(all_of_them())
    assert seen == [201] * FOLLOWERS
    p99 = sorted(late)[int(len(late) * 0.99)]
    print(f"P99 of the loop's lag {p99 * 1e3:.0f} ms, {idle:.1%} of a core while nothing happens")
    assert p99 < 0.1
    assert idle < 0.1
