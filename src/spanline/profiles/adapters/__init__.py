"""The adapters, one module per dbt package (`ADAPTERS`): the fields that each package reads, found by running it."""
