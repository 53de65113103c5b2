#!/usr/bin/env bash
# dbt-core 1.11.16: `dbt retry` of a build runs a model before its unit test, which `dbt build` never does.
#
# A unit test guards a model: `dbt build` runs it first and skips the model where it fails. Here a build is stopped by
# a missing function in an upstream model, so that the unit test and its model are both skipped. `dbt retry` then
# builds the model, and runs its (failing) unit test afterwards: what the test should have kept out is in the warehouse.
#
# Seen with: dbt-core 1.11.16, dbt-duckdb 1.10.1, Python 3.11. Prints both orders, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'dbt-core==1.11.16' 'dbt-duckdb==1.10.1'

mkdir models
cat > dbt_project.yml <<'YAML'
{name: guarded, version: "1.0", profile: guarded, flags: {send_anonymous_usage_stats: false}}
YAML
cat > profiles.yml <<'YAML'
guarded: {target: dev, outputs: {dev: {type: duckdb, path: guarded.duckdb}}}
YAML
echo "select 1 as id {{ ', nowhere()' if env_var('BREAK', '') }}" > models/upstream.sql
echo "select id + 1 as id from {{ ref('upstream') }}" > models/model.sql
cat > models/model.yml <<'YAML'
unit_tests:
  - name: keeps_ids
    model: model
    given: [{input: ref('upstream'), rows: [{id: 1}]}]
    expect: {rows: [{id: 1}]}
YAML

cat > order.py <<'PYTHON'
import json
import sys

done = json.load(open("target/run_results.json"))["results"]
ran = sorted((result for result in done if result["timing"]), key=lambda result: result["timing"][-1]["completed_at"])
print(sys.argv[1], [(result["unique_id"].split(".")[0], result["status"]) for result in ran if "upstream" not in result["unique_id"].split(".")[2]])
PYTHON

venv/bin/dbt --quiet build > /dev/null || true
first=$(venv/bin/python order.py build)
rm -rf target guarded.duckdb
BREAK=yes venv/bin/dbt --quiet build > /dev/null || true
venv/bin/dbt --quiet retry > /dev/null || true
second=$(venv/bin/python order.py retry)
printf '%s\n%s\n' "$first" "$second"
[ "$first" = "build [('unit_test', 'fail')]" ]
[ "$second" = "retry [('model', 'success'), ('unit_test', 'fail')]" ]
echo "as described"
