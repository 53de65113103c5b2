#!/usr/bin/env bash
# dbt-core 1.11.16: `dbt retry` of a run whose only failure is an on-run-end hook does nothing, and exits with 0.
#
# The failed hook makes `dbt build` exit with 1 and stands in run_results.json with status "error". `dbt retry` leaves
# hooks out of what it selects, finds nothing, says "Nothing to do" and succeeds: a scheduler that retries by it turns
# the job green, and the hook has not run.
#
# Seen with: dbt-core 1.11.16, dbt-duckdb 1.10.1, Python 3.11. Prints exit codes and results, then "as described".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'dbt-core==1.11.16' 'dbt-duckdb==1.10.1'

mkdir models
cat > dbt_project.yml <<'YAML'
name: hooked
version: "1.0"
profile: hooked
flags: {send_anonymous_usage_stats: false}
on-run-end: "insert into audit values (1)"
YAML
cat > profiles.yml <<'YAML'
hooked: {target: dev, outputs: {dev: {type: duckdb, path: hooked.duckdb}}}
YAML
echo "select 1 as id" > models/orders.sql

built=0
venv/bin/dbt build > build.log || built=$?
statuses=$(venv/bin/python -c '
import json
results = json.load(open("target/run_results.json"))["results"]
print({result["unique_id"].split(".")[0]: result["status"] for result in results})')
retried=0
venv/bin/dbt retry > retry.log || retried=$?
said=$(grep -o 'Nothing to do' retry.log || true)

echo "build: exit code $built, $statuses"
echo "retry: exit code $retried, $said"
[ "$built" -eq 1 ]
[ "$statuses" = "{'model': 'success', 'operation': 'error'}" ]
[ "$retried" -eq 0 ]
[ "$said" = "Nothing to do" ]
echo "as described"
