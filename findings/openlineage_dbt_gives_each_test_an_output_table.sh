#!/usr/bin/env bash
# openlineage-dbt 1.54.0: `dbt-ol --consume-structured-logs` tells an output table for each test, though none is made.
#
# A data test has a relation in dbt's manifest, in a schema that ends in `dbt_test__audit`: where its failing rows would
# be stored, were `store_failures` set. Without it nothing is written there, and the schema doesn't exist. The events of
# the test's run name it as their output, so that a project of 900 tests has 900 datasets that nobody can open. The mode
# that reads the artifacts at the end tells no outputs of tests.
#
# Seen with: openlineage-dbt 1.54.0, dbt-core 1.11.16, dbt-duckdb 1.10.1, Python 3.11. Prints the outputs, the
# warehouse's schemas, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'openlineage-dbt==1.54.0' 'dbt-core==1.11.16' 'dbt-duckdb==1.10.1'

mkdir models
cat > dbt_project.yml <<'YAML'
name: shop
version: "1.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
YAML
cat > profiles.yml <<'YAML'
shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}
YAML
echo "select 1 as id" > models/orders.sql
cat > models/orders.yml <<'YAML'
models: [{name: orders, columns: [{name: id, data_tests: [unique]}]}]
YAML
cat > openlineage.yml <<'YAML'
transport: {type: file, log_file_path: events.jsonl, append: true}
YAML
PATH="$PWD/venv/bin:$PATH" OPENLINEAGE_CONFIG=openlineage.yml dbt-ol --consume-structured-logs build > dbt.log 2>&1

cat > check.py <<'PYTHON'
import json
import duckdb

events = list(map(json.loads, open("events.jsonl")))
ended = [event for event in events if event["eventType"] == "COMPLETE" and event["job"]["name"].startswith("test.")]
outputs = {dataset["name"] for event in ended for dataset in event["outputs"]}
found = duckdb.connect("shop.duckdb").execute("select distinct schema_name from duckdb_schemas()").fetchall()
schemas = sorted(name for (name,) in found)
print("outputs of tests:", outputs)
print("schemas:", schemas)
assert outputs == {"shop.main_dbt_test__audit.unique_orders_id"}
assert "main_dbt_test__audit" not in schemas
print("as described")
PYTHON
venv/bin/python check.py
