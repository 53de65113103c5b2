"""dbt v2 (the Fusion engine): a program, observed through the telemetry that it writes to a file as it goes.

Table of what its stream has for each event of the journal: docs/engines.md.
"""
