#!/bin/sh
# Build what a change touches, and what depends on it, on top of what production has built. Run it in the project.
set -eu
spanline download --artifacts-url "$ARTIFACTS_URL" --dag coffee_shop --task build state
exec spanline dbt build --target ci --select state:modified+ --defer --state state
