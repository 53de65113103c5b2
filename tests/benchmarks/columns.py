"""What column lineage costs: `python -m tests.benchmarks.columns [--models N]`, in this process and on one core.

The models are those of a dbt project in layers: each reads three of the layer below, through CTEs of `select *`, and
gives ten columns. All kinds of transformations are among them, and every model's columns are known to the next.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Final

from spanline.lineage import columns
from spanline.lineage.columns import Relation, Schema
from spanline.lineage.process import sqlglot_is_compiled

_LAYERS: Final = 10
_PARENTS: Final = 3
_NAMES: Final = ("id", "guest_id", "drink", "cents", "tip", "status", "rating", "ordered_at", "loud_name", "place")
_ADAPTER: Final = "duckdb"


def main() -> None:
    """Analyse the models in the order of their layers, and print what it took."""
    options = _options()
    schema = Schema(_ADAPTER)
    for seed in range(_PARENTS):
        schema.add(_relation(0, seed), [(name, "VARCHAR") for name in _NAMES])
    before = _peak_mb()
    times, edges = [], 0
    for relation, sql in _models(options.models):
        started = time.process_time()
        found = columns.analyse(sql, _ADAPTER, schema, relation)
        schema.add(relation, [(column.name, column.data_type) for column in found.columns])
        times.append(time.process_time() - started)
        if found.error or len(found.columns) != len(_NAMES):
            sys.exit(f"{relation}: {found.error or found.columns}")
        edges += sum(len(column.inputs) for column in found.columns) + len(found.dataset)
    ms = sorted(each * 1000 for each in times)
    middle, high = statistics.median(ms), ms[int(len(ms) * 0.95)]
    build = "compiled" if sqlglot_is_compiled() else "plain Python"
    print(f"sqlglot {columns.VERSION} ({build}), {len(times)} models, {edges} edges")
    print(f"CPU seconds     {sum(times):.2f}")
    print(f"a model, ms     mean {statistics.fmean(ms):.2f}, median {middle:.2f}, 95 % {high:.2f}, most {ms[-1]:.2f}")
    print(f"peak memory, MB {_peak_mb():.0f}, of which {before:.0f} before the first model")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.columns", description=__doc__)
    parser.add_argument("--models", type=int, default=1000, metavar="N", help="models of the project (%(default)s)")
    return parser.parse_args()


def _models(count: int) -> Iterator[tuple[Relation, str]]:
    """The models, parents before children."""
    width = max(-(-count // _LAYERS), 1)
    for number in range(count):
        layer, place = divmod(number, width)
        below = _PARENTS if layer == 0 else width
        parents = [_relation(layer, (place + step) % below) for step in range(_PARENTS)]
        yield _relation(layer + 1, place), _sql(parents)


def _relation(layer: int, place: int) -> Relation:
    return ("cafe", "main", f"model_{layer}_{place}" if layer else f"seed_{place}")


def _sql(parents: list[Relation]) -> str:
    a, b, c = (".".join(f'"{part}"' for part in parent) for parent in parents)
    return f"""
with a as (
    select * from {a}
),
b as (
    select * from {b}
),
c as (
    select * from {c}
),
ranked as (
    select *, row_number() over (partition by guest_id order by ordered_at desc) as newest
    from c
    where status <> 'void'
),
totals as (
    select guest_id, sum(cents) as cents, max(tip) as tip
    from b
    group by guest_id
),
final as (
    select
        a.id,
        a.guest_id,
        lower(a.drink) as drink,
        coalesce(totals.cents, 0) as cents,
        a.tip + totals.tip as tip,
        case when ranked.rating > 3 then a.status else ranked.status end as status,
        cast(ranked.rating as integer) as rating,
        a.ordered_at,
        upper(a.loud_name) || ranked.place as loud_name,
        ranked.newest as place
    from a
    left join totals on a.guest_id = totals.guest_id
    left join ranked on a.guest_id = ranked.guest_id and ranked.newest = 1
    where a.cents > 0
)
select * from final
"""


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024 / 1024


if __name__ == "__main__":
    main()
