"""What runs inside dbt's own interpreter: the standard library and dbt, nothing else.

The interpreter that runs dbt need not be the one that Spanline is installed in, so this package imports
nothing from outside itself: `__main__` loads it by its path. Spanline's side uses `writer` and `secrets`
as well, so that there is one way to append to a journal and one idea of what a secret is.
"""
