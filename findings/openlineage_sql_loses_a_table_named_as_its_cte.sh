#!/usr/bin/env bash
# openlineage-sql 1.54.0: a table whose name is that of the CTE that reads it is no input, not even `raw.orders`.
#
# `with orders as (select * from raw.orders) …` is how dbt's own style guide has a model begin. The parser takes
# `raw.orders` for the CTE `orders`, whatever its schema, and tells no inputs and no error. With the CTE under another
# name the same statement has its input. In PostgreSQL, Snowflake and BigQuery alike.
#
# Seen with: openlineage-sql 1.54.0, Python 3.11. Prints the inputs that are found, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'openlineage-sql==1.54.0'

cat > inputs.py <<'PYTHON'
from openlineage_sql import parse

def inputs(cte, dialect):
    found = parse([f"create table daily as with {cte} as (select * from raw.orders) select * from {cte}"], dialect)
    assert not found.errors
    return [str(table) for table in found.in_tables]

for dialect in ("postgres", "snowflake", "bigquery"):
    seen = inputs("o", dialect), inputs("orders", dialect)
    print(f"{dialect}: with o as …: {seen[0]}; with orders as …: {seen[1]}")
    assert seen == (["raw.orders"], [])
print("as described")
PYTHON
venv/bin/python inputs.py
