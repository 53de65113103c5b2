"""Exit codes: dbt's, which are Spanline's too (https://docs.getdbt.com/reference/exit-codes), and a shell's."""

from __future__ import annotations

SUCCESS = 0
FAILURE = 1
"""Nodes failed."""
ERROR = 2
"""Anything else: dbt could not do what it was asked for, or did not come to an end."""
INTERRUPTED = 130
"""A shell's, of a process that SIGINT has ended."""
