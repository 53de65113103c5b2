"""What dbt's nodes are called in OpenLineage: names of datasets and jobs."""
