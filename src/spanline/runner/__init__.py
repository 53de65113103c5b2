"""What runs inside dbt's own interpreter: the standard library and dbt, nothing else.

The interpreter that runs dbt need not be the one that Spanline is installed in, so this package imports
nothing from outside itself: `__main__` loads it by its path. Spanline's side uses `writer`, `secrets` and `derived`
as well, so that there is one way to append to a journal, one idea of what a secret is, and one id of a span.
"""
