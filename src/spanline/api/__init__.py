"""Start a run, follow it, resume it; and the callback for those who call dbt themselves."""
