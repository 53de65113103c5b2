#!/usr/bin/env bash
# dbt-core 1.11.16: a seed's `1,5` becomes 15, `5%` becomes 5, `$7` becomes 7 and `007` becomes 7. Nothing is said.
#
# dbt has agate find out the type of each column. Agate takes currency signs, a percent sign and commas away before it
# asks whether a text is a number, and dbt takes the column for an integer where all that is left are digits. A
# semicolon-separated file of a country that writes decimals with a comma loads without a warning, each price ten or a
# hundred times too high. It holds where an adapter inserts the values that agate read: dbt's default for seeds, and
# dbt-duckdb's with `fast: false` (its own way has DuckDB read the file, with these types, which is an error here).
#
# Seen with: dbt-core 1.11.16, dbt-duckdb 1.10.1, agate 1.9.1, Python 3.11. Prints each column, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'dbt-core==1.11.16' 'dbt-duckdb==1.10.1' 'agate==1.9.1'

mkdir seeds
cat > dbt_project.yml <<'YAML'
name: prices
version: "1.0"
profile: prices
flags: {send_anonymous_usage_stats: false}
seeds: {+fast: false, +delimiter: ";"}
YAML
cat > profiles.yml <<'YAML'
prices: {target: dev, outputs: {dev: {type: duckdb, path: prices.duckdb}}}
YAML
printf 'price;discount;fee;code\n1,5;5%%;$7;007\n2,75;10%%;$8;008\n' > seeds/menu.csv
venv/bin/dbt --quiet seed

cat > check.py <<'PYTHON'
import duckdb

table = duckdb.connect("prices.duckdb").execute("select * from menu")
types = {column[0]: str(column[1]) for column in table.description}
columns = dict(zip(types, zip(*table.fetchall())))
for name, values in columns.items():
    print(name, types[name], values)
assert columns == {"price": (15, 275), "discount": (5, 10), "fee": (7, 8), "code": (7, 8)}
print("as described")
PYTHON
venv/bin/python check.py
