"""dbt's artifacts."""
