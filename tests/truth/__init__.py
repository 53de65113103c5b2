"""What the column lineage says, judged by the databases themselves on the queries of their own test suites.

    python -m tests.truth collect duckdb CHECKOUT --into duckdb.jsonl
    python -m tests.truth collect postgres CHECKOUT --into postgres.jsonl
    python -m tests.truth collect tpc CHECKOUT TPCH.duckdb TPCDS.duckdb --into tpc.jsonl
    python -m tests.truth collect clickbench CHECKOUT --into clickbench.jsonl
    python -m tests.truth judge duckdb.jsonl postgres.jsonl tpc.jsonl clickbench.jsonl

`collect` asks a database: the columns that it would create for each query, and which input columns change which of
them. It takes long, and is done once. `judge` holds the analysis against the answers, in seconds, and prints a table.
Not collected by pytest. Nothing of the suites is committed.
"""
