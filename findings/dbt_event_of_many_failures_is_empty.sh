#!/usr/bin/env bash
# dbt-core 1.11.16: a data test that counts more than 2,147,483,647 failures ends with events that hold nothing.
#
# The protobuf messages of LogTestResult and NodeFinished have int32 fields for the number of failures. dbt formats
# the result well ("Got 3000000000 results"), keeps it in run_results.json and exits with 1, but hands callbacks a
# message without any field: no name, no status, no unique_id. Who counts nodes by dbt's events loses this one.
#
# Seen with: dbt-core 1.11.16, dbt-duckdb 1.10.1, Python 3.11. Prints one line for each event, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'dbt-core==1.11.16' 'dbt-duckdb==1.10.1'

mkdir models
cat > dbt_project.yml <<'YAML'
{name: counting, version: "1.0", profile: counting, flags: {send_anonymous_usage_stats: false}}
YAML
cat > profiles.yml <<'YAML'
counting: {target: dev, outputs: {dev: {type: duckdb, path: counting.duckdb}}}
YAML
echo "select null::int as id" > models/orders.sql
cat > models/orders.yml <<'YAML'
models:
  - name: orders
    columns:
      - name: id
        data_tests: [{not_null: {config: {fail_calc: "count(*) + 2999999999"}}}]
YAML

cat > observe.py <<'PYTHON'
import json
from dbt.cli.main import dbtRunner

seen = {}
def observe(event):
    if event.info.name in ("LogTestResult", "NodeFinished"):
        seen.setdefault(event.info.name, []).append(event.data.node_info.unique_id)

ended = dbtRunner(callbacks=[observe]).invoke(["--quiet", "build"])
results = json.load(open("target/run_results.json"))["results"]
failing = [result["failures"] for result in results if result["unique_id"].startswith("test.")]
print("run_results.json:", failing)
for name, ids in sorted(seen.items()):
    print(f"{name}:", ids)
assert not ended.success
assert failing == [3_000_000_000]
assert seen["LogTestResult"] == [""]
assert "" in seen["NodeFinished"]
print("as described")
PYTHON
venv/bin/python observe.py
