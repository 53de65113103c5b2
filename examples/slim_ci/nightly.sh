#!/bin/sh
# Build all of production, and store what dbt leaves. Run it in the project; ARTIFACTS_URL says where to store.
set -eu
exec spanline --artifacts-url "$ARTIFACTS_URL" dbt build --target prod
