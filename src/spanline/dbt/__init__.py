"""dbt from the outside: its interpreter, its arguments, projects, and result file."""
