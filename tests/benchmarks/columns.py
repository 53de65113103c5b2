"""`python -m tests.benchmarks.columns`: what it takes to find the column lineage of N models, each of three parents."""

from __future__ import annotations

import argparse
import random
import resource
import time
from typing import Final

from spanline.lineage.columns import COMPILED, Schema, analyse

_COLUMNS: Final = [f"c{number}" for number in range(10)]
_NEAR: Final = 60
_SEED: Final = 13


def main() -> None:
    """Measure, and print CPU seconds and peak memory."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.columns", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    print(f"sqlglot's compiled build: {'yes' if COMPILED else 'no'}")
    for models in parser.parse_args().models:
        seconds = measure(models)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{models} models: {seconds:.2f} s of CPU, {seconds / models * 1000:.2f} ms each; peak {peak:.0f} MB")


def measure(models: int) -> float:
    """CPU seconds for so many models over each other, with ten columns each."""
    chance, schema = random.Random(_SEED), Schema("duckdb")
    for number in range(3):
        schema.add(_place(number), [("id", "int"), *((name, "int") for name in _COLUMNS)])
    start = time.process_time()
    for number in range(3, models + 3):
        parents = [chance.randrange(max(0, number - _NEAR), number) for _ in range(3)]
        found = analyse(_sql(number, parents), "duckdb", schema)
        if found.error or len(found.columns) != len(_COLUMNS) + 1:
            raise SystemExit(f"not every column was found: {found}")
        schema.add(_place(number), [(column.name, column.data_type) for column in found.columns])
    return time.process_time() - start


def _place(number: int) -> tuple[str, str, str]:
    return ("d", "s", f"m{number}")


def _sql(number: int, parents: list[int]) -> str:
    sources = ", ".join(
        f'{alias} as (select * from "d"."s"."m{parent}")' for alias, parent in zip("abc", parents, strict=True)
    )
    columns = ", ".join(
        f"a.{name} + coalesce(b.{name}, 0) as {name}" if place % 2 else f"c.{name}"
        for place, name in enumerate(_COLUMNS)
    )
    return (
        f"with {sources}, final as (select a.id, {columns} from a left join b on a.id = b.id "
        f"join c on a.id = c.id where a.c1 > {number}) select * from final"
    )


if __name__ == "__main__":
    main()
