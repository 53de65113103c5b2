"""The adapters, a module for each package of dbt's (`ADAPTERS`): what their packages read, found by running them."""
