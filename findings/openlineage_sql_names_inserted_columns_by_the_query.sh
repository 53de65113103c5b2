#!/usr/bin/env bash
# openlineage-sql 1.54.0: `insert into t (total) select amount …` tells lineage of a column t.amount, which isn't there.
#
# The list of columns that an INSERT names is left out: the columns that are written get the names of the query's.
# Where both lists hold the same names in another order, each column is given the other's source.
#
# Seen with: openlineage-sql 1.54.0, Python 3.11. Prints the lineage of two statements, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'openlineage-sql==1.54.0'

cat > columns.py <<'PYTHON'
from openlineage_sql import parse

def lineage(statement):
    found = parse([statement], "postgres")
    assert not found.errors
    return {column.descendant.name: [source.name for source in column.lineage] for column in found.column_lineage}

renamed = lineage("insert into sales (id, total) select p.id, p.amount from payments p")
swapped = lineage("insert into sales (gross, net) select p.net, p.gross from payments p")
print("(id, total) from id, amount:", renamed)
print("(gross, net) from net, gross:", swapped)
assert renamed == {"id": ["id"], "amount": ["amount"]}
assert swapped == {"net": ["net"], "gross": ["gross"]}
print("as described")
PYTHON
venv/bin/python columns.py
