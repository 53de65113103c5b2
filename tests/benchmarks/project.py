"""The project that is measured: N table models in layers, a test on every second one, on DuckDB.

It is generated and parsed once; every run gets a copy of its own, so that each begins with the same parse cache, no
database and no journal.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

LAYER: Final = 50
THREADS: Final = 4
_MOST_PARENTS: Final = 3
_SEED: Final = 13

_PROJECT: Final = """\
name: bench
version: "1.0"
profile: bench
flags:
  send_anonymous_usage_stats: false
models:
  bench:
    +materialized: table
"""

_PROFILE: Final = f"""\
bench:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: bench.duckdb
      threads: {THREADS}
"""


class Template:
    """A generated project, parsed and ready to be copied."""

    def __init__(self, path: Path, models: int) -> None:
        self.path = path
        self.models = models

    @property
    def nodes(self) -> int:
        """How many nodes `dbt build` runs: the models and their tests."""
        return self.models + self.models // 2

    def prepare(self, dbt: Path, environment: dict[str, str]) -> None:
        """Write the project and let dbt parse it, so that every copy holds a parse cache."""
        shutil.rmtree(self.path, ignore_errors=True)
        _write(self.path, self.models)
        subprocess.run([dbt, "--quiet", "parse"], cwd=self.path, env=environment, check=True)
        shutil.rmtree(self.path / "logs", ignore_errors=True)

    def copy(self, to: Path) -> Path:
        """A fresh copy of the project, in place of what was there; on the disk before anything is measured."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.path, to)
        os.sync()
        return to


def _write(path: Path, models: int) -> None:
    folder = path / "models"
    folder.mkdir(parents=True)
    (path / "dbt_project.yml").write_text(_PROJECT)
    (path / "profiles.yml").write_text(_PROFILE)
    chance = random.Random(_SEED)
    for number, (above, layer) in enumerate(itertools.pairwise([[], *_layers(models)])):
        place = folder / f"layer_{number:03}"
        place.mkdir()
        for name in layer:
            parents = chance.sample(above, min(len(above), chance.randint(1, _MOST_PARENTS)))
            (place / f"{name}.sql").write_text(_sql(name, parents))
        (place / "schema.yml").write_text(_tests(layer))


def _layers(models: int) -> Iterator[list[str]]:
    for first in range(0, models, LAYER):
        yield [f"model_{number:05}" for number in range(first, min(first + LAYER, models))]


def _sql(name: str, parents: Sequence[str]) -> str:
    if not parents:
        return f"select range as id, range * 2 as amount, '{name}' as origin from range(10)\n"
    first, *others = parents
    sums = "".join(f" + {other}.amount" for other in others)
    joins = "".join(f"join {{{{ ref('{other}') }}}} as {other} using (id)\n" for other in others)
    return (
        f"select {first}.id, {first}.amount{sums} as amount, '{name}' as origin\n"
        f"from {{{{ ref('{first}') }}}} as {first}\n{joins}"
    )


def _tests(layer: Sequence[str]) -> str:
    kinds = itertools.cycle(("not_null", "unique"))
    entries = [
        f"  - name: {name}\n    columns:\n      - name: id\n        data_tests: [{next(kinds)}]\n"
        for name in layer[1::2]
    ]
    return "models:\n" + "".join(entries) if entries else ""
