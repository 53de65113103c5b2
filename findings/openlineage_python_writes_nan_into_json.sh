#!/usr/bin/env bash
# openlineage-python 1.54.0: an event with a column metric that isn't finite is sent as `NaN`, which is no JSON.
#
# The sum of a column of a warehouse may well be NaN or infinite: PostgreSQL, Snowflake and DuckDB have such numbers. The
# client's serializer writes them as Python's json does by default. RFC 8259 has no such words: strict parsers refuse the
# whole event, lineage included, with a 400 that a client doesn't repeat.
#
# Seen with: openlineage-python 1.54.0, msgspec 0.19.0 as the strict parser, Python 3.11. Prints the text, the parser's
# answer, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'openlineage-python==1.54.0' 'msgspec==0.19.0'

cat > metrics.py <<'PYTHON'
import msgspec
from openlineage.client.facet_v2 import data_quality_metrics_input_dataset as quality
from openlineage.client.serde import Serde

column = quality.ColumnMetrics(sum=float("nan"), max=float("inf"))
facet = quality.DataQualityMetricsInputDatasetFacet(rowCount=2, columnMetrics={"price": column})
text = Serde.to_json(facet)
print(text[text.index('"columnMetrics"') :])
assert '"max": Infinity' in text
assert '"sum": NaN' in text
try:
    msgspec.json.decode(text)
except msgspec.DecodeError as error:
    print("a strict parser:", error)
else:
    raise SystemExit("it is JSON")
print("as described")
PYTHON
venv/bin/python metrics.py
