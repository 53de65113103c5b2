#!/usr/bin/env bash
# openlineage-dbt 1.54.0: a model below an ephemeral one has a table as its input that isn't in the warehouse.
#
# dbt puts an ephemeral model into the models that read it, as a CTE. `dbt-ol` names it as an input dataset all the
# same, and what the ephemeral model reads, which the query does read, is no input of anything. In a backend's graph the
# source ends nowhere, and the model begins at a table that nobody can open.
#
# Seen with: openlineage-dbt 1.54.0, dbt-core 1.11.16, dbt-duckdb 1.10.1, Python 3.11. Prints the inputs, the
# warehouse's tables, then "as described".
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
echo "{{ config(materialized='table') }} select 1 as id" > models/orders.sql
echo "{{ config(materialized='ephemeral') }} select * from {{ ref('orders') }}" > models/paid.sql
echo "{{ config(materialized='table') }} select * from {{ ref('paid') }}" > models/sales.sql
cat > openlineage.yml <<'YAML'
transport: {type: file, log_file_path: events.jsonl, append: true}
YAML
PATH="$PWD/venv/bin:$PATH" OPENLINEAGE_CONFIG=openlineage.yml dbt-ol run > dbt.log 2>&1

cat > check.py <<'PYTHON'
import json
import duckdb

events = map(json.loads, open("events.jsonl"))
ended = (event for event in events if event["eventType"] == "COMPLETE")
(sales,) = (event for event in ended if [dataset["name"] for dataset in event["outputs"]] == ["shop.main.sales"])
inputs = [dataset["name"] for dataset in sales["inputs"]]
found = duckdb.connect("shop.duckdb").execute("select table_name from duckdb_tables() order by 1").fetchall()
tables = [name for (name,) in found]
print("inputs of sales:", inputs)
print("tables:", tables)
assert inputs == ["shop.main.paid"]
assert tables == ["orders", "sales"]
print("as described")
PYTHON
venv/bin/python check.py
