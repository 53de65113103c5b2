"""A small dbt project on DuckDB, and the real command line in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spanline.api.run import Run
from spanline.api.start import start
from spanline.home.home import RunDirectory
from spanline.system.stdio import Stdio

BIN = Path(sys.executable).parent


SPANLINE = str(BIN / "spanline")


DBT = str(BIN / "dbt")


DEADLINE = 60.0


_nowhere = os.open(os.devnull, os.O_RDWR)


SILENT = Stdio(_nowhere, _nowhere, _nowhere)


FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
models:
  shop:
    +materialized: table
on-run-start:
  - "create table if not exists main.raw_events as
     select i as id, timestamp '2020-01-01' + interval (i * 6) hour as happened_at from range(12) t(i)"
on-run-end: ["select 'over' as word"]
""",
    "profiles.yml": """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: "{{ env_var('SHOP_DB', 'shop.duckdb') }}"
      threads: "{{ env_var('SHOP_THREADS', '2') | int }}"
""",
    "seeds/raw_orders.csv": "id,customer_id,amount\n1,1,10\n2,1,20\n3,2,5\n",
    "seeds/raw_customers.csv": "id,name\n1,Ada\n2,Bob\n",
    "models/priced.sql": "{{ config(materialized='ephemeral') }} select id, customer_id, amount * 100 as cents"
    " from {{ ref('raw_orders') }}",
    "models/orders.sql": "{{ config(materialized='incremental', unique_key='id') }} select * from {{ ref('priced') }}",
    "models/customers.sql": "{{ config(materialized='view') }} select * from {{ ref('raw_customers') }}",
    "models/totals.sql": """
select c.id as customer_id, sum(o.cents) as cents
from {{ ref('customers') }} c join {{ ref('orders') }} o on o.customer_id = c.id group by 1
""",
    "models/fragile.sql": "select id{{ ', no_such_column' if var('break', false) }} from {{ ref('orders') }}",
    "models/below.sql": "select * from {{ ref('fragile') }}",
    "models/bottom.sql": "select * from {{ ref('below') }}",
    "models/happenings.sql": "select * from {{ source('raw', 'raw_events') }}",
    "models/daily.sql": """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='happened_at', batch_size='day',
          begin='2020-01-01', enabled=var('microbatch', false)) }}
select * from {{ source('raw', 'raw_events') }}
""",
    "models/gate.py": """
import os, time

def model(dbt, session):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.01)
    return session.sql("select 1 as id")
""",
    "models/shop.yml": """
models:
  - name: gate
    config: {enabled: "{{ env_var('GATE', '') != '' }}"}
  - name: totals
    description: What each customer has spent
    config: {tags: [money], meta: {owner: Finance}}
    columns:
      - name: customer_id
        description: Who
        data_type: integer
        data_tests: [not_null, unique]
      - name: cents
        data_type: hugeint
        data_tests:
          - accepted_values: {arguments: {values: [1, 2], quote: false}, config: {severity: warn}}
  - name: fragile
    columns: [{name: id, data_tests: [not_null]}]
unit_tests:
  - name: totals_are_sums
    model: totals
    given:
      - {input: ref('customers'), rows: [{id: 7, name: Zoe}]}
      - {input: ref('orders'), rows: [{id: 1, customer_id: 7, cents: 2}, {id: 2, customer_id: 7, cents: 3}]}
    expect: {rows: [{customer_id: 7, cents: 5}]}
sources:
  - name: raw
    schema: main
    config:
      loaded_at_field: happened_at
      freshness: {warn_after: {count: 1, period: day}, error_after: {count: 1000, period: day}}
    tables:
      - name: raw_events
        config: {event_time: happened_at}
""",
    "tests/never.sql": "select 1 as one where {{ var('fail_test', false) }}",
    "snapshots/customers_history.sql": """
{% snapshot customers_history %}
{{ config(target_schema='main', unique_key='id', strategy='check', check_cols='all') }}
select * from {{ ref('raw_customers') }}
{% endsnapshot %}
""",
    "macros/operations.sql": """
{% macro say(text) %}{{ log(text, info=true) }}{% endmacro %}
{% macro boom() %}{{ exceptions.raise_compiler_error('boom') }}{% endmacro %}
""",
}


@dataclass
class Project:
    """A copy of the project, of a test's own."""

    path: Path

    @property
    def home(self) -> Path:
        return self.path / ".spanline"

    def write(self, name: str, text: str) -> None:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def dbt(self, *args: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run plain dbt."""
        return command([DBT, *args], self.path, environment)

    def spanline(self, *args: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command line."""
        return command([SPANLINE, *args], self.path, environment)

    def open(self, *args: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run the command line beside the test, which hears nothing of it."""
        return subprocess.Popen(
            [SPANLINE, *args],
            cwd=self.path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self, *args: str, **options: object) -> Run:
        """Start a run whose dbt keeps quiet; `.wait()` for it."""
        return start(list(args), project_dir=self.path, stdio=SILENT, **options)  # type: ignore[arg-type]

    def run(self, *args: str, **options: object) -> Run:
        """Do a run to its end."""
        run = self.start(*args, **options)
        run.wait(DEADLINE)
        return run

    def artifact(self, name: str) -> dict[str, object]:
        return json.loads((self.path / "target" / name).read_text())


def command(command: Sequence[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )


def last_run(project: Project) -> Run:
    """The one run that a project has had."""
    (path,) = (project.home / "runs").iterdir()
    return Run(RunDirectory(path))
