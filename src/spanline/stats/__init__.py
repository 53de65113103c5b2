"""Statistics over the journals of many runs, without any backend: what `spanline stats` says.

`places` finds the journals, `facts` takes from one what statistics need, `cache` keeps that so that each journal is
read once, `figures` asks DuckDB, `alerts` judges, `text` prints.
"""
