"""The project that is measured: N table models in layers, a test on every second one, on DuckDB; or a given one.

It is written and parsed once; every run gets a copy of its own, so that each begins with the same parse cache, the same
database, if any, and no journal.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

LAYER: Final = 50
THREADS: Final = 4
_MOST_PARENTS: Final = 3
_SEED: Final = 13
_BUILT: Final = frozenset(("model", "seed", "snapshot", "test", "unit_test"))
_LEFT_OUT: Final = (".git", ".spanline", "target", "logs")

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
    """A project that was parsed, and is ready to be copied."""

    def __init__(self, path: Path, write: Callable[[Path], object], options: Sequence[str] = ()) -> None:
        """`write` makes the project at this path; `options` say which nodes of it are built."""
        self.path = path
        self.options = tuple(options)
        self._write = write
        self.models = 0
        self.nodes = 0
        """How many nodes `dbt build` runs."""

    def prepare(self, dbt: Path, environment: dict[str, str]) -> None:
        """Write the project and let dbt parse it, so that every copy holds a parse cache."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._write(self.path)
        subprocess.run([dbt, "--quiet", "parse"], cwd=self.path, env=environment, check=True)
        shutil.rmtree(self.path / "logs", ignore_errors=True)
        listed = [dbt, "--quiet", "ls", "--output", "json", "--output-keys", "resource_type", *self.options]
        done = subprocess.run(listed, cwd=self.path, env=environment, stdout=subprocess.PIPE, check=True)
        kinds = Counter(json.loads(line)["resource_type"] for line in done.stdout.splitlines())
        self.models, self.nodes = kinds["model"], sum(number for kind, number in kinds.items() if kind in _BUILT)

    def copy(self, to: Path) -> Path:
        """A fresh copy of the project, in place of what was there; on the disk before anything is measured."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.path, to)
        os.sync()
        return to


def generated(path: Path, models: int) -> Template:
    """The project of so many models."""
    return Template(path, lambda to: _write(to, models))


def existing(path: Path, project: Path, options: Sequence[str]) -> Template:
    """Somebody's project as it stands, with its `profiles.yml`, packages and database; without logs and artifacts."""
    left_out = shutil.ignore_patterns(*_LEFT_OUT)
    return Template(path, lambda to: shutil.copytree(project, to, ignore=left_out), options)


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
