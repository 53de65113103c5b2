"""Compute the figures from the facts of many journals, with DuckDB."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from spanline.journal.state import CANCELLED, DIED, FAILED, FAILURE, SUCCESS, TIMED_OUT
from spanline.stats import facts
from spanline.stats.alerts import RECENT_SECONDS, WEEK_SECONDS, Average, Rate, Retried
from spanline.stats.report import Artifacts, FailingNode, FlakyTest, Job, Retries, Runs, RunTime, SlowNode

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MEMORY: Final = "512MB"
"""Beyond this, DuckDB uses the disk."""
_FACTS: Final = """
select run_id, unnest(facts.kind) as kind, unnest(facts.name) as name, unnest(facts.status) as status,
       unnest(facts.seconds) as seconds, unnest(facts.moment) as moment, unnest(facts.number) as number
from read_json([{files}], format = 'newline_delimited', maximum_object_size = {largest}, columns = {{
  run_id: 'varchar', facts: 'struct(
    kind varchar[], name varchar[], status varchar[], seconds double[], moment bigint[], number bigint[]
  )'
}})
"""
_NO_FACTS: Final = """
select null::varchar as run_id, null::varchar as kind, null::varchar as name, null::varchar as status,
       null::double as seconds, null::bigint as moment, null::bigint as number where false
"""
_RUNS: Final = f"""
create table runs as
select run_id, arg_min(name, number) as job, min(moment) / 1e9 as started, sum(seconds) as took,
       arg_max(coalesce(status, ''), number) as outcome, count(*) as sessions, false as counted
from others where kind = '{facts.SESSION}' group by run_id
"""  # noqa: S608
_RATE: Final = f"count(*) filter (outcome = '{SUCCESS}') / nullif(count(*) filter (outcome <> '{CANCELLED}'), 0)"
_TO_ITS_END: Final = f"outcome in ('{SUCCESS}', '{FAILURE}')"
_WHOLE: Final = "status not in ('error', 'runtime error')"
"""The time of an execution that an error interrupted says little."""
_TREND: Final = "points >= 3 and span > 0"
"""A line always fits two points, and never fits points of a single moment."""
_NODES: Final = f"""
create table nodes as
select name as unique_id, count(*) as executions, count(*) filter (status in (select unnest($failed))) as failures,
       avg(seconds) filter ({_WHOLE}) as mean, quantile_cont(seconds, 0.95) filter ({_WHOLE}) as p95,
       count(*) filter ({_WHOLE}) as points,
       regr_slope(seconds, moment / 1e9 - started_first) filter ({_WHOLE}) as slope,
       (max(moment) filter ({_WHOLE}) - min(moment) filter ({_WHOLE})) / 1e9 as span,
       bool_or(status = 'pass') and bool_or(status in ('fail', 'warn')) as mixed
from facts join runs using (run_id), (select min(started) as started_first from runs)
where kind = '{facts.NODE}' and counted group by name
"""  # noqa: S608
_FLAKY: Final = f"""
with results as (
  select name, number as code, run_id, moment, status = 'pass' as passed
  from facts join runs using (run_id)
  where kind = '{facts.NODE}' and counted and number is not null and status in ('pass', 'fail', 'warn')
    and name in (select unique_id from nodes where mixed)
), pairs as (
  select *, lag(passed) over same as before, lag(run_id) over same as run_before
  from results window same as (partition by name, code order by moment)
), codes as (
  select name, count(*) as executions, count(*) filter (not passed) as failures,
         count(*) filter (passed <> before) as flips,
         count(*) filter (passed and not before and run_id = run_before) as recovered
  from pairs group by name, code
)
select name as unique_id, sum(executions)::bigint as executions, sum(failures)::bigint as failures,
       sum(flips)::bigint as flips, sum(recovered)::bigint as recovered
from codes group by name having max(flips) >= 2 or max(recovered) >= 1
order by flips desc, recovered desc, unique_id limit $limit
"""  # noqa: S608

T = TypeVar("T")


class Figures:
    """One DuckDB in memory, over the files that hold the facts.

    Its table `runs` has every run back to where the alerts look; the figures are about those with `counted`, which
    began between `start` and `until`. `nodes` has a row for each node that they have executed.
    """

    def __init__(self, files: Sequence[Path], start: float, until: float, limit: int) -> None:
        import duckdb  # noqa: PLC0415 - an extra

        self._until = until
        self._limit = limit
        self._database: DuckDBPyConnection = duckdb.connect(
            config={"memory_limit": _MEMORY, "temp_directory": f"{tempfile.gettempdir()}/spanline-stats-{os.getpid()}"}
        )
        self._do(f"create view facts as {_source(files)}")
        self._do(f"create table others as select * from facts where kind <> '{facts.NODE}'")  # noqa: S608
        self._do(_RUNS)
        self._do("update runs set counted = started between $start and $until", start=start, until=until)

    def close(self) -> None:
        """Release DuckDB's memory."""
        self._database.close()

    def not_ended(self) -> list[str]:
        """Runs whose last session has no end."""
        return [str(row[0]) for row in self._do("select run_id from runs where outcome = ''")]

    def settle(self, live: Iterable[str]) -> int:
        """Leave out the live runs, and return their number. Others without an end count as died."""
        gone = list(live)
        self._do("delete from runs where run_id in (select unnest($gone::varchar[]))", gone=gone)
        self._do("update runs set outcome = $died where outcome = ''", died=DIED)
        self._do(_NODES, failed=sorted(FAILED))
        return len(gone)

    def run_ids(self) -> list[str]:
        """The runs that the figures are about."""
        return [str(row[0]) for row in self._do("select run_id from runs where counted")]

    def readable(self) -> int:
        """How many of all journals had a session in them."""
        return self._number("select count(*) from runs")

    def torn_lines(self) -> int:
        """How many lines were not records."""
        return self._number("select coalesce(sum(number), 0)::bigint from others where kind = $torn", torn=facts.TORN)

    def runs(self) -> Runs:
        """How they ended."""
        query = f"""
        select count(*) as total, count(*) filter (outcome = '{SUCCESS}') as success,
               count(*) filter (outcome = '{FAILURE}') as failed, count(*) filter (outcome = '{DIED}') as died,
               count(*) filter (outcome = '{CANCELLED}') as cancelled,
               count(*) filter (outcome = '{TIMED_OUT}') as timed_out, {_RATE} as success_rate
        from runs where counted
        """  # noqa: S608
        return self._rows(Runs, query)[0]

    def run_time(self) -> RunTime:
        """What they took."""
        query = f"""
        select count(*) as runs, avg(took) as mean, quantile_cont(took, 0.5) as p50,
               quantile_cont(took, 0.95) as p95, quantile_cont(took, 0.99) as p99
        from runs where counted and {_TO_ITS_END}
        """  # noqa: S608
        return self._rows(RunTime, query)[0]

    def jobs(self) -> list[Job]:
        """Those that ran most."""
        query = f"""
        select job, count(*) as runs, {_RATE} as success_rate,
               quantile_cont(took, 0.5) filter ({_TO_ITS_END}) as p50,
               quantile_cont(took, 0.95) filter ({_TO_ITS_END}) as p95
        from runs where counted group by job order by runs desc, job limit $limit
        """  # noqa: S608
        return self._rows(Job, query, limit=self._limit)

    def failing_nodes(self) -> list[FailingNode]:
        """Those with the highest rate of failures."""
        query = """
        select unique_id, executions, failures, failures / executions as failure_rate
        from nodes where failures > 0 order by failure_rate desc, failures desc, unique_id limit $limit
        """
        return self._rows(FailingNode, query, limit=self._limit)

    def slowest_nodes(self) -> list[SlowNode]:
        """Those with the highest average time."""
        query = f"""
        select unique_id, points as executions, mean, p95,
               case when {_TREND} then slope * span end as change,
               case when {_TREND} then slope * span / (points - 1) end as change_per_run
        from nodes where points > 0 order by mean desc, unique_id limit $limit
        """  # noqa: S608
        return self._rows(SlowNode, query, limit=self._limit)

    def flaky_tests(self) -> list[FlakyTest]:
        """Those whose result changed most often."""
        return self._rows(FlakyTest, _FLAKY, limit=self._limit)

    def retries(self) -> Retries:
        """What was tried again."""
        query = f"""
        select name, count(*) from others join runs using (run_id)
        where kind = '{facts.RETRY}' and counted group by name order by count(*) desc, name
        """  # noqa: S608
        by_category = {str(name): int(str(count)) for name, count in self._do(query)}
        resumed = self._number("select coalesce(sum(sessions - 1), 0)::bigint from runs where counted")
        return Retries(total=sum(by_category.values()), by_category=by_category, resumed_sessions=resumed)

    def failure_rates(self) -> list[Rate]:
        """How many runs of each job that nobody has cancelled there were, and which part of them didn't succeed."""
        query = f"""
        select job, count(*) as runs, count(*) filter (outcome <> '{SUCCESS}') / count(*) as failed
        from runs where counted and outcome <> '{CANCELLED}' group by job order by failed desc, job
        """  # noqa: S608
        return self._rows(Rate, query)

    def retried(self) -> list[Retried]:
        """What was tried again, of each job."""
        query = f"""
        select job, name as category, count(*) as retries from others join runs using (run_id)
        where kind = '{facts.RETRY}' and counted group by job, name order by retries desc, job, name
        """  # noqa: S608
        return self._rows(Retried, query)

    def averages(self) -> list[Average]:
        """What each job's successful runs took on average in the last day and in the week before it."""
        query = f"""
        select job, avg(took) filter (started > $day) as recent, avg(took) filter (started <= $day) as week,
               count(*) filter (started <= $day) as week_runs
        from runs where outcome = '{SUCCESS}' and started between $week and $until
        group by job having recent is not null and week is not null order by job
        """  # noqa: S608
        day = self._until - RECENT_SECONDS
        return self._rows(Average, query, day=day, week=day - WEEK_SECONDS, until=self._until)

    def _number(self, query: str, **parameters: object) -> int:
        return int(str(self._do(query, **parameters)[0][0]))

    def _rows(self, kind: type[T], query: str, **parameters: object) -> list[T]:
        """Rows as structs, whose fields are named as the columns are."""
        cursor = self._database.execute(query, parameters or None)
        names = [column[0] for column in cursor.description or ()]
        return [msgspec.convert(dict(zip(names, row)), kind) for row in cursor.fetchall()]  # noqa: B905

    def _do(self, query: str, **parameters: object) -> list[tuple[object, ...]]:
        return self._database.execute(query, parameters or None).fetchall()


def _source(files: Sequence[Path]) -> str:
    """The facts that these files hold, as a query: the paths of a view can't be parameters."""
    if not files:
        return _NO_FACTS
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return _FACTS.format(files=names, largest=max(file.stat().st_size for file in files) + 1)


def artifacts(sizes: Iterable[int]) -> Artifacts:
    """What the artifacts of runs take, from what each run's do."""
    each = list(sizes)
    return Artifacts(total=sum(each), mean=sum(each) / len(each) if each else None, largest=max(each, default=0))
